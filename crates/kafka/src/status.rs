//! How far the log was published.

use daybook_core::Position;
use daybook_database::Database;
use daybook_log::{Checkpoint, Lag, Log, LogError};
use serde::Serialize;

use crate::store::{Row, Store};

/// How far the log was published to a topic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The topic.
    pub topic: String,
    /// How many partitions it had when it was first published to.
    pub partitions: Option<u16>,
    /// The last position that was acknowledged.
    pub position: Position,
    /// How many events are still to be published.
    pub lag_events: u64,
    /// How long ago the oldest of them was recorded, in seconds; 0 when there is none.
    pub lag_seconds: f64,
    /// Who publishes at this moment.
    pub owner: Option<String>,
    /// What last kept it from going on; nothing once it has gone on.
    pub problem: Option<String>,
}

/// How far the log was published to each topic, in the order of their names.
///
/// # Errors
///
/// When the log's database is away.
pub async fn status(database: &Database, log: &Log) -> Result<Vec<Status>, LogError> {
    let rows = Store::new(database).rows().await?;
    // Behind the rows.
    let head = log.head().await?;
    let mut statuses = Vec::new();
    for Row { topic, partitions, checkpoint: Checkpoint { position, .. }, owner, problem } in rows {
        let Lag { events: lag_events, seconds: lag_seconds } = log.lag(position, &head).await?;
        statuses.push(Status { topic, partitions, position, lag_events, lag_seconds, owner, problem });
    }
    Ok(statuses)
}

/// Writes down how far a topic is, whoever publishes, for whoever gathers metrics: when they ask.
pub async fn report(database: &Database, log: &Log, topic: &str) {
    let statuses = status(database, log).await.unwrap_or_default();
    for Status { topic, lag_events, lag_seconds, .. } in statuses.into_iter().filter(|one| one.topic == topic) {
        metrics::gauge!("daybook_relay_lag_events", "topic" => topic.clone()).set(lag_events as f64);
        metrics::gauge!("daybook_relay_lag_seconds", "topic" => topic).set(lag_seconds);
    }
}
