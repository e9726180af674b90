//! A domain as the engine sees it: what was registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::{
    AnyProjection, Command, CommandSpec, Contracts, Decision, EventSet, Personal, Projection, Seed, projection,
};

/// An account was opened; the domain may start something of its own with it, in the same append.
#[derive(Debug, Clone)]
pub struct AccountOpened {
    /// The account.
    pub account_id: Uuid,
    /// Its e-mail address.
    pub email: Personal<String>,
    /// Its holder's name.
    pub name: Personal<String>,
}

/// Names the command that forgets an account's holder, and makes its body.
pub type ForgetAccount = fn(Uuid) -> (&'static str, Value);

/// Commands, events and views, each declared once and registered here. From this alone the engine makes a backend.
#[derive(Clone)]
pub struct Domain {
    /// What to call it (`shop`).
    pub name: &'static str,
    /// The commands by name.
    pub commands: BTreeMap<&'static str, CommandSpec>,
    /// The event contracts.
    pub events: Contracts,
    /// The projections by the name of their view.
    pub projections: BTreeMap<&'static str, Arc<dyn AnyProjection>>,
    /// What the domain adds when an account is opened.
    pub on_account_opened: fn(&AccountOpened) -> Decision,
    /// The command that forgets an account's holder, and its body.
    pub forget_account: Option<ForgetAccount>,
    /// What a demonstration of it starts with.
    pub seed: fn() -> Seed,
}

impl Domain {
    /// A domain with nothing in it.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            commands: BTreeMap::new(),
            events: Contracts::default(),
            projections: BTreeMap::new(),
            on_account_opened: |_| Decision::new(),
            forget_account: None,
            seed: Seed::default,
        }
    }

    /// Registers a command.
    ///
    /// # Panics
    ///
    /// When its name is taken: a mistake in the program, seen at its first start.
    #[must_use]
    pub fn command<C: Command>(mut self) -> Self {
        let taken = self.commands.insert(C::NAME, CommandSpec::of::<C>());
        assert!(taken.is_none(), "two commands are named `{}`", C::NAME);
        self
    }

    /// Registers the event contracts of a set.
    ///
    /// # Panics
    ///
    /// When two contracts have one name.
    #[must_use]
    pub fn events<E: EventSet>(mut self) -> Self {
        self.events.add::<E>();
        self
    }

    /// Registers a projection.
    ///
    /// # Panics
    ///
    /// When its name is taken.
    #[must_use]
    pub fn projection<P: Projection>(mut self) -> Self {
        let entry = projection::<P>();
        let name = entry.spec().name;
        assert!(self.projections.insert(name, entry).is_none(), "two projections are named `{name}`");
        self
    }

    /// Says what the domain adds, in the same append, when an account is opened.
    #[must_use]
    pub fn on_account_opened(mut self, hook: fn(&AccountOpened) -> Decision) -> Self {
        self.on_account_opened = hook;
        self
    }

    /// Says which command forgets an account's holder, for those who run the system: its name and its body.
    #[must_use]
    pub fn forget_account(mut self, command: ForgetAccount) -> Self {
        self.forget_account = Some(command);
        self
    }

    /// Says what a demonstration starts with.
    #[must_use]
    pub fn seed(mut self, seed: fn() -> Seed) -> Self {
        self.seed = seed;
        self
    }
}
