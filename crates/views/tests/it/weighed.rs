//! A projection of which it is told what its documents take in memory.

use std::sync::Arc;

use daybook_core::{
    AnyProjection, Batch, Changed, DecodeError, Documents, EventType, GivenAway, Misshapen, NotApplied, Position,
    ProjectionSpec, RecordedEvent, Revision, Shape, StreamId,
};

/// Told how many bytes documents take, whenever they are counted or go.
type Told = Arc<dyn Fn(usize) + Send + Sync>;

pub(crate) struct Weighed(pub(crate) Arc<dyn AnyProjection>, pub(crate) Told);

struct InMemory(Box<dyn Documents>, Told);

impl AnyProjection for Weighed {
    fn spec(&self) -> &ProjectionSpec {
        self.0.spec()
    }

    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    fn event_types(&self) -> &'static [EventType] {
        self.0.event_types()
    }

    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        self.0.schema(generator)
    }

    fn open(
        &self,
        events: Arc<[RecordedEvent]>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Box<dyn Batch>, DecodeError> {
        self.0.open(events, wanted)
    }

    fn streams(&self, key: &str) -> Option<Vec<StreamId>> {
        self.0.streams(key)
    }

    fn documents(&self) -> Box<dyn Documents> {
        Box::new(InMemory(self.0.documents(), self.1.clone()))
    }
}

impl Documents for InMemory {
    fn knows(&self, key: &str) -> bool {
        self.0.knows(key)
    }

    fn load(&mut self, key: &str, stored: Option<(&str, Revision)>) -> Result<(), serde_json::Error> {
        self.0.load(key, stored)
    }

    fn fold(&mut self, batch: &mut dyn Batch, until: &dyn Fn(&str) -> Option<Position>) -> Vec<NotApplied> {
        self.0.fold(batch, until)
    }

    fn changed(&mut self) -> Result<Vec<Changed>, Misshapen> {
        self.0.changed()
    }

    fn give_away(&mut self) -> GivenAway {
        (self.1)(0);
        self.0.give_away()
    }

    fn bytes(&self) -> usize {
        let bytes = self.0.bytes();
        (self.1)(bytes);
        bytes
    }

    fn clear(&mut self) {
        (self.1)(0);
        self.0.clear();
    }
}
