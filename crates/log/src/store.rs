//! What the log asks of a database. There is one driver for each.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{Missing, Position, RecordedEvent, StreamId};

use crate::group::{Group, Kept};
use crate::{EventFilter, Head, LogError, Verdict};

/// Reads the log, and hands out its writer.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// The log's identity and its end.
    async fn head(&self) -> Result<Head, LogError>;

    /// The events of a page, in order.
    async fn page(&self, page: Page<'_>) -> Result<Vec<RecordedEvent>, LogError>;

    /// The position of the last event recorded before `time`; [`Position::START`] when there is none.
    async fn last_before(&self, time: DateTime<Utc>) -> Result<Position, LogError>;

    /// Feeds each of the streams its events behind the revision that it has reached, all from one state of the log.
    async fn load(&self, streams: Vec<Missing>) -> Result<Vec<Missing>, LogError>;

    /// The stream that holds a claim.
    async fn claim_holder(&self, name: &str, key: &str) -> Result<Option<StreamId>, LogError>;

    /// What is kept under an idempotency key that has not expired.
    async fn kept(&self, digest: &[u8; 32]) -> Result<Option<Kept>, LogError>;

    /// Removes at most `limit` idempotency keys that have expired; how many there were.
    async fn remove_expired(&self, limit: u32) -> Result<u64, LogError>;

    /// A writer for one appender.
    fn writer(&self) -> Box<dyn Writer>;
}

/// Which events to read: those that match the filter's stream, type, actor and correlation id, among those after one
/// position and up to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// After this position.
    pub(crate) after: Position,
    /// Up to this one.
    pub(crate) through: Position,
    /// What else must hold. Its position and times are not looked at.
    pub(crate) filter: &'a EventFilter,
    /// The most events.
    pub(crate) limit: usize,
}

impl Page<'_> {
    /// The page's ends and the most events, as databases take them.
    pub(crate) fn bounds(&self) -> [i64; 3] {
        [self.after.get(), self.through.get(), self.limit as u64]
            .map(|bound| i64::try_from(bound).unwrap_or(i64::MAX))
    }
}

/// Writes to the log.
#[async_trait]
pub(crate) trait Writer: Send {
    /// Decides over a group and writes what holds, in one transaction under the head's lock.
    async fn commit(&mut self, group: &Group<'_>) -> Result<Committed, Failure>;
}

/// A group that was committed.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The verdict on each append.
    pub(crate) verdicts: Vec<Verdict>,
    /// Where the log ends.
    pub(crate) head: Position,
}

/// Why a group was not committed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database is away or busy; nothing was written.
    Unavailable(String),
    /// The connection broke during COMMIT.
    Unknown,
    /// The database refused what it was given, and would again; nothing was written.
    Refused(LogError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        LogError::from(error).into()
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(reason) => Self::Unavailable(reason),
            error => Self::Refused(error),
        }
    }
}

impl Failure {
    /// What an error of COMMIT itself means.
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Unavailable(reason) => {
                tracing::warn!(reason, "the database was lost while a group was committed");
                Self::Unknown
            }
            failure => failure,
        }
    }
}
