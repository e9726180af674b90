//! What the log says of having been restored.

use chrono::{DateTime, Utc};
use daybook_core::{Event, StreamId, event_set};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The log was restored from a backup. What had been appended behind the backup's end is not in it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogRestored {
    /// The epoch that begins with this event.
    pub(crate) epoch: u64,
    /// When the backup was made.
    pub(crate) backup_begun_at: DateTime<Utc>,
    /// Where the log ended in the backup.
    pub(crate) backup_position: u64,
    /// Those who had read the log, as far as their state was found.
    pub(crate) readers: Vec<RestoredReader>,
}

/// Somebody who had read the log before it was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestoredReader {
    /// Who: `projection orders version 1`.
    pub(crate) reader: String,
    /// How far it had read.
    pub(crate) seen: u64,
    /// How many events it had seen that lie behind the backup's end.
    pub(crate) beyond: u64,
    /// Whether it had read another log, or another history of this one.
    pub(crate) strayed: bool,
    /// Behind which position it goes on. What it has is true up to there.
    pub(crate) goes_on_after: u64,
}

impl Event for LogRestored {
    const TYPE: &'static str = "daybook.log.restored";
    const VERSION: u32 = 1;
}

event_set! {
    /// What happens to the log as a whole.
    pub(crate) enum RestoreEvent { LogRestored }
}

impl RestoreEvent {
    /// The stream of a log's own events.
    pub(crate) fn stream(log_id: Uuid) -> StreamId {
        StreamId::new("daybook.log", log_id)
    }
}
