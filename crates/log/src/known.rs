//! What an appender knows of the log, and up to which event: enough to decide over most groups without asking.

use ahash::{HashMap, HashMapExt};
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
    /// How many changed streams are remembered, twice over.
    remembered_max: usize,
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
        let after = || Changes::after(tip.position);
        Self { tip, newer: after(), older: after(), remembered_max: REMEMBERED_MAX }
    }

    /// Takes in all events between the tip and another.
    pub(crate) fn advance(&mut self, tip: Tip, changes: impl IntoIterator<Item = Change>) {
        if self.newer.revisions.len() >= self.remembered_max {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::group::AskedStream;

    fn tip(position: u64) -> Tip {
        let id = (position > 0).then(|| Uuid::from_u128(position.into()));
        Tip { position: Position::new(position), id, recorded_at: DateTime::UNIX_EPOCH }
    }

    fn stream(number: u8) -> StreamId {
        StreamId::new("order", number)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Groups of one event for each number, over few streams and with room for fewer still: whatever was read, at any
        /// time, is what it is now, or is not known. What was read lately is known.
        #[test]
        fn what_is_known_of_a_stream_is_so(begun_at in 0_u64..5, groups in vec(vec(0_u8..12, 1..5), 1..40)) {
            let mut known = Known { remembered_max: 3, ..Known::new(tip(begun_at)) };
            // How each stream was at each position, from where it began.
            let mut history = vec![BTreeMap::<u8, u64>::new(); begun_at as usize + 1];
            for group in groups {
                let mut now = history.last().cloned().expect("there is a first");
                let mut changes = Vec::new();
                for number in group {
                    let revision = now.entry(number).or_default();
                    *revision += 1;
                    changes.push(Change { stream: stream(number), revision: Revision::new(*revision) });
                    history.push(now.clone());
                }
                let before = known.tip.position.get() as usize;
                known.advance(tip(history.len() as u64 - 1), changes);
                for number in 0..12 {
                    let named = stream(number);
                    for (at, then) in history.iter().enumerate() {
                        let read = Revision::new(then.get(&number).copied().unwrap_or_default());
                        let asked =
                            AskedStream { stream: &named, read: Some((read, Position::new(at as u64))), begins: false };
                        let answer = known.revision(&asked);
                        let so = Revision::new(now.get(&number).copied().unwrap_or_default());
                        prop_assert!(answer.is_none_or(|known| known == so), "{number} at {at}: {answer:?}, not {so:?}");
                        prop_assert!(answer.is_some() || at < before, "{number} at {at} is not known");
                    }
                    let unread = AskedStream { stream: &named, read: None, begins: false };
                    let so = now.get(&number).copied().unwrap_or_default();
                    prop_assert!(known.revision(&unread).is_none_or(|known| known == Revision::new(so)));
                    // It was read by somebody who saw more of the log than the tip.
                    let ahead = Position::new(history.len() as u64);
                    let ahead = AskedStream { stream: &named, read: Some((Revision::new(so + 1), ahead)), begins: false };
                    prop_assert!(known.revision(&ahead).is_none_or(|known| known == Revision::new(so)));
                }
            }
        }
    }
}
