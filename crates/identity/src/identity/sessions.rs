//! From login to logout.

use chrono::Utc;
use daybook_core::{Actor, Role};
use daybook_dispatch::Request;
use uuid::Uuid;

use super::Identity;
use crate::account::Account;
use crate::commands::{EndSession, StartSession};
use crate::session::{EndReason, Session};
use crate::signing_keys::millis;
use crate::store::StoredToken;
use crate::{IdentityError, Login, Logout, Refresh, Secret, Tokens, refresh_token};

/// Somebody whose access token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Who, with the roles that they have now.
    pub actor: Actor,
    /// The session that the token belongs to.
    pub session: Uuid,
}

impl Identity {
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
    /// One that comes a second time gets none. From the same client (address and user agent) within
    /// [`refresh_grace`](crate::Settings::refresh_grace), two of its requests have crossed: the first was answered, and
    /// the session goes on. Otherwise somebody has a copy, and the session ends.
    ///
    /// # Errors
    ///
    /// [`IdentityError::InvalidToken`]; when a store is away.
    pub async fn refresh(&self, refresh: Refresh, request: &Request) -> Result<Tokens, IdentityError> {
        // In a task of its own: a client that goes away must not leave a transaction open half-way.
        let (identity, request) = (self.clone(), request.clone());
        let refreshed = tokio::spawn(async move { identity.refresh_to_the_end(refresh, &request).await });
        refreshed.await.unwrap_or_else(|error| Err(IdentityError::Internal(error.to_string())))
    }

    async fn refresh_to_the_end(&self, refresh: Refresh, request: &Request) -> Result<Tokens, IdentityError> {
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
            if session.ended() || account.is_closed() {
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
        let verified = self.inner.access_tokens.verify(&self.inner.signing_keys.known(), bearer)?;
        let roles = self.inner.revocations.judge(&verified)?;
        Ok(Authenticated {
            actor: Actor::Account { id: verified.account_id, roles },
            session: verified.session_id,
        })
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
            access_token: access_tokens.issue(&self.inner.signing_keys.known(), account_id, session_id, roles)?,
            token_type: "Bearer",
            expires_in: access_tokens.lifetime_s(),
            refresh_token: refresh_token.expose().to_owned(),
        })
    }

    /// What tells a client from another, as a digest: nobody needs to read from it which client it was.
    fn client(&self, request: &Request) -> [u8; 32] {
        let part = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        self.inner
            .keys
            .digests()
            .digest("refresh.client", &[&part(&request.client_ip), &part(&request.user_agent)])
    }
}

/// The same request, with an actor that is known by now. Its idempotency key and precondition are about the endpoint,
/// not about the commands that it takes.
fn on_behalf(actor: Actor, request: &Request) -> Request {
    Request { actor, idempotency_key: None, if_match: None, ..request.clone() }
}
