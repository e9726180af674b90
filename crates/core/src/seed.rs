//! A small believable history, for a demonstration.

use serde_json::Value;

use crate::Role;

/// What a demonstration starts with: accounts, and commands that they send, one after the other, on the same path
/// as everybody's.
#[derive(Debug, Clone, Default)]
pub struct Seed {
    /// The accounts, besides the one of each role that every demonstration has.
    pub accounts: Vec<SeedAccount>,
    /// The commands.
    pub steps: Vec<SeedStep>,
    /// What a newcomer may try first.
    pub example: Option<SeedExample>,
}

/// Something to try: send a command, read what came of it in a view, look at its history.
#[derive(Debug, Clone)]
pub struct SeedExample {
    /// Who sends the command.
    pub role: Role,
    /// The command's name.
    pub command: &'static str,
    /// Its body.
    pub body: Value,
    /// The view that shows the command's own aggregate.
    pub view: &'static str,
}

/// An account of a demonstration.
#[derive(Debug, Clone)]
pub struct SeedAccount {
    /// Its e-mail address.
    pub email: String,
    /// Its holder's name.
    pub name: String,
}

/// A command of a demonstration.
#[derive(Debug, Clone)]
pub struct SeedStep {
    /// Who sends it.
    pub actor: SeedActor,
    /// Its name.
    pub command: &'static str,
    /// Its body.
    pub body: Value,
}

/// Who sends a command of a demonstration.
#[derive(Debug, Clone)]
pub enum SeedActor {
    /// The demonstration's own account with this role.
    Role(Role),
    /// The account of [`Seed::accounts`] with this e-mail address.
    Account(String),
}
