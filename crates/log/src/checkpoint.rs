//! Where a reader stands, and how it knows that the log is still the one that it read (invariant L11).

use daybook_core::{Position, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::LogError;
use crate::seen::Mark;
use crate::store::Store;

/// The log's identity and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The log's id, drawn when it was created.
    pub log_id: Uuid,
    /// Raised by each restore of a backup, from 1.
    pub epoch: u64,
    /// The position of the newest event.
    pub position: Position,
    /// That event's id; nil at [`Position::START`].
    pub event_id: Uuid,
}

impl Head {
    /// The checkpoint of a reader that has taken in everything up to here.
    pub fn checkpoint(&self) -> Checkpoint {
        let Self { log_id, epoch, position, event_id } = *self;
        Checkpoint { log_id, epoch, position, event_id }
    }

    /// The newest event.
    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.position, id: (self.position > Position::START).then_some(self.event_id) }
    }
}

/// How far a reader has come, and in which history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log's id.
    pub log_id: Uuid,
    /// The epoch that it read in.
    pub epoch: u64,
    /// The position of the last event that it has taken in.
    pub position: Position,
    /// That event's id; nil at [`Position::START`].
    pub event_id: Uuid,
}

impl Checkpoint {
    /// Where the reader stands once it has come to an event.
    pub fn at(&self, event: &RecordedEvent) -> Self {
        Self { position: event.position, event_id: event.id, ..*self }
    }

    /// Checks that these events are what comes next: the log has no holes (L2), and one that has is not read over them.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] where an event is missing.
    pub fn precedes(&self, events: &[RecordedEvent]) -> Result<(), LogError> {
        let due = (1..).map(|nth| self.position.plus(nth));
        match due.zip(events).find(|(due, event)| event.position != *due) {
            None => Ok(()),
            Some((position, RecordedEvent { position: is, .. })) => {
                Err(LogError::Damaged { position, reason: format!("position {is} comes in its place") })
            }
        }
    }

    /// Checks that the log is still the one that this was written for, and answers where it ends.
    pub(crate) async fn check(&self, store: &dyn Store) -> Result<Head, LogError> {
        let head = store.head().await?;
        check_log((self.log_id, self.epoch), (head.log_id, head.epoch))?;
        if head.position < self.position {
            return Err(HistoryError::Shorter { checkpoint: self.position, head: head.position }.into());
        }
        let same = if head.position == self.position {
            head.event_id == self.event_id
        } else {
            self.position == Position::START || store.event_id(self.position).await? == Some(self.event_id)
        };
        if same { Ok(head) } else { Err(HistoryError::OtherEvent(self.position).into()) }
    }
}

/// How far a reader is behind the log's end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// How many events it has not taken in.
    pub events: u64,
    /// How long ago the oldest of them was recorded, in seconds; 0 when there is none.
    pub seconds: f64,
}

/// Checks the id and the epoch of a log.
pub(crate) fn check_log(expected: (Uuid, u64), actual: (Uuid, u64)) -> Result<(), HistoryError> {
    if actual.0 != expected.0 {
        return Err(HistoryError::OtherLog { expected: expected.0, actual: actual.0 });
    }
    if actual.1 != expected.1 {
        return Err(HistoryError::OtherEpoch { expected: expected.1, actual: actual.1 });
    }
    Ok(())
}

/// The log is not the one that a checkpoint was written for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It has another id: somebody put another log in its place.
    #[error("this is another log: the checkpoint is of log {expected}, and this is {actual}")]
    OtherLog {
        /// The checkpoint's.
        expected: Uuid,
        /// The log's.
        actual: Uuid,
    },
    /// It was restored from a backup since.
    #[error("the log was restored: the checkpoint is of epoch {expected}, and the log is in {actual}")]
    OtherEpoch {
        /// The checkpoint's.
        expected: u64,
        /// The log's.
        actual: u64,
    },
    /// It ends before the checkpoint: it was rolled back.
    #[error("the log ends at position {head}, before the checkpoint at {checkpoint}: it was rolled back")]
    Shorter {
        /// The checkpoint's position.
        checkpoint: Position,
        /// The log's.
        head: Position,
    },
    /// Another event stands where the checkpoint's stood.
    #[error(
        "the event at position {0} is not the one that the checkpoint remembers: the log was rolled back and went on"
    )]
    OtherEvent(Position),
    /// The file that it is in was moved away, or another one was put in its place.
    #[error("the log's file is not the one that was opened: it was moved away, or another one is in its place")]
    OtherFile,
}
