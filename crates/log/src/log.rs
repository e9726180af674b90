//! The handle that the other crates hold.

use std::time::Duration;

use daybook_core::{Missing, Position, RecordedEvent, StreamId};
use daybook_database::Database;
use tokio::sync::watch;

use crate::{Append, Checkpoint, EventFilter, EventPage, Head, LogError, Verdict};

/// How the log works in this process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most appends that wait; one more is refused with [`LogError::Busy`].
    pub queue_appends_max: usize,
    /// The most appends that are committed as one group.
    pub group_appends_max: usize,
    /// The longest to wait for the log's head when another process holds it.
    pub lock_timeout: Duration,
    /// How often to look for other processes' appends.
    pub follow_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_appends_max: 4_096,
            group_appends_max: 1_024,
            lock_timeout: Duration::from_secs(5),
            follow_interval: Duration::from_millis(100),
        }
    }
}

/// The event log. Cheap to clone.
#[derive(Clone)]
pub struct Log {}

impl Log {
    /// Opens the log in a database that is migrated, and starts its appender.
    ///
    /// # Errors
    ///
    /// When the database is away or holds no log.
    pub async fn open(database: Database, settings: Settings) -> Result<Self, LogError> {
        unimplemented!("{database:?} {settings:?}")
    }

    /// Appends, in a group with whatever else waits.
    ///
    /// # Errors
    ///
    /// When there is no verdict: the database is away ([`LogError::Unavailable`], [`LogError::Unknown`]), the queue
    /// is full ([`LogError::Busy`]) or the log was closed.
    pub async fn append(&self, append: Append) -> Result<Verdict, LogError> {
        unimplemented!("{append:?}")
    }

    /// The log's identity and its end, as committed.
    pub async fn head(&self) -> Result<Head, LogError> {
        unimplemented!()
    }

    /// A signal of the newest position that this process knows of: its own appends at once, other processes' within
    /// [`Settings::follow_interval`]. It only says that there is something to read.
    pub fn watch(&self) -> watch::Receiver<Position> {
        unimplemented!()
    }

    /// The events after a position, in order, at most `limit`.
    pub async fn read(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        unimplemented!("{after} {limit}")
    }

    /// The event at a position.
    pub async fn event(&self, position: Position) -> Result<Option<RecordedEvent>, LogError> {
        unimplemented!("{position}")
    }

    /// Events that match a filter, at most `limit`.
    pub async fn find(&self, filter: &EventFilter, limit: usize) -> Result<EventPage, LogError> {
        unimplemented!("{filter:?} {limit}")
    }

    /// Feeds each of the streams its events, as one consistent state of the log.
    pub async fn load(&self, streams: Vec<Missing>) -> Result<Vec<Missing>, LogError> {
        unimplemented!("{streams:?}")
    }

    /// The stream that holds a claim.
    pub async fn claim_holder(&self, name: &str, key: &str) -> Result<Option<StreamId>, LogError> {
        unimplemented!("{name} {key}")
    }

    /// Looks an idempotency key up before a command is decided: [`Verdict::Repeated`], [`Verdict::KeyReused`], or
    /// `None` when it was not used.
    pub async fn repeated(&self, key: &crate::IdempotencyKey) -> Result<Option<Verdict>, LogError> {
        unimplemented!("{key:?}")
    }

    /// The checkpoint of a reader that has taken in everything up to `event`; of one that has taken in nothing yet
    /// when `None`.
    pub fn checkpoint(&self, head: &Head, event: Option<&RecordedEvent>) -> Checkpoint {
        unimplemented!("{head:?} {event:?}")
    }

    /// Checks that the log is still the one that a checkpoint was written for (invariant L11).
    pub async fn check(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        unimplemented!("{checkpoint:?}")
    }

    /// Commits what waits, and stops. Later appends get [`LogError::Closed`].
    pub async fn close(&self) {
        unimplemented!()
    }
}
