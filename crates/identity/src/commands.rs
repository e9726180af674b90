//! What is done to accounts and sessions. These commands have no endpoint of their own: [`crate::Identity`] sends
//! them, on the same way as everybody's.

use daybook_core::{
    Access, AccountOpened, Aggregate, AnyCommand, Command, Context, Decision, Entity, Judgement, NotLoaded,
    Outcome, Personal, Reads, Rejection, Role, States, StreamId,
};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{
    Account, AccountClosed, AccountPasswordChanged, AccountRegistered, AccountRoleGranted, AccountRoleRevoked,
};
use crate::session::{EndReason, Session, SessionEnded, SessionStarted};

/// The claim that keeps e-mail addresses apart. Its key is a keyed digest, so that the log holds no address.
pub(crate) const EMAIL_CLAIM: &str = "account.email";

/// Opens an account. Its id is drawn before the command is sent, since its password is stored before.
pub(crate) struct RegisterAccount<'a> {
    pub(crate) account_id: Uuid,
    pub(crate) email: &'a str,
    pub(crate) name: &'a str,
    /// The roles that it starts with.
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

    fn decide(&self, _: &dyn States, _: &Context) -> Outcome {
        let account = Entity::<Account>::absent(self.account_id);
        let personal = |value: &str| Personal::new(account.stream().as_str(), value.to_owned());
        let (email, name) = (personal(self.email), personal(self.name));
        let taken = Rejection::conflict("email_taken", "There is an account with this e-mail address already.");
        let roles = self.roles.to_vec();
        let decision = Decision::new()
            .emit(&account, AccountRegistered { email: email.clone(), name: name.clone(), roles })
            .claim(&account, EMAIL_CLAIM, self.email_key, taken.field("email"));
        let opened = AccountOpened { account_id: self.account_id, email, name };
        Outcome::Decided(Judgement::Accepted(decision.and((self.on_opened)(&opened))), Vec::new())
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

/// Writes down that an account gets another password.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub(crate) struct ChangePassword {
    pub(crate) account_id: Uuid,
}

impl Command for ChangePassword {
    const NAME: &'static str = "account.change_password";
    const ACCESS: Access = Access::owner_or(&[Role::Admin]);
    type Model = Entity<Account>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Account::CATEGORY, self.account_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(self.account_id)
    }

    fn owner(&self, _: &Self::Model, _: &Context) -> Option<Uuid> {
        Some(self.account_id)
    }

    fn handle(&self, account: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        Ok(Decision::new().emit(known(account)?, AccountPasswordChanged {}))
    }
}

/// Closes an account and gives its e-mail address back, since its holder was forgotten. Where there is none, or it is
/// closed already, nothing happens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub(crate) struct CloseAccount {
    pub(crate) account_id: Uuid,
    /// The key of its [`EMAIL_CLAIM`], as far as that is known.
    pub(crate) email_key: Option<String>,
}

impl Command for CloseAccount {
    const NAME: &'static str = "account.close";
    const ACCESS: Access = Access::roles(&[Role::Admin]);
    type Model = Entity<Account>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Account::CATEGORY, self.account_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(self.account_id)
    }

    fn handle(&self, account: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let Ok(account) = known(account) else { return Ok(Decision::new()) };
        let decision = Decision::new().emit(account, AccountClosed {});
        Ok(match &self.email_key {
            Some(key) => decision.release(account, EMAIL_CLAIM, key),
            None => decision,
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
    if account.exists() && !account.is_closed() { Ok(account) } else { Err(Rejection::not_found("account")) }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Actor, Loaded, Scenario, event};

    use super::*;
    use crate::account::AccountEvent;

    const ID: Uuid = Uuid::from_u128(1);
    const SESSION: Uuid = Uuid::from_u128(2);

    fn registered() -> AccountRegistered {
        let personal = |value: &str| Personal::new(StreamId::new("account", ID).as_str(), value.to_owned());
        let roles = vec![Role::Customer];
        AccountRegistered { email: personal("a@example.com"), name: personal("A"), roles }
    }

    fn customer(id: Uuid) -> Actor {
        Actor::Account { id, roles: vec![Role::Customer] }
    }

    fn register(roles: &[Role]) -> (Decision, String) {
        let command = RegisterAccount {
            account_id: ID,
            email: "a@example.com",
            name: "A",
            roles,
            email_key: "5ec2e7",
            on_opened: |opened| {
                let session = Entity::absent(opened.account_id);
                Decision::new().emit::<Session>(&session, SessionStarted { account_id: opened.account_id })
            },
        };
        let context = Context {
            actor: Actor::Anonymous,
            now: chrono::DateTime::UNIX_EPOCH,
            command_id: Uuid::from_u128(8),
            fresh_id: Uuid::from_u128(9),
        };
        match command.decide(&Loaded::default(), &context) {
            Outcome::Decided(Judgement::Accepted(decision), _) => (decision, command.canonical().expect("JSON")),
            other => panic!("no decision but {other:?}"),
        }
    }

    #[test]
    fn registering_opens_an_account_claims_its_address_and_adds_what_the_domain_wants() {
        let (decision, canonical) = register(&[]);
        let streams: Vec<_> = decision.events.iter().map(|new| new.stream.category()).collect();
        assert_eq!(streams, ["account", "session"]);
        assert_eq!(decision.expected.len(), 2, "both streams must be new");
        let [daybook_core::ClaimChange::Take { name, key, holder, taken }] = &decision.claims[..] else {
            panic!("not one claim: {:?}", decision.claims)
        };
        assert_eq!((*name, key.as_str(), holder), (EMAIL_CLAIM, "5ec2e7", &StreamId::new("account", ID)));
        assert_eq!((&*taken.code, taken.field.as_deref()), ("email_taken", Some("email")));
        assert!(!canonical.contains(&ID.to_string()), "a repeated registration must be the same body");
    }

    #[test]
    fn an_account_starts_with_the_roles_named_and_no_others() {
        let (decision, _) = register(&[Role::Staff, Role::Analyst]);
        let mut account = Account::default();
        let event = decision.events[0].event.as_any();
        account.apply(event.downcast_ref::<AccountEvent>().expect("the account's own event"));
        assert_eq!(account.roles(), [Role::Staff, Role::Analyst]);
    }

    #[test]
    fn a_role_is_granted_once() {
        let grant = || GrantRole { account_id: ID, role: Role::Staff };
        let given = || Scenario::new().given::<Account>(ID, [registered()]);
        given().when(grant()).then([event::<Account>(ID, AccountRoleGranted { role: Role::Staff })]);
        given().given::<Account>(ID, [AccountRoleGranted { role: Role::Staff }]).when(grant()).then([]);
        Scenario::new().when(grant()).then_rejected("not_found");
        given().actor(customer(ID)).when(grant()).then_denied();
    }

    #[test]
    fn a_role_that_is_held_can_be_revoked() {
        let revoke = |role| RevokeRole { account_id: ID, role };
        let given = || Scenario::new().given::<Account>(ID, [registered()]);
        given()
            .when(revoke(Role::Customer))
            .then([event::<Account>(ID, AccountRoleRevoked { role: Role::Customer })]);
        given().when(revoke(Role::Staff)).then([]);
        given().actor(customer(ID)).when(revoke(Role::Customer)).then_denied();
    }

    #[test]
    fn a_password_is_changed_by_its_owner() {
        let given = || Scenario::new().given::<Account>(ID, [registered()]);
        let change = || ChangePassword { account_id: ID };
        given().actor(customer(ID)).when(change()).then([event::<Account>(ID, AccountPasswordChanged {})]);
        given().actor(customer(SESSION)).when(change()).then_denied();
        Scenario::new().when(change()).then_rejected("not_found");
    }

    #[test]
    fn a_closed_account_gives_its_address_back_and_is_closed_once() {
        let close = || CloseAccount { account_id: ID, email_key: Some("5ec2e7".into()) };
        let given = || Scenario::new().given::<Account>(ID, [registered()]);
        let decision = given().when(close()).decision();
        assert_eq!(decision.events.len(), 1);
        assert!(
            matches!(&decision.claims[..], [daybook_core::ClaimChange::Release { key, .. }] if key == "5ec2e7"),
            "{decision:?}"
        );
        given().given::<Account>(ID, [AccountClosed {}]).when(close()).then([]);
        Scenario::new().when(close()).then([]);
        given().actor(customer(ID)).when(close()).then_denied();
    }

    #[test]
    fn nothing_more_is_done_to_a_closed_account() {
        let given =
            || Scenario::new().given::<Account>(ID, [registered()]).given::<Account>(ID, [AccountClosed {}]);
        given().when(GrantRole { account_id: ID, role: Role::Staff }).then_rejected("not_found");
        given().when(ChangePassword { account_id: ID }).then_rejected("not_found");
        given().when(StartSession { session_id: SESSION, account_id: ID }).then_rejected("not_found");
    }

    #[test]
    fn a_session_starts_for_an_account_that_exists() {
        let start = || StartSession { session_id: SESSION, account_id: ID };
        Scenario::new().given::<Account>(ID, [registered()]).actor(customer(ID)).when(start()).then([event::<
            Session,
        >(
            SESSION,
            SessionStarted { account_id: ID },
        )]);
        Scenario::new().when(start()).then_rejected("not_found");
    }

    #[test]
    fn a_session_is_ended_once_and_by_its_owner() {
        let end = || EndSession { session_id: SESSION, reason: EndReason::Logout };
        let given = || Scenario::new().given::<Session>(SESSION, [SessionStarted { account_id: ID }]);
        given()
            .actor(customer(ID))
            .when(end())
            .then([event::<Session>(SESSION, SessionEnded { reason: EndReason::Logout })]);
        given().given::<Session>(SESSION, [SessionEnded { reason: EndReason::Reused }]).when(end()).then([]);
        given().actor(customer(SESSION)).when(end()).then_denied();
        Scenario::new().when(end()).then_rejected("not_found");
    }
}
