//! Accounts: who somebody is, and what they are trusted with.

use std::collections::BTreeSet;

use daybook_core::{Aggregate, Event, Personal, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An account was opened.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRegistered {
    /// The e-mail address to sign in with.
    pub email: Personal<String>,
    /// The holder's name.
    pub name: Personal<String>,
    /// What it is trusted with from the beginning.
    pub roles: Vec<Role>,
}

impl Event for AccountRegistered {
    const TYPE: &'static str = "account.registered";
    const VERSION: u32 = 1;
}

/// The account is trusted with a role from now on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRoleGranted {
    /// The role.
    pub role: Role,
}

impl Event for AccountRoleGranted {
    const TYPE: &'static str = "account.role_granted";
    const VERSION: u32 = 1;
}

/// The account is no longer trusted with a role.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRoleRevoked {
    /// The role.
    pub role: Role,
}

impl Event for AccountRoleRevoked {
    const TYPE: &'static str = "account.role_revoked";
    const VERSION: u32 = 1;
}

/// The account has another password.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountPasswordChanged {}

impl Event for AccountPasswordChanged {
    const TYPE: &'static str = "account.password_changed";
    const VERSION: u32 = 1;
}

/// The account is no more, since its holder was forgotten: nobody can sign in to it, and none of its tokens is good.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountClosed {}

impl Event for AccountClosed {
    const TYPE: &'static str = "account.closed";
    const VERSION: u32 = 1;
}

daybook_core::event_set! {
    /// What happens to an account.
    pub enum AccountEvent {
        AccountRegistered, AccountRoleGranted, AccountRoleRevoked, AccountPasswordChanged, AccountClosed,
    }
}

/// An account, as decisions see it.
#[derive(Debug, Clone, Default)]
pub struct Account {
    roles: BTreeSet<Role>,
    closed: bool,
}

impl Account {
    /// What it is trusted with, the least trusted role first.
    pub fn roles(&self) -> Vec<Role> {
        self.roles.iter().copied().collect()
    }

    /// Whether it is no more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether it has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "account";
    type Event = AccountEvent;

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::AccountRegistered(registered) => self.roles.extend(&registered.roles),
            AccountEvent::AccountRoleGranted(granted) => {
                self.roles.insert(granted.role);
            }
            AccountEvent::AccountRoleRevoked(revoked) => {
                self.roles.remove(&revoked.role);
            }
            AccountEvent::AccountPasswordChanged(_) => {}
            AccountEvent::AccountClosed(_) => *self = Self { closed: true, ..Self::default() },
        }
    }
}
