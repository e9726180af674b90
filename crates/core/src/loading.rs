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

use crate::{Aggregate, DecodeError, Entity, EventSet, RecordedEvent, Revision, StreamId};

/// Something that was asked for is not in memory yet. Hand it up with `?`.
#[derive(Debug)]
pub struct NotLoaded(());

/// An aggregate's state, its type erased.
trait AnyState: Any + Send + Sync {
    fn take(&mut self, record: &RecordedEvent) -> Result<(), DecodeError>;
}

impl<A: Aggregate> AnyState for A {
    fn take(&mut self, record: &RecordedEvent) -> Result<(), DecodeError> {
        let event = A::Event::decode(record)?.ok_or_else(|| DecodeError {
            position: record.position,
            event_type: record.event_type.clone(),
            schema_version: record.schema_version,
            reason: format!("a `{}` has no such event", A::CATEGORY),
        })?;
        self.apply(&event);
        Ok(())
    }
}

/// A stream that was asked for and is to be loaded: feed it the stream's events in order with
/// [`apply`](Self::apply), then hand it to [`Loaded::insert`].
pub struct Missing {
    stream: StreamId,
    revision: Revision,
    state: Box<dyn AnyState>,
}

impl Missing {
    /// The stream to load.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The revision reached so far.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes in the stream's next event.
    ///
    /// # Errors
    ///
    /// When the event is none that the aggregate knows.
    pub fn apply(&mut self, record: &RecordedEvent) -> Result<(), DecodeError> {
        debug_assert_eq!((&record.stream, record.revision), (&self.stream, self.revision.plus(1)));
        self.state.take(record)?;
        self.revision = record.revision;
        Ok(())
    }
}

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Missing({}@{})", self.stream, self.revision)
    }
}

/// The aggregates that are in memory for a decision.
#[derive(Default, Clone)]
pub struct Loaded {
    streams: HashMap<StreamId, (Revision, Arc<dyn AnyState>)>,
}

impl Loaded {
    /// Adds a stream that was loaded.
    pub fn insert(&mut self, loaded: Missing) {
        self.streams.insert(loaded.stream, (loaded.revision, Arc::from(loaded.state)));
    }

    /// The revision at which a stream was loaded, when it was.
    pub fn revision(&self, stream: &StreamId) -> Option<Revision> {
        self.streams.get(stream).map(|(revision, _)| *revision)
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.streams.iter().map(|(stream, (revision, _))| (stream, revision))).finish()
    }
}

/// What a command reads. Everything read through it is part of the decision: the append holds only if none of it
/// has changed meanwhile.
#[derive(Debug)]
pub struct Reads<'a> {
    loaded: &'a Loaded,
    missing: Vec<Missing>,
    read: Vec<(StreamId, Revision)>,
}

impl<'a> Reads<'a> {
    /// Reads from what is loaded.
    pub fn new(loaded: &'a Loaded) -> Self {
        Self { loaded, missing: Vec::new(), read: Vec::new() }
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
        let Some((revision, state)) = self.loaded.streams.get(&stream) else {
            if !self.missing.iter().any(|missing| missing.stream == stream) {
                self.missing.push(Missing { stream, revision: Revision::NONE, state: Box::new(A::default()) });
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
