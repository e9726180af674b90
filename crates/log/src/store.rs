//! What the log asks of a database. There is one driver for each.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{Missing, Position, RecordedEvent, StreamId};
use daybook_database::was_undone;
use uuid::Uuid;

use crate::group::{Group, Kept, Plan};
use crate::known::{Change, Tip};
use crate::seen::Mark;
use crate::{EventFilter, Head, HistoryError, LogError, Verdict};

/// The most events of other processes that a writer takes in at a time, all others waiting; beyond that, what was known is
/// forgotten.
pub(crate) const MISSED_MAX: u64 = 10_000;

/// Reads the log, and hands out its writer.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// The log's identity and its end.
    async fn head(&self) -> Result<Head, LogError>;

    /// The id of the event at a position.
    async fn event_id(&self, position: Position) -> Result<Option<Uuid>, LogError>;

    /// The events at these positions, in the log's order, as far as there are any.
    async fn events_at(&self, positions: &[Position]) -> Result<Vec<RecordedEvent>, LogError>;

    /// The events of a page, in order.
    async fn page(&self, page: Page<'_>) -> Result<Vec<RecordedEvent>, LogError>;

    /// The position of the last event recorded before `time`; [`Position::START`] when there is none.
    async fn last_before(&self, time: DateTime<Utc>) -> Result<Position, LogError>;

    /// Feeds each of the streams its events behind the revision that it has reached, all from one state of the log.
    async fn load(&self, streams: Vec<Missing>) -> Result<Vec<Fed>, LogError>;

    /// The snapshots that there are of these streams, each with the version that its state has to be of, in any order,
    /// with the last event that is in each. One that was made in another history does not count.
    async fn snapshots(&self, wanted: &[(String, i64)]) -> Result<Vec<(KeptSnapshot, Mark)>, LogError>;

    /// Keeps a snapshot in place of another of its version, unless that one is newer. The events up to its revision are
    /// committed, and the last of them is this one; where the log holds another, nothing is kept.
    async fn keep_snapshot(&self, snapshot: &KeptSnapshot, event_id: Uuid) -> Result<(), LogError>;

    /// The stream that holds a claim.
    async fn claim_holder(&self, name: &str, key: &str) -> Result<Option<StreamId>, LogError>;

    /// What is kept under an idempotency key that has not expired.
    async fn kept(&self, digest: &[u8; 32]) -> Result<Option<Kept>, LogError>;

    /// Removes at most `limit` idempotency keys that have expired; how many there were.
    async fn remove_expired(&self, limit: u32) -> Result<u64, LogError>;

    /// A writer for one appender, to this very log.
    fn writer(&self, log: &Head) -> Box<dyn Writer>;
}

/// A stream that was loaded, and the last event that it was fed, if any.
pub(crate) type Fed = (Missing, Option<Mark>);

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

/// A state as it is kept.
#[derive(Debug)]
pub(crate) struct KeptSnapshot {
    pub(crate) stream: String,
    pub(crate) revision: i64,
    pub(crate) version: i64,
    pub(crate) state: String,
}

/// Writes to the log. An appender has one, and gives it one group at a time.
#[async_trait]
pub(crate) trait Writer: Send {
    /// Where the log ends, which has to hold all that was `seen`.
    async fn tip(&mut self, seen: &[Mark]) -> Result<Tip, Failure>;

    /// Writes a plan, provided that the log still ends at `tip` and that its claims and keys are free; nothing is
    /// written and `None` is answered when it is not so. Otherwise the time at which it was recorded.
    async fn write_at(&mut self, tip: &Tip, plan: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure>;

    /// Keeps all other writers out, reads what the group depends on, decides, and writes. `known` is where the log
    /// ended before, and `seen` as in [`tip`](Self::tip).
    async fn write_locked(&mut self, known: &Tip, seen: &[Mark], group: &Group<'_>) -> Result<Written, Failure>;

    /// When this event was recorded; `None` when the log does not hold it. It is found out in such a way that nothing
    /// that this writer has sent before can still be written afterwards.
    async fn look_up(&mut self, event: (Position, Uuid)) -> Result<Option<DateTime<Utc>>, Failure>;

    /// Whether it blocks its thread, so that nothing else happens there while a group is written.
    fn blocks(&self) -> bool {
        false
    }

    /// There was nothing to write for a moment: nobody else is to wait for this writer any longer.
    async fn rest(&mut self) {}
}

/// A group that was written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The verdict on each append.
    pub(crate) verdicts: Vec<Verdict>,
    /// Where the log ends.
    pub(crate) tip: Tip,
    /// The streams that were written to since the tip that was known; `None` when there are too many.
    pub(crate) changes: Option<Vec<Change>>,
    /// Whether the commit itself went through, or does not matter; if not, the group's first event tells (`None`: it has
    /// none).
    pub(crate) commit: Result<(), Option<(Position, Uuid)>>,
}

/// Why a group was not written.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The database is away or busy; nothing was written.
    Unavailable(String),
    /// The connection broke while it was written: perhaps it was.
    Unknown,
    /// The database refused what it was given, and would again; nothing was written.
    Refused(LogError),
    /// The log is not the one that was appended to before; nothing was written.
    History(HistoryError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        LogError::from(error).into()
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        LogError::from(error).into()
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(reason) => Self::Unavailable(reason),
            LogError::History(error) => Self::History(error),
            error => Self::Refused(error),
        }
    }
}

impl Failure {
    /// What an error means of a statement that commits.
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        let undone = was_undone(&error);
        match Self::from(error) {
            Self::Unavailable(reason) if !undone => {
                tracing::warn!(reason, "the database was lost while a group was committed");
                Self::Unknown
            }
            failure => failure,
        }
    }
}
