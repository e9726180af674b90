//! The states in use, held in memory and ahead of the log.
//!
//! A command is decided over them and its events are applied to them at once; the append is queued in the same
//! breath, under one lock, so appends come in the order of their decisions. A hundred commands to one stream ride in
//! one commit instead of waiting for a hundred. What makes it safe is that each append names the appends that it was
//! decided over ([`Append::after`](daybook_log::Append)): when one of them fails, so do those built on it, and what
//! they left here counts as not there.

use std::collections::HashMap;
use std::sync::Arc;

use daybook_core::{Missing, Position, Revision, Snapshot, State, States, StreamId};
use daybook_log::Ticket;
use tokio::sync::Notify;

/// The most streams that one append names.
const READ_MAX: usize = 1_000;

/// The states in use. Those that were not used for longest are dropped when there are too many.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Used since `older` was replaced.
    newer: HashMap<StreamId, Slot>,
    older: HashMap<StreamId, Slot>,
    half_max: usize,
    /// How many times something was loaded.
    loads: u64,
    /// The streams that are being loaded, and who is to be told when they are.
    loading: HashMap<StreamId, Arc<Notify>>,
}

/// A state, and how it came to be.
#[derive(Debug)]
struct Slot {
    state: State,
    /// The log's position at which the stream was known to be at this revision.
    read_at: Position,
    /// The last append that made it what it is, since it was loaded.
    last: Option<Ticket>,
    /// Which load it goes back to.
    load: u64,
}

impl Slot {
    /// Whether it was built on an append that failed.
    fn failed(&self) -> bool {
        self.last.as_ref().is_some_and(|ticket| ticket.outcome() == Some(false))
    }

    /// The append that it waits for.
    fn waits_for(&self) -> Option<&Ticket> {
        self.last.as_ref().filter(|ticket| ticket.outcome().is_none())
    }

    /// The append that it was built on, unless that is committed.
    fn uncommitted(&self) -> Option<&Ticket> {
        self.last.as_ref().filter(|ticket| ticket.outcome() != Some(true))
    }
}

impl States for Memory {
    fn state(&self, stream: &StreamId) -> Option<&State> {
        self.slot(stream).map(|slot| &slot.state)
    }
}

impl Memory {
    /// Holds at most `streams_max` states, and no fewer than one command may read.
    pub(crate) fn new(streams_max: usize) -> Self {
        let half_max = (streams_max / 2).max(READ_MAX);
        Self { newer: HashMap::new(), older: HashMap::new(), half_max, loads: 0, loading: HashMap::new() }
    }

    fn slot(&self, stream: &StreamId) -> Option<&Slot> {
        self.any_slot(stream).filter(|slot| !slot.failed())
    }

    /// The same, though it was built on an append that failed.
    fn any_slot(&self, stream: &StreamId) -> Option<&Slot> {
        self.newer.get(stream).or_else(|| self.older.get(stream))
    }

    /// Keeps what was loaded when the log was at `read_at`, unless something newer is there.
    pub(crate) fn insert(&mut self, loaded: Vec<Missing>, read_at: Position) {
        self.loads += 1;
        for loaded in loaded {
            let (stream, state) = loaded.into_state();
            match self.slot(&stream) {
                Some(slot) if slot.state.revision() >= state.revision() => {}
                _ => self.put(stream, Slot { state, read_at, last: None, load: self.loads }),
            }
        }
    }

    fn put(&mut self, stream: StreamId, slot: Slot) {
        if self.newer.len() >= self.half_max {
            self.older = std::mem::take(&mut self.newer);
        }
        self.older.remove(&stream);
        self.newer.insert(stream, slot);
    }

    /// The log's position at which the stream was known to be at its revision; `None` while that is not committed.
    pub(crate) fn read_at(&self, stream: &StreamId) -> Option<Position> {
        self.any_slot(stream).filter(|slot| slot.uncommitted().is_none()).map(|slot| slot.read_at)
    }

    /// The appends that the states of these streams were built on and that are not committed. Also those that failed: an
    /// append may fail at any time, also between the decision over what it left here and this question.
    pub(crate) fn built_on<'a>(&self, streams: impl Iterator<Item = &'a StreamId>) -> Vec<Ticket> {
        streams.filter_map(|stream| self.any_slot(stream)?.uncommitted().cloned()).collect()
    }

    /// Changes the state of a stream ahead of the log, by an append that was queued. `apply` says whether it could; if
    /// not, the state is dropped. Answers what to keep as a snapshot, when it is time for one.
    pub(crate) fn change(
        &mut self,
        stream: &StreamId,
        before: Revision,
        ticket: &Ticket,
        apply: impl FnOnce(&mut State) -> bool,
    ) -> Option<Snapshot> {
        let slot = self.newer.remove(stream).or_else(|| self.older.remove(stream));
        let mut slot = slot.filter(|slot| !slot.failed() && slot.state.revision() == before)?;
        if !apply(&mut slot.state) {
            return None;
        }
        slot.last = Some(ticket.clone());
        let due = slot.state.due_snapshot();
        self.put(stream.clone(), slot);
        due
    }

    /// The load that the state of a stream goes back to.
    pub(crate) fn load(&self, stream: &StreamId) -> Option<u64> {
        self.slot(stream).map(|slot| slot.load)
    }

    /// Drops the states that an append which was not committed had changed, unless they were loaded again since. What
    /// was built on them meanwhile will fail too. But it waits for its turn until then, and would be built on again,
    /// and so on without an end.
    pub(crate) fn undo(&mut self, changed: &[(StreamId, u64)]) {
        for (stream, load) in changed {
            if self.load(stream) == Some(*load) {
                self.forget(stream);
            }
        }
    }

    /// Takes note that streams were at these revisions when the log was at `position`.
    pub(crate) fn seen(&mut self, at: &[(StreamId, Revision)], position: Position) {
        for (stream, revision) in at {
            if let Some(slot) = self.older.remove(stream) {
                self.put(stream.clone(), slot);
            }
            if let Some(slot) = self.newer.get_mut(stream).filter(|slot| slot.state.revision() == *revision) {
                slot.read_at = slot.read_at.max(position);
            }
        }
    }

    /// Drops the state of a stream that the log has at another revision. One that waits for an append stays: it falls
    /// with the append, and may be newer already.
    pub(crate) fn outdated(&mut self, stream: &StreamId, actual: Revision) {
        let stays = |slot: &Slot| slot.waits_for().is_some() || slot.state.revision() == actual;
        if !self.slot(stream).is_some_and(stays) {
            self.forget(stream);
        }
    }

    /// Drops the state of a stream.
    pub(crate) fn forget(&mut self, stream: &StreamId) {
        self.newer.remove(stream);
        self.older.remove(stream);
    }

    /// Divides streams into those to be loaded now, and those that somebody loads already.
    pub(crate) fn begin_loading(&mut self, streams: Vec<Missing>) -> (Vec<Missing>, Vec<Arc<Notify>>) {
        let mut others = Vec::new();
        let mut own = Vec::new();
        for missing in streams {
            match self.loading.get(missing.stream()) {
                Some(loaded) => others.push(loaded.clone()),
                None => {
                    self.loading.insert(missing.stream().clone(), Arc::default());
                    own.push(missing);
                }
            }
        }
        (own, others)
    }

    /// Tells those who wait for these streams to look again.
    pub(crate) fn end_loading(&mut self, streams: &[StreamId]) {
        for loaded in streams.iter().filter_map(|stream| self.loading.remove(stream)) {
            loaded.notify_waiters();
        }
    }
}
