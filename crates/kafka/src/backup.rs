//! What a backup keeps of the relay: how far each topic was published.

use daybook_database::{Lines, Snapshot, Statements};
use daybook_log::Checkpoint;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::settings::Settings;
use crate::source;

/// How far a topic was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// The topic.
    pub topic: String,
    /// How many partitions it had when it was first published to.
    pub partitions: Option<u16>,
    /// Everything up to here was acknowledged.
    pub checkpoint: Checkpoint,
}

/// The rows as lines, each of which is a [`Reached`]. Read back in, they take the place of those that are there, and nobody
/// holds them.
pub const RELAYS: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('topic', topic, 'partitions', partitions, 'checkpoint', json_build_object(\
            'log_id', log_id, 'epoch', epoch, 'position', position, 'event_id', event_id))::text \
         FROM relays ORDER BY topic",
        "INSERT INTO relays (topic, partitions, log_id, epoch, position, event_id) \
         SELECT topic, partitions, (checkpoint->>'log_id')::uuid, (checkpoint->>'epoch')::bigint, \
            (checkpoint->>'position')::bigint, (checkpoint->>'event_id')::uuid \
         FROM json_to_recordset($1::json) AS line (topic text, partitions integer, checkpoint json) \
         ON CONFLICT (topic) DO UPDATE SET partitions = excluded.partitions, log_id = excluded.log_id, \
            epoch = excluded.epoch, position = excluded.position, event_id = excluded.event_id, \
            lease_epoch = relays.lease_epoch + 1, lease_owner = NULL, lease_until = NULL, problem = NULL",
    ),
    sqlite: Statements::new(
        "SELECT json_object('topic', topic, 'partitions', partitions, 'checkpoint', json_object(\
            'log_id', lower(hex(log_id)), 'epoch', epoch, 'position', position, 'event_id', lower(hex(event_id)))) \
         FROM relays ORDER BY topic",
        // Without the WHERE, SQLite takes ON for a part of a join.
        "INSERT INTO relays (topic, partitions, log_id, epoch, position, event_id) \
         SELECT value->>'topic', value->>'partitions', unhex(value->>'$.checkpoint.log_id', '-'), \
            value->>'$.checkpoint.epoch', value->>'$.checkpoint.position', \
            unhex(value->>'$.checkpoint.event_id', '-') \
         FROM json_each($1) WHERE true \
         ON CONFLICT (topic) DO UPDATE SET partitions = excluded.partitions, log_id = excluded.log_id, \
            epoch = excluded.epoch, position = excluded.position, event_id = excluded.event_id, \
            lease_epoch = relays.lease_epoch + 1, lease_owner = NULL, lease_until = NULL, problem = NULL",
    ),
};

/// How far each topic was published, in a state of the log's database.
///
/// # Errors
///
/// When that is away.
pub async fn reached(snapshot: &mut Snapshot) -> Result<Vec<Reached>, sqlx::Error> {
    let lines = snapshot.write_all(&RELAYS).await?;
    let reached = |line: &String| serde_json::from_str(line).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    lines.iter().map(reached).collect()
}

/// What lies in the topic of a log, whatever the log's database knows of it: up to its newest event.
///
/// # Errors
///
/// When the brokers do not answer, with the reason.
pub async fn published(settings: &Settings, log_id: Uuid) -> Result<Option<Reached>, String> {
    let (settings, topic) = (settings.clone(), settings.topic.to_string());
    let newest = spawn_blocking(move || source::newest(&settings, log_id)).await;
    let newest = newest.map_err(|error| error.to_string())??;
    Ok(newest.map(|checkpoint| Reached { topic, partitions: None, checkpoint }))
}
