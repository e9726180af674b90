//! Accounts, credentials, sessions and tokens: who somebody is, and what they are trusted with.
//!
//! What happened to accounts and sessions is in the log, as [`Account`] and [`Session`]. What must never be there is in
//! tables of its own, in the `keys` schema: password hashes and digests of refresh tokens.
//!
//! **Architecture invariant:** the log decides. A row in the tables without its event opens nothing: a password without
//! an account, or a refresh token of a session that ended.

mod access_token;
mod account;
mod bodies;
mod commands;
mod error;
mod forgettings;
mod identity;
mod key_set;
mod passwords;
mod refresh_token;
mod revocations;
mod secret;
mod session;
mod settings;
mod signing_keys;
mod store;

pub use account::{
    Account, AccountClosed, AccountEvent, AccountPasswordChanged, AccountRegistered, AccountRoleGranted,
    AccountRoleRevoked,
};
pub use bodies::{Login, Logout, Refresh, Registration, Tokens};
pub use error::IdentityError;
pub use identity::{Authenticated, Identity, NewAccount};
pub use secret::Secret;
pub use session::{EndReason, Session, SessionEnded, SessionEvent, SessionStarted};
pub use settings::{HashCost, Settings};
pub use store::{TABLES, forgettings_reached};
