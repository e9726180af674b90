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

/// Writes down how far a topic is, whoever publishes, for whoever gathers metrics: when they ask. When that cannot be said, the
/// last answer does not stand for it.
pub async fn report(database: &Database, log: &Log, topic: &str) {
    let (events, seconds) = match status(database, log).await {
        Ok(statuses) => match statuses.into_iter().find(|one| one.topic == topic) {
            Some(status) => (status.lag_events as f64, status.lag_seconds),
            None => return,
        },
        Err(error) => {
            tracing::debug!(topic, %error, "how far it is published is not known");
            (f64::NAN, f64::NAN)
        }
    };
    metrics::gauge!("daybook_relay_lag_events", "topic" => topic.to_owned()).set(events);
    metrics::gauge!("daybook_relay_lag_seconds", "topic" => topic.to_owned()).set(seconds);
}
