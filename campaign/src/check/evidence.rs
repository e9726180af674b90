//! What a campaign leaves behind, and what is wrong with it.

use std::fmt;

use chrono::{DateTime, Utc};
use daybook_core::{Event, RecordedEvent};
use uuid::Uuid;

use crate::domain::{CATEGORY, Changed};
use crate::journal::{Micros, Record};

/// An event, as far as the checker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its place in the stream.
    pub revision: u64,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// The command that wrote it. Each time that the same is asked for it is another one, and the id says from when.
    pub command: Uuid,
    /// What happened, when it happened to a thing; recorded refusals are not looked into.
    pub changed: Option<Changed>,
}

impl Entry {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// When nobody can tell which command wrote it, or it is of a thing and is not what the writers write.
    pub fn read(event: &RecordedEvent) -> anyhow::Result<Self> {
        let command = event.metadata()?.command_id;
        let of_campaign = event.event_type == Changed::TYPE;
        let changed = if of_campaign { Some(event.read()?) } else { None };
        Ok(Self { command, changed, ..Self::of_place(event) })
    }

    /// Only where an event stands: for one that cannot be read.
    pub fn of_place(event: &RecordedEvent) -> Self {
        Self {
            position: event.position.get(),
            stream: event.stream.to_string(),
            revision: event.revision.get(),
            recorded_at: event.recorded_at,
            command: Uuid::nil(),
            changed: None,
        }
    }

    /// When its command was taken on, in milliseconds since 1970; `None` when its id does not say.
    pub(super) fn begun_ms(&self) -> Option<u64> {
        let (seconds, nanos) = self.command.get_timestamp()?.to_unix();
        Some(seconds * 1_000 + u64::from(nanos) / 1_000_000)
    }

    /// The name of the thing that it happened to.
    pub(super) fn thing(&self) -> Option<&str> {
        self.stream.strip_prefix(CATEGORY)?.strip_prefix('-')
    }
}

/// A reader that follows the log has seen all up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The position.
    pub through: u64,
    /// When it knew.
    pub at: Micros,
}

/// What a campaign leaves behind.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The whole log, as it is in the end.
    pub log: Vec<Entry>,
    /// Where the log's head says that it ends.
    pub head: u64,
    /// The names that are taken in the end, and the things that hold them.
    pub names: Vec<(String, String)>,
    /// Each writer's journals, by the names of their lives (`3.1`).
    pub journals: Vec<(String, Vec<Record>)>,
    /// What was seen of the log, and when.
    pub sightings: Vec<Sighting>,
}

/// The ways in which a log can break its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// Positions are not dense.
    Hole,
    /// Revisions of a stream are not dense.
    RevisionHole,
    /// Times run backwards.
    TimeBackwards,
    /// The head is not where the log ends.
    HeadElsewhere,
    /// An event was changed, or went away, after somebody had read it.
    Changed,
    /// There is an event that nobody asked for.
    Phantom,
    /// What was asked for once was done twice.
    Twice,
    /// Of what belongs together only a part is there, or something stands in between.
    Torn,
    /// It was decided over another state of what it writes than the one that it was written on.
    LostUpdate,
    /// It was decided over another state of what it only reads than the one that it was written after.
    WriteSkew,
    /// What was written is not what a decision over that state writes.
    NotDecided,
    /// A name was taken that another one held.
    ClaimTwice,
    /// The names that are taken in the end are not those that the log says.
    ClaimsElsewhere,
    /// It was acknowledged and is not there, or not as acknowledged.
    Lost,
    /// It was acknowledged twice, differently.
    OtherReceipt,
    /// It was refused, and yet it is there.
    RefusedYetThere,
    /// It was answered that nothing was done, and yet it is there.
    NotDoneYetThere,
    /// It was never answered, though it was asked for with its key until the end.
    Unresolved,
    /// It stands before what was acknowledged before it was sent.
    Reordered,
    /// An answer was drawn from a state that was not committed.
    Uncommitted,
    /// An answer was drawn from several states that were never true together.
    Mixed,
    /// An answer was drawn from a state that was over before it was asked for.
    Stale,
    /// An answer that its own reason does not bear out, or that must never be given.
    WrongAnswer,
    /// A process ended by itself.
    Died,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was broken.
    pub breach: Breach,
    /// Where, and how one can tell.
    pub detail: String,
}

impl Violation {
    /// Something that must not be.
    pub fn new(breach: Breach, detail: impl Into<String>) -> Self {
        Self { breach, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.breach, self.detail)
    }
}
