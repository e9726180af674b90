//! What an appender knows of the log, and up to which event: enough to decide over most groups without asking.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use daybook_core::{Position, Revision, StreamId};
use uuid::Uuid;

use crate::group::{Answers, Group};
use crate::seen::Mark;

/// How many changed streams are remembered, twice over.
const REMEMBERED_MAX: usize = 1 << 16;

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    /// The newest event's position; [`Position::START`] in an empty log.
    pub(crate) position: Position,
    /// The newest event's id; `None` in an empty log.
    pub(crate) id: Option<Uuid>,
    /// When the newest event was recorded. No later one is recorded before that.
    pub(crate) recorded_at: DateTime<Utc>,
}

impl Tip {
    /// The newest event.
    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.position, id: self.id }
    }
}

/// A stream that was written to.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) stream: StreamId,
    pub(crate) revision: Revision,
}

/// What an appender knows: where the log ends, and every stream that was written to since some position.
///
/// A stream that was read at or after that position and is not among those is still as it was read. So the revision
/// that a decision was made over is its own proof, and nothing has to be read again.
#[derive(Debug)]
pub(crate) struct Known {
    /// Where the log ends, as far as this appender knows.
    pub(crate) tip: Tip,
    newer: Changes,
    older: Changes,
}

/// The streams that were written to after a position.
#[derive(Debug)]
struct Changes {
    after: Position,
    revisions: HashMap<StreamId, Revision>,
}

impl Changes {
    fn after(position: Position) -> Self {
        Self { after: position, revisions: HashMap::new() }
    }
}

impl Known {
    /// Knows only where the log ends.
    pub(crate) fn new(tip: Tip) -> Self {
        Self { tip, newer: Changes::after(tip.position), older: Changes::after(tip.position) }
    }

    /// Takes in all events between the tip and another.
    pub(crate) fn advance(&mut self, tip: Tip, changes: impl IntoIterator<Item = Change>) {
        if self.newer.revisions.len() >= REMEMBERED_MAX {
            let newer = Changes::after(self.tip.position);
            self.older = std::mem::replace(&mut self.newer, newer);
        }
        self.newer.revisions.extend(changes.into_iter().map(|change| (change.stream, change.revision)));
        self.tip = tip;
    }

    /// Whether nothing was seen that the tip is not known to go on from. Else the log has to be asked, with all others
    /// kept out.
    pub(crate) fn holds(&self, seen: &[Mark]) -> bool {
        matches!(seen, [newest] if *newest == self.tip.mark() || newest.position < self.tip.position)
    }

    /// The answers to a group's questions, should the log still end at the tip; `None` when something has to be read.
    ///
    /// That claims are free and idempotency keys are new is only assumed: the database refuses the group when they are
    /// not.
    pub(crate) fn answers(&self, group: &Group<'_>) -> Option<Answers> {
        if group.releases {
            return None;
        }
        Some(Answers {
            revisions: group.streams.iter().map(|asked| self.revision(asked)).collect::<Option<_>>()?,
            holders: vec![None; group.claims.len()],
            kept: vec![None; group.keys.len()],
        })
    }

    fn revision(&self, asked: &crate::group::AskedStream<'_>) -> Option<Revision> {
        let changed = self.newer.revisions.get(asked.stream).or_else(|| self.older.revisions.get(asked.stream));
        if let Some(revision) = changed {
            return Some(*revision);
        }
        match asked.read {
            Some((revision, at)) if self.older.after <= at && at <= self.tip.position => Some(revision),
            // The first event of a stream: the database refuses it when there is one already.
            _ if asked.begins => Some(Revision::NONE),
            _ => None,
        }
    }
}
