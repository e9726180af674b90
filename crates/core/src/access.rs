//! Who acts, and what they may do.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What an account may be trusted with. An account can have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees and does what is their own.
    Customer,
    /// Works in the business.
    Staff,
    /// Reads the history.
    Analyst,
    /// Runs the system.
    Operator,
    /// May do everything.
    Admin,
}

impl Role {
    /// All roles, the least trusted first.
    pub const ALL: [Self; 5] = [Self::Customer, Self::Staff, Self::Analyst, Self::Operator, Self::Admin];

    /// The name that the API and the log use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Staff => "staff",
            Self::Analyst => "analyst",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a role: expected customer, staff, analyst, operator or admin"))
    }
}

/// Who sends a command or reads a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Somebody who is not signed in.
    Anonymous,
    /// Somebody who is.
    Account {
        /// The account.
        id: Uuid,
        /// What it is trusted with.
        roles: Vec<Role>,
    },
    /// A part of Daybook itself (`seed`, `cli`); may do everything.
    System(&'static str),
}

impl Actor {
    /// The account's id, when there is one.
    pub fn account(&self) -> Option<Uuid> {
        match self {
            Self::Account { id, .. } => Some(*id),
            Self::Anonymous | Self::System(_) => None,
        }
    }

    /// Whether it has one of `roles`. Administrators and the system have every role.
    pub fn has_any(&self, roles: &[Role]) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Account { roles: mine, .. } => {
                mine.iter().any(|role| *role == Role::Admin || roles.contains(role))
            }
            Self::System(_) => true,
        }
    }

    /// The name that goes into an event's metadata: see [`crate::Metadata::actor`].
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Anonymous => None,
            Self::Account { id, .. } => Some(id.to_string()),
            Self::System(part) => Some(format!("system:{part}")),
        }
    }
}

/// Who may send a command or read a view. Declared as a constant with it:
///
/// ```
/// # use daybook_core::{Access, Role};
/// const RECEIVE_STOCK: Access = Access::roles(&[Role::Staff]);
/// const CANCEL_ORDER: Access = Access::owner_or(&[Role::Staff]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    who: Who,
    roles: &'static [Role],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anyone,
    SignedIn,
    Owner,
    RolesOnly,
}

/// What can be said of an actor before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Yes.
    Allowed,
    /// Yes, if it is their own.
    IfOwner,
    /// No, until they sign in.
    SignIn,
    /// No.
    Denied,
}

impl Access {
    /// Everybody, signed in or not.
    pub const fn anyone() -> Self {
        Self { who: Who::Anyone, roles: &[] }
    }

    /// Everybody who is signed in.
    pub const fn signed_in() -> Self {
        Self { who: Who::SignedIn, roles: &[] }
    }

    /// Those with one of `roles`.
    pub const fn roles(roles: &'static [Role]) -> Self {
        Self { who: Who::RolesOnly, roles }
    }

    /// Those whose own it is, and those with one of `roles`.
    pub const fn owner_or(roles: &'static [Role]) -> Self {
        Self { who: Who::Owner, roles }
    }

    /// Whether it takes more than being there, or signed in: a role, or being the owner.
    pub fn is_restricted(&self) -> bool {
        matches!(self.who, Who::Owner | Who::RolesOnly)
    }

    /// What can be said before anything is loaded.
    pub fn rule(&self, actor: &Actor) -> Ruling {
        match (self.who, actor) {
            (Who::Anyone, _) => Ruling::Allowed,
            (_, Actor::Anonymous) => Ruling::SignIn,
            (Who::SignedIn, _) => Ruling::Allowed,
            (_, actor) if actor.has_any(self.roles) => Ruling::Allowed,
            (Who::Owner, _) => Ruling::IfOwner,
            (Who::RolesOnly, _) => Ruling::Denied,
        }
    }

    /// The whole answer, once the owner is known. What nobody owns is nobody's own.
    pub fn allows(&self, actor: &Actor, owner: Option<Uuid>) -> bool {
        match self.rule(actor) {
            Ruling::Allowed => true,
            Ruling::IfOwner => owner.is_some() && owner == actor.account(),
            Ruling::SignIn | Ruling::Denied => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(role: Role) -> Actor {
        Actor::Account { id: Uuid::from_u128(1), roles: vec![role] }
    }

    #[test]
    fn an_owner_is_let_in_and_a_stranger_is_not() {
        let access = Access::owner_or(&[Role::Staff]);
        assert!(access.allows(&account(Role::Customer), Some(Uuid::from_u128(1))));
        assert!(!access.allows(&account(Role::Customer), Some(Uuid::from_u128(2))));
        assert!(!access.allows(&account(Role::Customer), None));
        assert!(!access.allows(&Actor::Anonymous, None));
        assert!(access.allows(&account(Role::Staff), Some(Uuid::from_u128(2))));
    }

    #[test]
    fn an_administrator_may_do_everything_and_an_analyst_may_not() {
        let access = Access::roles(&[Role::Staff]);
        assert_eq!(access.rule(&account(Role::Admin)), Ruling::Allowed);
        assert_eq!(access.rule(&account(Role::Analyst)), Ruling::Denied);
        assert_eq!(access.rule(&Actor::Anonymous), Ruling::SignIn);
    }
}
