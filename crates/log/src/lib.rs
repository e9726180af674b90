//! The event log: every event once, in order, for ever.
//!
//! [`Log`] is the handle that the other crates hold. Behind it are a store for PostgreSQL and one for SQLite, both
//! held to the same conformance suite, and the *appender*: one task that takes all appends that wait and commits
//! them as one group, each with a verdict of its own. An append goes from `prepare` (could it ever be written?) to
//! `appender` (who waits?), `group` (what becomes of each?), and a store's writer.
//!
//! **Architecture invariant:** positions are dense and become visible in their order, so a reader only ever asks
//! for `position > p`. No user code runs while the log's head is locked.

mod append;
mod appender;
mod background;
mod backoff;
pub mod backup;
mod checkpoint;
mod error;
mod find;
mod follow;
mod group;
mod json;
mod known;
mod log;
mod look_up;
mod postgres;
mod prepare;
mod query;
mod scan;
mod seen;
mod snapshots;
mod source;
mod sql;
mod sqlite;
mod store;
mod stored;
mod ticket;

pub use append::{Append, Claim, Conflict, Expected, IdempotencyKey, NewRecord, Verdict};
pub use appender::{Reserved, Submitted};
pub use backoff::Backoff;
pub use checkpoint::{Checkpoint, Head, HistoryError, Lag};
pub use error::LogError;
pub use follow::Follow;
pub use log::{Log, Settings};
pub use query::{EventFilter, EventPage};
pub use scan::Scan;
pub use source::{Source, Tail, Taken};
pub use ticket::Ticket;
