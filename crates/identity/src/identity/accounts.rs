//! Opening accounts, and changing what they are trusted with.

use chrono::Utc;
use daybook_core::{Rejection, Role, account_subject};
use daybook_dispatch::{DispatchError, Request};
use daybook_log::LogError;
use uuid::Uuid;

use super::Identity;
use crate::bodies::{normalized, validate, validate_password};
use crate::commands::{ChangePassword, EMAIL_CLAIM, GrantRole, RegisterAccount, RevokeRole};
use crate::{IdentityError, Registration, Secret};

/// An account that is opened for somebody.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// The e-mail address to sign in with.
    pub email: String,
    /// The holder's name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What it is trusted with.
    pub roles: Vec<Role>,
}

impl Identity {
    /// Opens an account with the role [`Role::Customer`], and answers its id.
    ///
    /// # Errors
    ///
    /// The rejection `email_taken`; [`IdentityError::Busy`]; when a store is away.
    pub async fn register(&self, registration: Registration, request: &Request) -> Result<Uuid, IdentityError> {
        self.open_account(&registration, &[Role::Customer], request).await
    }

    /// Opens an account for somebody, with the roles named.
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
        self.inner.store.set_password_hash(account_id, &hash, Utc::now().timestamp_millis()).await
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
        let email_key = self.email_key(&registration.email);
        let now_ms = Utc::now().timestamp_millis();
        self.inner.store.insert_credential(account_id, &email_key, &hash, now_ms).await?;
        let command = RegisterAccount {
            account_id,
            email: registration.email.trim(),
            name: &registration.name,
            roles,
            email_key: &email_key,
            on_opened: self.inner.on_opened,
        };
        let request = Request { about: Some(account_id), ..request.clone() };
        let dispatcher = &self.inner.dispatcher;
        let result = dispatcher.run(RegisterAccount::NAME, RegisterAccount::ACCESS, &command, &request).await;
        // A repeated request gets the receipt of the first one, whose password is stored under the first one's id.
        let opened = match &result {
            Ok(receipt) => receipt.id == account_id.to_string(),
            Err(DispatchError::Log(LogError::Unknown)) => true,
            Err(_) => false,
        };
        if !opened && let Err(error) = self.take_back(account_id).await {
            tracing::warn!(%error, "a password or a key without an account was left behind");
        }
        let receipt = result?;
        receipt.id.parse().map_err(|_| IdentityError::Internal(format!("`{}` is no account's id", receipt.id)))
    }

    /// Leaves nothing of an account that was never opened: nobody would ever ask to forget it.
    async fn take_back(&self, account_id: Uuid) -> Result<(), IdentityError> {
        self.inner.store.delete_credential(account_id).await?;
        Ok(self.inner.keys.discard(&account_subject(account_id)).await?)
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

    /// The key of an e-mail address's claim.
    pub(super) fn email_key(&self, email: &str) -> String {
        hex::encode(self.inner.keys.digests().digest(EMAIL_CLAIM, &[normalized(email).as_bytes()]))
    }
}
