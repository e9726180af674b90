//! The projector runtime over a real log, on both databases.

mod apart;
mod as_of;
mod away;
mod dead_letters;
mod domain;
mod laws;
mod live;
mod mistakes;
mod queries;
mod rebuilds;
mod rollback;
mod sharing;
mod source;
mod steps;
mod stops;
mod takeover;
mod upcasting;
mod upkeep;
mod verify;
mod weighed;
mod world;
