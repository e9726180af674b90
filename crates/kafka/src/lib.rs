//! The relay: publishes the log's events to a topic of Kafka, all of them, each stream's in its order. And the topic as a
//! source ([`TopicSource`]), for those who read it instead of the log.
//!
//! The log is the outbox: the relay is one more reader with a checkpoint, in the log's own database. Of all processes that
//! could publish, one holds the topic's lease; its producer writes in transactions, under an id that is always the same, so
//! that whoever takes over fences it off at the broker as well.
//!
//! **Architecture invariant:** nothing waits for Kafka but the relay. It reads committed events, and what goes wrong with it
//! is said in its row, in the metrics and in what is logged.

pub mod backup;
mod message;
mod partition;
mod producer;
mod relay;
mod sequence;
mod settings;
mod source;
mod status;
mod store;
mod topic;

pub use message::{Header, Message, Origin, Published, Unreadable};
pub use relay::Relay;
pub use settings::{ClientSettings, ClientSettingsError, Settings, TopicName};
pub use source::TopicSource;
pub use status::{Status, report, status};
