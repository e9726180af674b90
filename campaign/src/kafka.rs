//! The campaign of Kafka: relays publish a log, and projectors read the topic, while they are killed and frozen, while the broker
//! is stopped, connections to it are cut, and messages are removed that nobody has read. In the end the topic has had the log,
//! the views that were fed from it are those that are fed from the log, and nobody who appended noticed anything; and once nothing
//! goes wrong any more, whoever reads the topic reads nothing in the log.

pub mod check;
pub mod drive;
mod faults;
mod proxy;
pub mod relay;
mod topic;
