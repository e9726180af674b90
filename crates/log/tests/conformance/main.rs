//! The rules that the log keeps on every database: the invariants L2 to L8, L10 and L11 as sentences.

mod appending;
mod checkpoints;
mod claims;
mod contended;
mod fixture;
mod following;
mod idempotency;
mod immutable;
mod line;
mod loading;
mod long_streams;
mod order;
mod queue;
mod rollback;
mod searching;
mod snapshots;
mod unnoticed;
mod upcasting;
