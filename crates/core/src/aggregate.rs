//! Aggregates: the states that decisions are made over.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

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

    /// Takes one event in.
    fn apply(&mut self, event: &Self::Event);
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
