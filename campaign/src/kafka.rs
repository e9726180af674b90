//! The campaign of Kafka: relays publish a log while they are killed and frozen, while the broker is stopped, and while their
//! connections to it are cut. In the end the topic has to hold the log, and nobody who appended noticed anything.

pub mod check;
pub mod drive;
mod proxy;
pub mod relay;
mod topic;
