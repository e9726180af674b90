//! The handle: accounts, sessions and tokens.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use daybook_core::{
    AccountOpened, Actor, Aggregate, AnyCommand, Command, Decision, EventSet, Receipt, Rejection, Role, StreamId,
};
use daybook_database::Database;
use daybook_dispatch::{DispatchError, Dispatcher, KeyedDigest, Request};
use daybook_log::{EventFilter, Log, LogError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::access_token::AccessTokens;
use crate::account::Account;
use crate::bodies::{normalized, validate, validate_password};
use crate::commands::{
    ChangePassword, EMAIL_CLAIM, EndSession, GrantRole, RegisterAccount, RevokeRole, StartSession,
};
use crate::passwords::Passwords;
use crate::revocations::Revocations;
use crate::secrets::millis;
use crate::session::{EndReason, Session};
use crate::store::{Store, StoredToken};
use crate::{
    IdentityError, Login, Logout, Refresh, Registration, Secret, Secrets, Settings, Tokens, refresh_token,
};

/// Somebody whose access token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Who, with the roles that they have now.
    pub actor: Actor,
    /// The session that the token belongs to.
    pub session: Uuid,
}

/// An account that is opened for somebody.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The e-mail address to sign in with.
    pub email: String,
    /// The holder's name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What it is trusted with, besides [`Role::Customer`].
    pub roles: Vec<Role>,
}

/// Accounts, sessions and tokens. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    log: Log,
    dispatcher: Dispatcher,
    secrets: Secrets,
    passwords: Passwords,
    access_tokens: AccessTokens,
    revocations: Arc<Revocations>,
    on_opened: fn(&AccountOpened) -> Decision,
    settings: Settings,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Identity {
    /// Starts on a database whose `keys` schema is migrated: reads the newest revocations and begins to follow the log
    /// for more. `on_opened` says what the domain adds when an account is opened.
    ///
    /// # Errors
    ///
    /// When the database or the log is away.
    pub async fn start(
        database: Database,
        log: Log,
        dispatcher: Dispatcher,
        secrets: Secrets,
        on_opened: fn(&AccountOpened) -> Decision,
        settings: Settings,
    ) -> Result<Self, IdentityError> {
        let passwords = Passwords::start(&settings).await?;
        let revocations = Arc::new(Revocations::read(&log, &settings).await?);
        let store = Store::new(database);
        let stop = watch::Sender::new(false);
        let tasks = vec![
            tokio::spawn(revocations.clone().follow(log.clone(), stop.subscribe(), settings.follow_interval)),
            tokio::spawn(keep_up(secrets.clone(), store.clone(), stop.subscribe())),
        ];
        let inner = Inner {
            access_tokens: AccessTokens::new(&settings),
            tasks: Mutex::new(tasks),
            store,
            log,
            dispatcher,
            secrets,
            passwords,
            revocations,
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

    /// Opens an account with the role [`Role::Customer`], and answers its id.
    ///
    /// # Errors
    ///
    /// The rejection `email_taken`; [`IdentityError::Busy`]; when a store is away.
    pub async fn register(&self, registration: Registration, request: &Request) -> Result<Uuid, IdentityError> {
        self.open_account(&registration, &[], request).await
    }

    /// Opens an account for somebody, with further roles.
    ///
    /// # Errors
    ///
    /// As [`register`](Self::register), and [`IdentityError::Invalid`].
    pub async fn create_account(&self, account: NewAccount, request: &Request) -> Result<Uuid, IdentityError> {
        let NewAccount { email, name, password, roles } = account;
        let registration = Registration { email: email.trim().into(), password, name };
        validate(&registration)?;
        self.open_account(&registration, &roles, request).await
    }

    /// Gives an account another password.
    ///
    /// The event comes first: after a crash in between, the old password still works and the log says more than what
    /// happened, never less.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Invalid`]; the rejection `not_found`; a denial; [`IdentityError::Busy`]; when a store is away.
    pub async fn set_password(
        &self,
        account_id: Uuid,
        password: Secret,
        request: &Request,
    ) -> Result<(), IdentityError> {
        validate_password(&password)?;
        let hash = self.inner.passwords.hash(&password).await?;
        self.run(&ChangePassword { account_id }, request).await?;
        self.inner.store.put_credential(account_id, &hash, Utc::now().timestamp_millis()).await
    }

    /// The password is stored before the account is opened: a crash in between leaves a password without an account,
    /// which nobody can use, and never an account without a password.
    async fn open_account(
        &self,
        registration: &Registration,
        roles: &[Role],
        request: &Request,
    ) -> Result<Uuid, IdentityError> {
        let account_id = Uuid::now_v7();
        let hash = self.inner.passwords.hash(&registration.password).await?;
        self.inner.store.put_credential(account_id, &hash, Utc::now().timestamp_millis()).await?;
        let command = RegisterAccount {
            account_id,
            email: registration.email.trim(),
            name: &registration.name,
            roles,
            email_key: &self.email_key(&registration.email),
            on_opened: self.inner.on_opened,
        };
        let dispatcher = &self.inner.dispatcher;
        let result = dispatcher.run(RegisterAccount::NAME, RegisterAccount::ACCESS, &command, request).await;
        // A repeated request gets the receipt of the first one, whose password is stored under the first one's id.
        let opened = match &result {
            Ok(receipt) => receipt.id == account_id.to_string(),
            Err(DispatchError::Log(LogError::Unknown)) => true,
            Err(_) => false,
        };
        if !opened && let Err(error) = self.inner.store.delete_credential(account_id).await {
            tracing::warn!(%error, "a password without an account was left behind");
        }
        let receipt = result?;
        receipt.id.parse().map_err(|_| IdentityError::Internal(format!("`{}` is no account's id", receipt.id)))
    }

    /// The account with this e-mail address.
    ///
    /// # Errors
    ///
    /// When the log is away.
    pub async fn find_by_email(&self, email: &str) -> Result<Option<Uuid>, IdentityError> {
        let Some(holder) = self.inner.log.claim_holder(EMAIL_CLAIM, &self.email_key(email)).await? else {
            return Ok(None);
        };
        let id = holder.id().parse().map_err(|_| IdentityError::Internal(format!("`{holder}` is no account")))?;
        Ok(Some(id))
    }

    /// Trusts the account with this e-mail address with a role. When this returns, the role holds in this process.
    ///
    /// # Errors
    ///
    /// The rejection `not_found`; a denial; when a store is away.
    pub async fn grant(&self, email: &str, role: Role, request: &Request) -> Result<(), IdentityError> {
        let account_id = self.find_by_email(email).await?.ok_or_else(|| Rejection::not_found("account"))?;
        let receipt = self.run(&GrantRole { account_id, role }, request).await?;
        self.inner.revocations.reach(receipt.position).await
    }

    /// Takes a role from the account with this e-mail address. When this returns, the role is gone in this process.
    ///
    /// # Errors
    ///
    /// As [`grant`](Self::grant).
    pub async fn revoke(&self, email: &str, role: Role, request: &Request) -> Result<(), IdentityError> {
        let account_id = self.find_by_email(email).await?.ok_or_else(|| Rejection::not_found("account"))?;
        let receipt = self.run(&RevokeRole { account_id, role }, request).await?;
        self.inner.revocations.reach(receipt.position).await
    }

    /// Starts a session.
    ///
    /// An unknown e-mail address and a wrong password get the same answer after the same work.
    ///
    /// # Errors
    ///
    /// [`IdentityError::InvalidCredentials`]; [`IdentityError::Busy`]; when a store is away.
    pub async fn login(&self, login: Login, request: &Request) -> Result<Tokens, IdentityError> {
        let found = self.find_by_email(&login.email).await?;
        // Also asked when there is no account, since what is not asked takes no time.
        let stored = self.inner.store.password_hash(found.unwrap_or_default()).await?;
        let compared = self.inner.passwords.compare(&login.password, stored.clone()).await?;
        let (Some(account_id), true) = (found, compared.matches) else {
            return Err(IdentityError::InvalidCredentials);
        };
        if let (true, Some(old)) = (compared.outdated, stored) {
            self.rehash(account_id, &login.password, &old).await;
        }
        let account: Account = self.load(account_id).await?.ok_or(IdentityError::InvalidCredentials)?;
        let session_id = Uuid::now_v7();
        let actor = Actor::Account { id: account_id, roles: account.roles() };
        self.run(&StartSession { session_id, account_id }, &on_behalf(actor, request)).await?;

        let refresh_token = refresh_token::generate()?;
        let hash = refresh_token::hash(&refresh_token).ok_or(IdentityError::InvalidToken)?;
        let token = self.new_token(session_id, account_id, Utc::now().timestamp_millis());
        self.inner.store.insert_refresh_token(&hash, &token).await?;
        self.tokens(account_id, session_id, account.roles(), refresh_token)
    }

    /// Brings a hash to today's cost. The login does not depend on it.
    async fn rehash(&self, account_id: Uuid, password: &Secret, old: &str) {
        let rehashed = async {
            let new = self.inner.passwords.hash(password).await?;
            self.inner.store.replace_hash(account_id, old, &new).await
        };
        if let Err(error) = rehashed.await {
            tracing::warn!(%error, "an outdated password hash stays for now");
        }
    }

    /// Gives new tokens for a refresh token, which is used up by it.
    ///
    /// One that comes a second time gets none. Within [`Settings::refresh_grace`] from the same client (address and
    /// user agent), two of its requests have crossed: the first was answered, the session goes on. Otherwise somebody
    /// has a copy, and the session ends.
    ///
    /// # Errors
    ///
    /// [`IdentityError::InvalidToken`]; when a store is away.
    pub async fn refresh(&self, refresh: Refresh, request: &Request) -> Result<Tokens, IdentityError> {
        let store = &self.inner.store;
        let hash = refresh_token::hash(&refresh.refresh_token).ok_or(IdentityError::InvalidToken)?;
        let client = self.client(request);
        let now_ms = Utc::now().timestamp_millis();
        let mut stored = store.refresh_token(&hash).await?.ok_or(IdentityError::InvalidToken)?;
        if stored.used.is_none() {
            let (session_id, account_id) = (stored.session_id, stored.account_id);
            // The log is what says whether a session lives; the table may be behind it.
            let session: Session = self.load(session_id).await?.ok_or(IdentityError::InvalidToken)?;
            let account: Account = self.load(account_id).await?.ok_or(IdentityError::InvalidToken)?;
            if session.ended() {
                return Err(IdentityError::InvalidToken);
            }
            let next = refresh_token::generate()?;
            let next_hash = refresh_token::hash(&next).ok_or(IdentityError::InvalidToken)?;
            let next_token = self.new_token(session_id, account_id, now_ms);
            if store.rotate_refresh_token(&hash, now_ms, &client, &next_hash, &next_token).await? {
                return self.tokens(account_id, session_id, account.roles(), next);
            }
            stored = store.refresh_token(&hash).await?.ok_or(IdentityError::InvalidToken)?;
        }
        if let Some((used_at_ms, used_by)) = &stored.used {
            let crossed =
                now_ms - used_at_ms <= millis(self.inner.settings.refresh_grace) && used_by[..] == client;
            if !crossed {
                tracing::warn!(session = %stored.session_id, "a refresh token was used twice: its session ends");
                let request = on_behalf(Actor::System("identity"), request);
                self.end_session(stored.session_id, EndReason::Reused, &request).await?;
            }
        }
        Err(IdentityError::InvalidToken)
    }

    /// Ends the session of a refresh token. When this returns, none of its tokens is good in this process. A token that
    /// is unknown has nothing to end, which is no error (RFC 7009, section 2.2).
    ///
    /// # Errors
    ///
    /// When a store is away.
    pub async fn logout(&self, logout: Logout, request: &Request) -> Result<(), IdentityError> {
        let Some(hash) = refresh_token::hash(&logout.refresh_token) else { return Ok(()) };
        let Some(stored) = self.inner.store.refresh_token(&hash).await? else { return Ok(()) };
        let actor = Actor::Account { id: stored.account_id, roles: vec![Role::Customer] };
        self.end_session(stored.session_id, EndReason::Logout, &on_behalf(actor, request)).await
    }

    async fn end_session(
        &self,
        session_id: Uuid,
        reason: EndReason,
        request: &Request,
    ) -> Result<(), IdentityError> {
        self.run(&EndSession { session_id, reason }, request).await?;
        self.inner.revocations.ended(session_id);
        self.inner.store.delete_refresh_tokens(session_id).await
    }

    /// Who sent an access token.
    ///
    /// # Errors
    ///
    /// [`IdentityError::InvalidToken`]; [`IdentityError::Unavailable`] while this process does not know the newest
    /// revocations.
    pub fn authenticate(&self, bearer: &str) -> Result<Authenticated, IdentityError> {
        let verified = self.inner.access_tokens.verify(&self.inner.secrets.keys(), bearer)?;
        let roles = self.inner.revocations.judge(&verified)?;
        Ok(Authenticated {
            actor: Actor::Account { id: verified.account_id, roles },
            session: verified.session_id,
        })
    }

    /// The public keys that access tokens are verified with, as a JWK set.
    pub fn jwks(&self) -> Value {
        self.inner.secrets.keys().jwks(Utc::now().timestamp_millis())
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
                if let Some(event) = A::Event::decode(record).map_err(LogError::from)? {
                    state.get_or_insert_default().apply(&event);
                }
            }
            let Some(next) = page.next else { return Ok(state) };
            filter.after = next;
        }
    }

    fn new_token(&self, session_id: Uuid, account_id: Uuid, now_ms: i64) -> StoredToken {
        let expires_at_ms = now_ms.saturating_add(millis(self.inner.settings.refresh_lifetime));
        StoredToken { session_id, account_id, expires_at_ms, used: None }
    }

    fn tokens(
        &self,
        account_id: Uuid,
        session_id: Uuid,
        roles: Vec<Role>,
        refresh_token: Secret,
    ) -> Result<Tokens, IdentityError> {
        let access_tokens = &self.inner.access_tokens;
        Ok(Tokens {
            access_token: access_tokens.issue(&self.inner.secrets.keys(), account_id, session_id, roles)?,
            token_type: "Bearer",
            expires_in: access_tokens.lifetime_s(),
            refresh_token: refresh_token.expose().to_owned(),
        })
    }

    fn email_key(&self, email: &str) -> String {
        hex::encode(self.inner.secrets.digest(EMAIL_CLAIM, &[normalized(email).as_bytes()]))
    }

    /// What tells a client from another, as a digest: nobody needs to read from it which client it was.
    fn client(&self, request: &Request) -> [u8; 32] {
        let part = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        self.inner.secrets.digest("refresh.client", &[&part(&request.client_ip), &part(&request.user_agent)])
    }
}

/// The same request, with an actor that is known by now. Its idempotency key and precondition are about the endpoint,
/// not about the commands that it takes.
fn on_behalf(actor: Actor, request: &Request) -> Request {
    Request { actor, idempotency_key: None, if_match: None, ..request.clone() }
}

/// Looks for new signing keys and throws expired refresh tokens away, until `stop` says so or is gone.
async fn keep_up(secrets: Secrets, store: Store, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(Secrets::RELOAD_INTERVAL) => {}
        }
        let kept_up = async {
            secrets.reload().await?;
            store.delete_expired_refresh_tokens(Utc::now().timestamp_millis()).await
        };
        if let Err(error) = kept_up.await {
            tracing::warn!(%error, "cannot reload the signing keys");
        }
    }
}
