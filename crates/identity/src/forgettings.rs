//! Carrying out that somebody was forgotten.
//!
//! Whoever decides it appends `daybook.subject.forgotten`; what follows from that is done here, by every process, since
//! each holds keys in memory, and whoever decided may have gone away before it was done: the key is deleted, the account
//! is closed, its credentials go. All of it can be done again without harm.
//!
//! How far the log was read for this is kept beside the keys. Keys that come back from a backup bring that back too, and
//! so are deleted again before the process serves anybody. In a log that was rolled back it names what is not there, and
//! everything is carried out again.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use daybook_core::{Aggregate, Command, EventSet, Position, RecordedEvent, SubjectEvent, account_of_subject};
use daybook_dispatch::{Dispatcher, Request};
use daybook_keys::Keys;
use daybook_log::{Checkpoint, EventFilter, HistoryError, Log, LogError};
use tokio::sync::watch;

use crate::IdentityError;
use crate::account::Account;
use crate::commands::CloseAccount;
use crate::revocations::Revocations;
use crate::store::Store;

/// How many events are read at a time.
const PAGE: usize = 1_000;

/// How often to look after what does not come with an event: past days, the checkpoint, what could not be done before.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long to wait after something could not be done.
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out that somebody was forgotten.
pub(crate) struct Forgettings {
    log: Log,
    keys: Keys,
    store: Store,
    dispatcher: Dispatcher,
    revocations: Arc<Revocations>,
    /// Everything up to here was carried out.
    done: watch::Sender<Checkpoint>,
}

impl Forgettings {
    /// Carries out everything up to the end of the log.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Internal`] when the keys are not the log's own; when a store is away.
    pub(crate) async fn start(
        log: Log,
        keys: Keys,
        store: Store,
        dispatcher: Dispatcher,
        revocations: Arc<Revocations>,
    ) -> Result<Self, IdentityError> {
        let before = carried_out(&log, &store).await?;
        let reached = *revocations.reached().borrow();
        let forgettings = Self { log, keys, store, dispatcher, revocations, done: watch::Sender::new(reached) };
        forgettings.catch_up(before.map_or(Position::START, |before| before.position)).await?;
        for checkpoint in before.iter().chain([&reached]) {
            forgettings.log.check(checkpoint).await?;
        }
        forgettings.store.put_forgettings_checkpoint(&reached).await?;
        Ok(forgettings)
    }

    /// Where everything was carried out up to.
    pub(crate) fn done(&self) -> watch::Receiver<Checkpoint> {
        self.done.subscribe()
    }

    /// Goes on until `stop` says so or is gone.
    pub(crate) async fn follow(self, mut stop: watch::Receiver<bool>) {
        let mut reached = self.revocations.reached();
        // What came since the start.
        reached.mark_changed();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            let tick = tokio::select! {
                _ = stop.changed() => return,
                _ = reached.changed() => false,
                _ = ticks.tick() => true,
            };
            let to = *reached.borrow_and_update();
            if let Err(error) = self.step(to, tick).await {
                tracing::warn!(%error, "cannot carry out yet that somebody was forgotten");
                tokio::select! {
                    _ = stop.changed() => return,
                    () = tokio::time::sleep(PAUSE) => reached.mark_changed(),
                }
            }
        }
    }

    /// Carries out what is to be done up to where revocations were taken in. That goes on from what was done before, since
    /// revocations are read on in one history only.
    async fn step(&self, reached: Checkpoint, tick: bool) -> Result<(), IdentityError> {
        let done = *self.done.borrow();
        let some = self.revocations.newest_forgotten() > done.position;
        if some {
            self.catch_up(done.position).await?;
            self.log.check(&reached).await?;
        }
        if tick {
            self.keys.forget_days(Utc::now()).await?;
        }
        if some || tick {
            self.keys.scrub().await?;
            self.store.put_forgettings_checkpoint(&reached).await?;
        }
        self.done.send_if_modified(|before| std::mem::replace(before, reached) != reached);
        Ok(())
    }

    /// Carries out everything behind a position, up to the end of the log.
    async fn catch_up(&self, after: Position) -> Result<(), IdentityError> {
        let mut filter = EventFilter { after, of_people: true, ..EventFilter::default() };
        loop {
            let page = self.log.find(&filter, PAGE).await?;
            let of_subjects = page.events.iter().filter(|event| event.stream.category() == SubjectEvent::CATEGORY);
            for event in of_subjects {
                self.carry_out(event).await?;
            }
            let Some(next) = page.next else { return Ok(()) };
            filter.after = next;
        }
    }

    async fn carry_out(&self, event: &RecordedEvent) -> Result<(), IdentityError> {
        let forgotten = SubjectEvent::require(event).map_err(LogError::from)?;
        self.keys.forget(forgotten.subject()).await?;
        let Some(account_id) = account_of_subject(forgotten.subject()) else { return Ok(()) };
        // The credentials go last: they know which address the account has claimed.
        let email_key = self.store.email_key(account_id).await?;
        let close = CloseAccount { account_id, email_key };
        let request = Request { causation_id: Some(event.id), ..Request::system("identity") };
        self.dispatcher.run(CloseAccount::NAME, CloseAccount::ACCESS, &close, &request).await?;
        self.store.delete_refresh_tokens_of(account_id).await?;
        self.store.delete_credential(account_id).await
    }
}

/// What was carried out. Nothing, in a log that was restored.
async fn carried_out(log: &Log, store: &Store) -> Result<Option<Checkpoint>, IdentityError> {
    // Whoever opens an account has written a checkpoint before: an account that was there earlier than the look for a
    // checkpoint has one.
    let head = log.head().await?.position;
    let Some(checkpoint) = store.forgettings_checkpoint().await? else {
        return match has_accounts(log, head).await? {
            true => Err(IdentityError::Internal(
                "the log knows accounts, and the database of the keys has never seen it: it is another one, or was \
                 lost. Restore it, or name the right one with `keys_database_url`"
                    .into(),
            )),
            false => Ok(None),
        };
    };
    match log.check(&checkpoint).await {
        Ok(()) => Ok(Some(checkpoint)),
        Err(LogError::History(error @ HistoryError::OtherLog { .. })) => {
            Err(IdentityError::Internal(format!("the database of the keys belongs to another log: {error}")))
        }
        Err(LogError::History(error)) => {
            tracing::warn!(%error, "carrying out again that people were forgotten, from the beginning of the log");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an account was opened up to a position.
async fn has_accounts(log: &Log, through: Position) -> Result<bool, IdentityError> {
    let mut filter = EventFilter { of_people: true, ..EventFilter::default() };
    loop {
        let page = log.find(&filter, PAGE).await?;
        if let Some(first) = page.events.iter().find(|event| event.stream.category() == Account::CATEGORY) {
            return Ok(first.position <= through);
        }
        match page.next {
            Some(next) if next < through => filter.after = next,
            _ => return Ok(false),
        }
    }
}
