//! The states in use, held in memory and ahead of the log.
//!
//! A command is decided over them and its events are applied to them at once; the append is queued in the same
//! breath, under one lock, so appends come in the order of their decisions. A hundred commands to one stream ride in
//! one commit instead of waiting for a hundred. What makes it safe is that each append names the appends that it was
//! decided over ([`Append::after`](daybook_log::Append)): when one of them fails, so do those built on it, and what
//! they left here counts as not there.

use std::sync::Arc;

use ahash::{HashMap, HashMapExt};
use daybook_core::{Missing, Position, Revision, Snapshot, State, States, StreamId};
use daybook_log::Ticket;
use tokio::sync::Notify;

/// The most streams that one append names.
const READ_MAX: usize = 1_000;

/// About how many bytes a slot takes besides its state: its place in the map, its stream's name, its ticket.
const SLOT_BYTES: usize = 256;

/// The states in use. Those that were not used for longest are dropped when there are too many.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Used since `older` was replaced.
    newer: Slots,
    older: Slots,
    half_streams_max: usize,
    half_bytes_max: usize,
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

/// Slots, and about how many bytes they hold.
#[derive(Debug, Default)]
struct Slots {
    slots: HashMap<StreamId, (Slot, usize)>,
    bytes: usize,
}

impl Slots {
    fn get(&self, stream: &StreamId) -> Option<&Slot> {
        self.slots.get(stream).map(|(slot, _)| slot)
    }

    fn put(&mut self, stream: StreamId, slot: Slot) {
        let bytes = SLOT_BYTES + slot.state.bytes();
        self.bytes += bytes;
        if let Some((_, before)) = self.slots.insert(stream, (slot, bytes)) {
            self.bytes -= before;
        }
    }

    fn remove(&mut self, stream: &StreamId) -> Option<Slot> {
        let (slot, bytes) = self.slots.remove(stream)?;
        self.bytes -= bytes;
        Some(slot)
    }
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
    /// Holds at most `streams_max` states of about `bytes_max` bytes, and no fewer than one command may read.
    pub(crate) fn new(streams_max: usize, bytes_max: usize) -> Self {
        Self {
            newer: Slots::default(),
            older: Slots::default(),
            half_streams_max: streams_max / 2,
            half_bytes_max: bytes_max / 2,
            loads: 0,
            loading: HashMap::new(),
        }
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
        let streams = self.newer.slots.len();
        let full = streams >= self.half_streams_max || self.newer.bytes >= self.half_bytes_max;
        if full && streams >= READ_MAX {
            self.grow_old();
        }
        self.older.remove(&stream);
        self.newer.put(stream, slot);
    }

    /// Drops what was not used since this was called before.
    pub(crate) fn grow_old(&mut self) {
        self.older = std::mem::take(&mut self.newer);
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
            let slot = self.newer.slots.get_mut(stream).map(|(slot, _)| slot);
            if let Some(slot) = slot.filter(|slot| slot.state.revision() == *revision) {
                slot.read_at = slot.read_at.max(position);
                slot.last = slot.uncommitted().cloned();
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

#[cfg(test)]
mod tests {
    use daybook_core::{
        Access, Actor, Aggregate, AnyCommand, Command, Context, Decision, Entity, Event, NotLoaded, Outcome,
        Reads, Rejection, event_set,
    };
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    struct Written {
        text: String,
    }

    impl Event for Written {
        const TYPE: &'static str = "note.written";
        const VERSION: u32 = 1;
    }

    event_set! {
        enum NoteEvent { Written }
    }

    #[derive(Debug, Clone, Default)]
    struct Note(String);

    impl Aggregate for Note {
        const CATEGORY: &'static str = "note";
        type Event = NoteEvent;

        fn apply(&mut self, NoteEvent::Written(written): &NoteEvent) {
            self.0.clone_from(&written.text);
        }

        fn heap_bytes(&self) -> usize {
            self.0.len()
        }
    }

    /// Reads the notes up to a number.
    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, garde::Validate)]
    struct ReadNotes(#[garde(skip)] usize);

    impl Command for ReadNotes {
        const NAME: &'static str = "note.read";
        const ACCESS: Access = Access::anyone();
        type Model = Vec<Entity<Note>>;

        fn target(&self, _: &Context) -> StreamId {
            note(0)
        }

        fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
            reads.all(0..self.0)
        }

        fn handle(&self, _: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
            Ok(Decision::new())
        }
    }

    fn note(number: usize) -> StreamId {
        StreamId::new(Note::CATEGORY, number)
    }

    /// A memory that holds about `bytes_max`, in which so many notes of `bytes` each were put one after the other.
    fn filled(bytes_max: usize, notes: usize, bytes: usize) -> Memory {
        let mut memory = Memory::new(1_000_000, bytes_max);
        let context = Context {
            actor: Actor::System("test"),
            now: chrono::DateTime::UNIX_EPOCH,
            command_id: Uuid::nil(),
            fresh_id: Uuid::nil(),
        };
        let command: &dyn AnyCommand = &ReadNotes(notes);
        let Outcome::Missing(missing) = command.decide(&memory, &context) else { panic!("nothing is loaded yet") };
        for mut missing in missing {
            let written = Written { text: "n".repeat(bytes) };
            assert!(missing.state().apply(&NoteEvent::from(written)), "a note takes it");
            memory.insert(vec![missing], Position::START);
        }
        memory
    }

    fn held(memory: &Memory, notes: usize) -> Vec<usize> {
        (0..notes).filter(|number| memory.state(&note(*number)).is_some()).collect()
    }

    #[test]
    fn few_large_states_take_the_room_of_many_small_ones() {
        assert_eq!(held(&filled(10 << 20, 5_000, 10), 5_000).len(), 5_000);
        let large = filled(10 << 20, 5_000, 10_000);
        assert_eq!(held(&large, 5_000), (3_000..5_000).collect::<Vec<_>>(), "twice what one command may read");
    }

    #[test]
    fn what_is_held_is_counted() {
        let mut memory = filled(10 << 20, 2, 10_000);
        assert!((20_000..21_000).contains(&memory.newer.bytes), "{}", memory.newer.bytes);
        memory.forget(&note(0));
        assert!((10_000..10_500).contains(&memory.newer.bytes), "{}", memory.newer.bytes);
        memory.grow_old();
        memory.seen(&[(note(1), Revision::new(1))], Position::new(1));
        memory.forget(&note(1));
        assert_eq!((memory.newer.bytes, memory.older.bytes), (0, 0));
    }

    #[test]
    fn what_is_used_stays() {
        let mut memory = filled(10 << 20, 3, 10);
        memory.grow_old();
        memory.seen(&[(note(1), Revision::new(1))], Position::new(1));
        memory.grow_old();
        assert_eq!(held(&memory, 3), [1]);
        memory.grow_old();
        assert_eq!(held(&memory, 3), [0; 0]);
    }
}
