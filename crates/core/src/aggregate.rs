//! Aggregates: the states that decisions are made over.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{EventSet, Revision, StreamId};

/// A state that is nothing but the fold of one stream's events.
///
/// `Default` is the state before the first event. `apply` never fails and never decides: what is in the
/// stream has happened.
pub trait Aggregate: Default + Clone + fmt::Debug + Send + Sync + 'static {
    /// The category of its streams (`order`).
    const CATEGORY: &'static str;
    /// The events of its streams.
    type Event: EventSet;

    /// Whether its state is kept beside the log now and then, so that a long stream is loaded as fast as a short one.
    const SNAPSHOTS: Option<Snapshots<Self>> = None;

    /// Takes one event in.
    fn apply(&mut self, event: &Self::Event);

    /// About how many bytes its lists, maps and texts hold, besides what is in the struct itself. States are kept in
    /// memory up to a limit: one that grows with its stream has to say so. Asked after each event, so not to be counted
    /// one by one.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// When and how an aggregate's state is kept beside the log. A snapshot only saves time: one that cannot be read, or is
/// of another version, is passed over, and the state is folded from the first event on.
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<A> {
    /// The state's version. To be raised whenever the state's fields change, or what `apply` makes of an event.
    /// (`testing::check_snapshots` notices the former.)
    pub version: u32,
    /// After how many events another one is made.
    pub every: u64,
    pub(crate) encode: fn(&A) -> Result<String, serde_json::Error>,
    pub(crate) decode: fn(&str) -> Result<A, serde_json::Error>,
}

impl<A: Serialize + DeserializeOwned> Snapshots<A> {
    /// One after every so many events.
    pub const fn every(events: u64, version: u32) -> Self {
        Self {
            version,
            every: events,
            encode: |state| serde_json::to_string(state),
            decode: |text| serde_json::from_str(text),
        }
    }
}

/// An aggregate that was loaded: its stream, the stream's revision, and the state at that revision.
#[derive(Clone)]
pub struct Entity<A> {
    stream: StreamId,
    revision: Revision,
    state: Arc<A>,
}

impl<A: Aggregate> Entity<A> {
    pub(crate) fn new(stream: StreamId, revision: Revision, state: Arc<A>) -> Self {
        Self { stream, revision, state }
    }

    /// One that the caller knows not to exist yet (its id was just drawn). If it does, the append conflicts.
    pub fn absent(id: impl fmt::Display) -> Self {
        Self::new(StreamId::new(A::CATEGORY, id), Revision::NONE, Arc::new(A::default()))
    }

    /// Its stream.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The id in its stream's name.
    pub fn id(&self) -> &str {
        self.stream.id()
    }

    /// Its stream's revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether anything has happened to it yet.
    pub fn exists(&self) -> bool {
        self.revision != Revision::NONE
    }
}

impl<A> Deref for Entity<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.state
    }
}

impl<A: fmt::Debug> fmt::Debug for Entity<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {:?}", self.stream, self.revision, self.state)
    }
}
