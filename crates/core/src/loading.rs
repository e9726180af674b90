//! How a pure function says which streams it reads.
//!
//! A command's [`load`](crate::Command::load) asks [`Reads`] for aggregates. What is not in memory yet is noted,
//! and the function is left with [`NotLoaded`]; the runtime then loads all that was noted, in one query, and
//! calls it again. So a decision model can depend on what was read (an order's lines name its stock items), and
//! no I/O enters the domain.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::{Aggregate, AnyEvent, DecodeError, Entity, EventSet, RecordedEvent, Revision, StreamId};

/// Something that was asked for is not in memory yet. Hand it up with `?`.
#[derive(Debug)]
pub struct NotLoaded(());

/// An aggregate's state, its type erased.
trait AnyState: Any + Send + Sync {
    fn take_record(&mut self, record: &RecordedEvent) -> Result<(), DecodeError>;
    /// Whether the event is one of the aggregate's.
    fn take(&mut self, event: &dyn AnyEvent) -> bool;
    fn copy(&self) -> Arc<dyn AnyState>;
    fn bytes(&self) -> usize;
    /// The version of its snapshots and after how many events there is another one, if there are any.
    fn snapshots(&self) -> Option<(u32, u64)>;
    fn encode(&self) -> Option<Result<String, serde_json::Error>>;
    /// The state that a snapshot of the right version holds.
    fn decode(&self, snapshot: &str) -> Option<Result<Arc<dyn AnyState>, serde_json::Error>>;
}

impl<A: Aggregate> AnyState for A {
    fn take_record(&mut self, record: &RecordedEvent) -> Result<(), DecodeError> {
        let event = A::Event::require(record)?;
        self.apply(&event);
        Ok(())
    }

    fn take(&mut self, event: &dyn AnyEvent) -> bool {
        let event = event.as_any().downcast_ref::<A::Event>();
        event.map(|event| self.apply(event)).is_some()
    }

    fn copy(&self) -> Arc<dyn AnyState> {
        Arc::new(self.clone())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.heap_bytes()
    }

    fn snapshots(&self) -> Option<(u32, u64)> {
        A::SNAPSHOTS.map(|snapshots| (snapshots.version, snapshots.every))
    }

    fn encode(&self) -> Option<Result<String, serde_json::Error>> {
        A::SNAPSHOTS.map(|snapshots| (snapshots.encode)(self))
    }

    fn decode(&self, snapshot: &str) -> Option<Result<Arc<dyn AnyState>, serde_json::Error>> {
        let state = (A::SNAPSHOTS?.decode)(snapshot);
        Some(state.map(|state| Arc::new(state) as Arc<dyn AnyState>))
    }
}

/// An aggregate at some revision of its stream, its type erased. Cheap to clone.
#[derive(Clone)]
pub struct State {
    revision: Revision,
    /// The revision of the newest snapshot that was read or asked for.
    snapshot_at: Revision,
    state: Arc<dyn AnyState>,
}

impl State {
    fn new<A: Aggregate>() -> Self {
        Self { revision: Revision::NONE, snapshot_at: Revision::NONE, state: Arc::new(A::default()) }
    }

    /// The revision that it is at.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.state.bytes()
    }

    /// Takes in the stream's next event, as it was recorded.
    ///
    /// # Errors
    ///
    /// When the event is none that the aggregate knows.
    pub fn apply_record(&mut self, record: &RecordedEvent) -> Result<(), DecodeError> {
        debug_assert_eq!(record.revision, self.revision.plus(1));
        self.own().take_record(record)?;
        self.revision = record.revision;
        Ok(())
    }

    /// Takes in the stream's next event, as it was decided; says whether it is one of the aggregate's.
    #[must_use]
    pub fn apply(&mut self, event: &dyn AnyEvent) -> bool {
        let taken = self.own().take(event);
        self.revision = self.revision.plus(1);
        taken
    }

    /// The version of the aggregate's snapshots, if it has any.
    pub fn snapshot_version(&self) -> Option<u32> {
        self.state.snapshots().map(|(version, _)| version)
    }

    /// Goes on from a snapshot of the right version, which was made at `revision`.
    ///
    /// # Errors
    ///
    /// When it cannot be read; then nothing has changed.
    pub fn resume(&mut self, revision: Revision, snapshot: &str) -> Result<(), serde_json::Error> {
        if let Some(state) = self.state.decode(snapshot) {
            *self = Self { revision, snapshot_at: revision, state: state? };
        }
        Ok(())
    }

    /// What to keep as a snapshot, when it is time for one. It is asked for once.
    pub fn due_snapshot(&mut self) -> Option<Snapshot> {
        let (version, every) = self.state.snapshots()?;
        if self.revision.get() - self.snapshot_at.get() < every.max(1) {
            return None;
        }
        self.snapshot_at = self.revision;
        Some(Snapshot { revision: self.revision, version, state: self.state.clone() })
    }

    /// The state for changing. It is copied when somebody else still looks at it.
    fn own(&mut self) -> &mut dyn AnyState {
        if Arc::get_mut(&mut self.state).is_none() {
            self.state = self.state.copy();
        }
        match Arc::get_mut(&mut self.state) {
            Some(state) => state,
            None => unreachable!("it was just copied"),
        }
    }
}

/// A state to be kept beside the log.
#[derive(Clone)]
pub struct Snapshot {
    /// The revision that it is of.
    pub revision: Revision,
    /// The state's version.
    pub version: u32,
    state: Arc<dyn AnyState>,
}

impl Snapshot {
    /// Its text. That takes time.
    ///
    /// # Errors
    ///
    /// When the state has no JSON form.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        self.state.encode().unwrap_or_else(|| Ok(String::new()))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot(@{})", self.revision)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State(@{})", self.revision)
    }
}

/// A stream that was asked for and is to be loaded: feed it the stream's events in order with
/// [`apply`](Self::apply), then hand it to [`Loaded::insert`].
#[derive(Debug)]
pub struct Missing {
    stream: StreamId,
    state: State,
}

impl Missing {
    /// The stream to load.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The revision reached so far.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// Takes in the stream's next event.
    ///
    /// # Errors
    ///
    /// When the event is none that the aggregate knows.
    pub fn apply(&mut self, record: &RecordedEvent) -> Result<(), DecodeError> {
        debug_assert_eq!(record.stream, self.stream);
        self.state.apply_record(record)
    }

    /// The state reached so far.
    pub fn state(&mut self) -> &mut State {
        &mut self.state
    }

    /// The stream and its state, loaded.
    pub fn into_state(self) -> (StreamId, State) {
        (self.stream, self.state)
    }
}

/// Where the states are that a decision reads.
pub trait States {
    /// The state of a stream, when it is in memory.
    fn state(&self, stream: &StreamId) -> Option<&State>;
}

/// The aggregates that are in memory for a decision.
#[derive(Debug, Default, Clone)]
pub struct Loaded {
    streams: HashMap<StreamId, State>,
}

impl Loaded {
    /// Adds a stream that was loaded.
    pub fn insert(&mut self, loaded: Missing) {
        self.streams.insert(loaded.stream, loaded.state);
    }
}

impl States for Loaded {
    fn state(&self, stream: &StreamId) -> Option<&State> {
        self.streams.get(stream)
    }
}

/// What a command reads. Everything read through it is part of the decision: the append holds only if none of it
/// has changed meanwhile.
pub struct Reads<'a> {
    states: &'a dyn States,
    missing: Vec<Missing>,
    read: Vec<(StreamId, Revision)>,
}

impl<'a> Reads<'a> {
    /// Reads from what is in memory.
    pub fn new(states: &'a dyn States) -> Self {
        Self { states, missing: Vec::new(), read: Vec::new() }
    }

    /// The aggregate with this id; one that nothing has happened to yet when there is no such stream.
    ///
    /// To have several loaded at once, ask for all before the first `?`.
    ///
    /// # Errors
    ///
    /// When it is not in memory yet.
    ///
    /// # Panics
    ///
    /// When two aggregates share a category.
    pub fn get<A: Aggregate>(&mut self, id: impl fmt::Display) -> Result<Entity<A>, NotLoaded> {
        let stream = StreamId::new(A::CATEGORY, id);
        let Some(State { revision, state, .. }) = self.states.state(&stream) else {
            if !self.missing.iter().any(|missing| missing.stream == stream) {
                self.missing.push(Missing { stream, state: State::new::<A>() });
            }
            return Err(NotLoaded(()));
        };
        let state: Arc<dyn Any + Send + Sync> = state.clone();
        let Ok(state) = state.downcast::<A>() else {
            panic!("two aggregates share the category `{}`", A::CATEGORY)
        };
        if !self.read.iter().any(|(read, _)| *read == stream) {
            self.read.push((stream.clone(), *revision));
        }
        Ok(Entity::new(stream, *revision, state))
    }

    /// The aggregates with these ids, in their order.
    ///
    /// # Errors
    ///
    /// When one is not in memory yet; all that are not will be loaded.
    pub fn all<A: Aggregate>(
        &mut self,
        ids: impl IntoIterator<Item = impl fmt::Display>,
    ) -> Result<Vec<Entity<A>>, NotLoaded> {
        let entities: Vec<_> = ids.into_iter().map(|id| self.get(id)).collect();
        entities.into_iter().collect()
    }

    pub(crate) fn into_missing(self) -> Vec<Missing> {
        self.missing
    }

    pub(crate) fn into_read(self) -> Vec<(StreamId, Revision)> {
        self.read
    }
}
