//! What this process has seen of the log, and on which it builds: the followed end, its own appends, and what it loaded.
//!
//! States in memory may be newer than the appender's own last group. So an appender is anchored at everything that was
//! seen, and goes on only in a log that still holds it (invariant L11). What was loaded counts as unchecked until it was
//! looked for together with all that was seen before: a load may have met another history already, and must not take
//! the place of what would tell.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use daybook_core::Position;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{Head, HistoryError};

/// An event at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its position; [`Position::START`] for the beginning of the log.
    pub(crate) position: Position,
    /// Its id; `None` at the beginning.
    pub(crate) id: Option<Uuid>,
}

/// The positions at which to look for marks in a log that ends at `head`.
pub(crate) fn to_look_up(marks: &[Mark], head: Mark) -> Vec<Position> {
    let inside = |position: &Position| *position > Position::START && *position < head.position;
    marks.iter().map(|mark| mark.position).filter(inside).collect()
}

/// Checks that a log that ends at `head` holds all marks; `found` is what stands where they were looked for.
pub(crate) fn check(marks: &[Mark], head: Mark, found: &HashMap<Position, Uuid>) -> Result<(), HistoryError> {
    for mark in marks {
        if head.position < mark.position {
            return Err(HistoryError::Shorter { checkpoint: mark.position, head: head.position });
        }
        let id = if mark.position == head.position { head.id } else { found.get(&mark.position).copied() };
        if id != mark.id {
            return Err(HistoryError::OtherEvent(mark.position));
        }
    }
    Ok(())
}

/// What was seen, shared by whoever reads and whoever appends.
#[derive(Debug)]
pub(crate) struct Seen {
    state: Mutex<State>,
    signal: watch::Sender<Position>,
}

#[derive(Debug)]
struct State {
    /// The newest event that goes on from all that was seen before.
    newest: Mark,
    /// What was loaded beyond that and not checked yet: no more than others write between two looks at the log.
    loaded: Vec<Mark>,
    /// Why nothing can be built on it any more.
    lost: Option<HistoryError>,
}

impl Seen {
    /// Begins at the log's end.
    pub(crate) fn new(head: &Head) -> Self {
        let state = State { newest: head.mark(), loaded: Vec::new(), lost: None };
        Self { state: Mutex::new(state), signal: watch::Sender::new(head.position) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A signal of the newest position.
    pub(crate) fn watch(&self) -> watch::Receiver<Position> {
        self.signal.subscribe()
    }

    /// Everything that the log has to hold: the newest event first, then what was loaded beyond it. To be asked for
    /// before the log's end is read.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let state = self.state();
        std::iter::once(state.newest).chain(state.loaded.iter().copied()).collect()
    }

    /// Takes note of an event that was loaded. To be called before anything is decided over it.
    pub(crate) fn loaded(&self, mark: Mark) {
        let mut state = self.state();
        let known = mark == state.newest || state.loaded.last() == Some(&mark);
        if !known && mark.position >= state.newest.position {
            state.loaded.push(mark);
        }
    }

    /// The newest position.
    pub(crate) fn position(&self) -> Position {
        *self.signal.borrow()
    }

    /// Takes note that a log that ends at `newest` holds what was checked; says whether that was not known before.
    pub(crate) fn confirm(&self, checked: &[Mark], newest: Mark) -> bool {
        let mut state = self.state();
        if !state.loaded.is_empty() {
            state.loaded.retain(|mark| !checked.contains(mark));
        }
        if newest.position <= state.newest.position {
            return false;
        }
        state.newest = newest;
        drop(state);
        self.signal.send_if_modified(|known| {
            let ahead = newest.position > *known;
            *known = newest.position.max(*known);
            ahead
        })
    }

    /// Takes note that the log is another one. What was said first stays.
    pub(crate) fn lose(&self, error: HistoryError) {
        self.state().lost.get_or_insert(error);
    }

    /// Why nothing can be built on what was seen.
    pub(crate) fn lost(&self) -> Option<HistoryError> {
        self.state().lost.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(position: u64, id: u128) -> Mark {
        Mark { position: Position::new(position), id: Some(Uuid::from_u128(id)) }
    }

    fn seen() -> Seen {
        Seen::new(&Head {
            log_id: Uuid::nil(),
            epoch: 1,
            position: Position::new(5),
            event_id: Uuid::from_u128(5),
        })
    }

    #[test]
    fn what_was_loaded_stays_until_it_was_checked_itself() {
        let seen = seen();
        seen.loaded(mark(7, 7));
        // Others were looked for meanwhile.
        seen.confirm(&[mark(5, 5)], mark(9, 9));
        assert_eq!(seen.marks(), [mark(9, 9), mark(7, 7)]);
        seen.confirm(&seen.marks(), mark(9, 9));
        assert_eq!(seen.marks(), [mark(9, 9)]);
    }

    #[test]
    fn what_was_loaded_counts_where_it_tells_something_new() {
        let seen = seen();
        seen.loaded(mark(4, 1));
        seen.loaded(mark(5, 5));
        assert_eq!(seen.marks(), [mark(5, 5)]);
        seen.loaded(mark(5, 1));
        seen.loaded(mark(5, 1));
        assert_eq!(seen.marks(), [mark(5, 5), mark(5, 1)]);
    }

    #[test]
    fn the_signal_only_goes_forward() {
        let seen = seen();
        let signal = seen.watch();
        seen.confirm(&[], mark(9, 9));
        seen.confirm(&[], mark(8, 8));
        assert_eq!(*signal.borrow(), Position::new(9));
    }

    #[test]
    fn marks_are_held_by_the_log_that_they_are_in() {
        let beginning = Mark { position: Position::START, id: None };
        let marks = [beginning, mark(3, 3), mark(5, 5)];
        let found = |id| HashMap::from([(Position::new(3), Uuid::from_u128(id))]);
        assert_eq!(to_look_up(&marks, mark(5, 5)), [Position::new(3)]);
        assert_eq!(check(&marks, mark(5, 5), &found(3)), Ok(()));
        let other = |position| Err(HistoryError::OtherEvent(Position::new(position)));
        assert_eq!(check(&marks, mark(5, 5), &found(4)), other(3));
        assert_eq!(check(&marks, mark(5, 6), &found(3)), other(5));
        let shorter = HistoryError::Shorter { checkpoint: Position::new(5), head: Position::new(4) };
        assert_eq!(check(&marks, mark(4, 4), &found(3)), Err(shorter));
        assert_eq!(check(&marks[..1], beginning, &HashMap::new()), Ok(()));
    }
}
