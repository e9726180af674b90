//! The handle: accounts, sessions and tokens.

mod accounts;
mod sessions;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use daybook_core::{
    AccountOpened, Aggregate, AnyCommand, Command, Decision, EventSet, Position, Receipt, StreamId,
};
use daybook_database::Database;
use daybook_dispatch::{Dispatcher, Request};
use daybook_keys::Keys;
use daybook_log::{Checkpoint, EventFilter, Log, LogError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::try_join;
use uuid::Uuid;

pub use accounts::NewAccount;
pub use sessions::Authenticated;

use crate::access_token::AccessTokens;
use crate::forgettings::Forgettings;
use crate::passwords::Passwords;
use crate::revocations::Revocations;
use crate::signing_keys::SigningKeys;
use crate::store::Store;
use crate::{IdentityError, Settings};

/// How long whoever has somebody forgotten waits until all of it is carried out.
const FORGET_TIMEOUT: Duration = Duration::from_secs(5);

/// Accounts, sessions and tokens. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    log: Log,
    dispatcher: Dispatcher,
    keys: Keys,
    signing_keys: SigningKeys,
    passwords: Passwords,
    access_tokens: AccessTokens,
    revocations: Arc<Revocations>,
    /// Up to where it was carried out that people were forgotten.
    forgotten: watch::Receiver<Checkpoint>,
    on_opened: fn(&AccountOpened) -> Decision,
    settings: Settings,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Identity {
    /// Starts on a database whose `keys` schema is migrated: reads the newest revocations, carries out that people were
    /// forgotten, and begins to follow the log for more. `on_opened` says what the domain adds when an account is opened.
    ///
    /// # Errors
    ///
    /// When the database or the log is away.
    pub async fn start(
        database: Database,
        log: Log,
        dispatcher: Dispatcher,
        keys: Keys,
        on_opened: fn(&AccountOpened) -> Decision,
        settings: Settings,
    ) -> Result<Self, IdentityError> {
        let passwords = Passwords::new(&settings)?;
        let (revocations, signing_keys) =
            try_join!(Revocations::read(&log, &settings), SigningKeys::open(keys.clone()))?;
        let revocations = Arc::new(revocations);
        let store = Store::new(database);
        let forgettings =
            Forgettings::start(log.clone(), keys.clone(), store.clone(), dispatcher.clone(), revocations.clone());
        let forgettings = forgettings.await?;
        let forgotten = forgettings.done();
        let stop = watch::Sender::new(false);
        let tasks = vec![
            tokio::spawn(forgettings.follow(stop.subscribe())),
            tokio::spawn(revocations.clone().follow(log.clone(), stop.subscribe(), settings.follow_interval)),
            tokio::spawn(keep_up(signing_keys.clone(), store.clone(), stop.subscribe())),
        ];
        let inner = Inner {
            access_tokens: AccessTokens::new(&settings),
            tasks: Mutex::new(tasks),
            store,
            log,
            dispatcher,
            keys,
            signing_keys,
            passwords,
            revocations,
            forgotten,
            on_opened,
            settings,
            stop,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stops following the log. Access tokens are soon refused with [`IdentityError::Unavailable`].
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // It only fails when the task panicked, which its own message told.
            let _ = task.await;
        }
    }

    /// Waits until it is carried out that everybody was forgotten who was up to a position: their tokens are good for
    /// nothing in this process, and their accounts are closed.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Unavailable`] when that takes too long. It is carried out later then.
    pub async fn forgotten(&self, position: Position) -> Result<(), IdentityError> {
        self.inner.revocations.reach(position).await?;
        let mut done = self.inner.forgotten.clone();
        match tokio::time::timeout(FORGET_TIMEOUT, done.wait_for(|done| done.position >= position)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(IdentityError::Unavailable("not everybody who is to be forgotten is yet".into()))
            }
        }
    }

    /// The public keys that access tokens are verified with, as a JWK set.
    pub fn jwks(&self) -> Value {
        self.inner.signing_keys.known().jwks(Utc::now().timestamp_millis())
    }

    /// Makes a new key to sign access tokens with. It takes over in two minutes, when every process knows it; the one
    /// before goes on verifying for `overlap` after that, which should be no less than an access token's lifetime.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn rotate_signing_key(&self, overlap: Duration) -> Result<(), IdentityError> {
        self.inner.signing_keys.rotate(overlap).await
    }

    async fn run<C: Command>(&self, command: &C, request: &Request) -> Result<Receipt, IdentityError> {
        let command: &dyn AnyCommand = command;
        Ok(self.inner.dispatcher.run(C::NAME, C::ACCESS, command, request).await?)
    }

    /// The state of an aggregate; `None` when there is no such stream.
    async fn load<A: Aggregate>(&self, id: Uuid) -> Result<Option<A>, IdentityError> {
        let stream = StreamId::new(A::CATEGORY, id);
        let mut filter = EventFilter { stream: Some(stream), ..EventFilter::default() };
        let mut state: Option<A> = None;
        loop {
            let page = self.inner.log.find(&filter, 1_000).await?;
            for record in &page.events {
                let event = A::Event::require(record).map_err(LogError::from)?;
                state.get_or_insert_default().apply(&event);
            }
            let Some(next) = page.next else { return Ok(state) };
            filter.after = next;
        }
    }
}

/// Looks for new signing keys and throws expired refresh tokens away, until `stop` says so or is gone.
async fn keep_up(signing_keys: SigningKeys, store: Store, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(SigningKeys::RELOAD_INTERVAL) => {}
        }
        let kept_up = async {
            signing_keys.reload().await?;
            store.delete_expired_refresh_tokens(Utc::now().timestamp_millis()).await
        };
        if let Err(error) = kept_up.await {
            tracing::warn!(%error, "cannot reload the signing keys");
        }
    }
}
