//! The projector runtime over a real log, on both databases.

mod away;
mod domain;
mod laws;
mod queries;
mod rollback;
mod stops;
mod takeover;
mod upcasting;
mod world;
