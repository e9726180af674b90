//! What is done to accounts and sessions. These commands have no endpoint of their own: [`crate::Identity`] sends
//! them, on the same way as everybody's.

use daybook_core::{
    Access, AccountOpened, AnyCommand, Command, Context, Decision, Entity, Loaded, NotLoaded, Outcome, Personal,
    Reads, Rejection, Role, StreamId, Aggregate,
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{Account, AccountRegistered, AccountRoleGranted, AccountRoleRevoked};
use crate::session::{EndReason, Session, SessionEnded, SessionStarted};

/// The claim that keeps e-mail addresses apart. Its key is a keyed digest, so that the log holds no address.
pub(crate) const EMAIL_CLAIM: &str = "account.email";

/// Opens an account. Its id is drawn before the command is sent, since its password is stored before.
pub(crate) struct RegisterAccount<'a> {
    pub(crate) account_id: Uuid,
    pub(crate) email: &'a str,
    pub(crate) name: &'a str,
    /// The roles that it starts with, besides [`Role::Customer`].
    pub(crate) roles: &'a [Role],
    /// The key of its [`EMAIL_CLAIM`].
    pub(crate) email_key: &'a str,
    /// What the domain adds.
    pub(crate) on_opened: fn(&AccountOpened) -> Decision,
}

impl RegisterAccount<'_> {
    pub(crate) const NAME: &'static str = "account.register";
    pub(crate) const ACCESS: Access = Access::anyone();
}

/// By hand and not as a [`Command`], because the domain's share of the decision is no part of its JSON.
impl AnyCommand for RegisterAccount<'_> {
    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Account::CATEGORY, self.account_id)
    }

    fn decide(&self, _: &Loaded, _: &Context) -> Outcome {
        let account = Entity::<Account>::absent(self.account_id);
        let personal = |value: &str| Personal::new(account.stream().as_str(), value.to_owned());
        let (email, name) = (personal(self.email), personal(self.name));
        let taken = Rejection::conflict("email_taken", "There is an account with this e-mail address already.");
        let mut decision = Decision::new()
            .emit(&account, AccountRegistered { email: email.clone(), name: name.clone() })
            .claim(&account, EMAIL_CLAIM, self.email_key, taken.field("email"));
        for role in self.roles.iter().copied().filter(|role| *role != Role::Customer) {
            decision = decision.emit(&account, AccountRoleGranted { role });
        }
        let opened = AccountOpened { account_id: self.account_id, email, name };
        Outcome::Decided(decision.and((self.on_opened)(&opened)), Vec::new())
    }

    /// Without the id, which differs each time, and without the password, of which not even a keyed digest may be
    /// in the log.
    fn canonical(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&(self.email, self.name, self.roles))
    }
}

/// Trusts an account with a role.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub(crate) struct GrantRole {
    pub(crate) account_id: Uuid,
    pub(crate) role: Role,
}

impl Command for GrantRole {
    const NAME: &'static str = "account.grant_role";
    const ACCESS: Access = Access::roles(&[Role::Admin]);
    type Model = Entity<Account>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Account::CATEGORY, self.account_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(self.account_id)
    }

    fn handle(&self, account: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let account = known(account)?;
        Ok(match account.has(self.role) {
            true => Decision::new(),
            false => Decision::new().emit(account, AccountRoleGranted { role: self.role }),
        })
    }
}

/// Takes a role from an account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub(crate) struct RevokeRole {
    pub(crate) account_id: Uuid,
    pub(crate) role: Role,
}

impl Command for RevokeRole {
    const NAME: &'static str = "account.revoke_role";
    const ACCESS: Access = Access::roles(&[Role::Admin]);
    type Model = Entity<Account>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Account::CATEGORY, self.account_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(self.account_id)
    }

    fn handle(&self, account: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let account = known(account)?;
        Ok(match account.has(self.role) {
            true => Decision::new().emit(account, AccountRoleRevoked { role: self.role }),
            false => Decision::new(),
        })
    }
}

/// Starts a session of an account whose password was just proved.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub(crate) struct StartSession {
    pub(crate) session_id: Uuid,
    pub(crate) account_id: Uuid,
}

impl Command for StartSession {
    const NAME: &'static str = "session.start";
    const ACCESS: Access = Access::signed_in();
    type Model = (Entity<Session>, Entity<Account>);

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Session::CATEGORY, self.session_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        Ok((Entity::absent(self.session_id), reads.get(self.account_id)?))
    }

    fn handle(&self, (session, account): &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        known(account)?;
        Ok(Decision::new().emit(session, SessionStarted { account_id: self.account_id }))
    }
}

/// Ends a session.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub(crate) struct EndSession {
    pub(crate) session_id: Uuid,
    pub(crate) reason: EndReason,
}

impl Command for EndSession {
    const NAME: &'static str = "session.end";
    const ACCESS: Access = Access::owner_or(&[Role::Admin]);
    type Model = Entity<Session>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Session::CATEGORY, self.session_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(self.session_id)
    }

    fn owner(&self, session: &Self::Model, _: &Context) -> Option<Uuid> {
        session.account_id()
    }

    fn handle(&self, session: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        if !session.exists() {
            return Err(Rejection::not_found("session"));
        }
        Ok(match session.ended() {
            true => Decision::new(),
            false => Decision::new().emit(session, SessionEnded { reason: self.reason }),
        })
    }
}

fn known(account: &Entity<Account>) -> Result<&Entity<Account>, Rejection> {
    if account.exists() { Ok(account) } else { Err(Rejection::not_found("account")) }
}
