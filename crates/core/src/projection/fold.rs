//! Folding batches of events into documents.

use std::any::Any;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use super::memory::Memory;
use super::{AnyProjection, Keys, Projection, ProjectionSpec};
use crate::{DecodeError, Envelope, EventType, Position, RecordedEvent, Revision, Shape, StreamId};

/// A document after some batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its key.
    pub key: String,
    /// Its JSON; `None` when it is gone.
    pub body: Option<String>,
    /// The position of the last event that touched it.
    pub position: Position,
    /// The revision of the stream that it stands for.
    pub revision: Revision,
}

/// An event that was not applied to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotApplied {
    /// The document's key.
    pub key: String,
    /// Which event of the batch.
    pub index: usize,
    /// Why; `None` when it only stands behind one that could not be applied.
    pub error: Option<String>,
}

/// A document that has no JSON form.
#[derive(Debug, thiserror::Error)]
#[error("the document `{key}` has no JSON form: {source}")]
pub struct Misshapen {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub source: serde_json::Error,
}

/// A batch of decoded events, ready to be folded.
pub trait Batch: Any + Send {
    /// The keys of the documents that it touches, each once.
    fn keys(&self) -> BTreeSet<&str>;
}

/// Documents in memory, as they are after the batches that were folded into them.
pub trait Documents: Send {
    /// Whether it is known what the document with this key is.
    fn knows(&self, key: &str) -> bool;

    /// Takes in a document as it is stored, with the revision of its stream; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When it is not of the view's shape. Then it is not known.
    fn load(&mut self, key: &str, stored: Option<(&str, Revision)>) -> Result<(), serde_json::Error>;

    /// Folds a batch of the same projection, in which the documents that are not known yet do not exist yet.
    ///
    /// `until` says from which position on nothing is applied to a document. An event that cannot be applied (its
    /// projection panics) leaves nothing that its document could be told from: it is not known any more, and nothing
    /// of the batch is applied to it behind that event.
    fn fold(&mut self, batch: &mut dyn Batch, until: &dyn Fn(&str) -> Option<Position>) -> Vec<NotApplied>;

    /// The documents that were changed since this was asked last, in the order of their keys.
    ///
    /// # Errors
    ///
    /// When one has no JSON form.
    fn changed(&mut self) -> Result<Vec<Changed>, Misshapen>;

    /// Gives away those that were changed, in the order in which they were met. No document is known any more.
    fn give_away(&mut self) -> GivenAway;

    /// How many bytes of memory they take. What is in documents is weighed in samples, and in those that grew much; with
    /// what holds them, it rather comes to too much.
    fn bytes(&self) -> usize;

    /// Forgets all of them.
    fn clear(&mut self);
}

/// Documents that are encoded one by one as they are asked for: what one takes in memory is given back by then.
pub type GivenAway = Box<dyn Iterator<Item = Result<Changed, Misshapen>> + Send>;

pub(super) struct Registered<P> {
    spec: ProjectionSpec,
    shape: Shape,
    marker: PhantomData<fn() -> P>,
}

impl<P: Projection> Registered<P> {
    pub(super) fn new() -> Self {
        Self { spec: P::spec(), shape: Shape::of::<P::View>(), marker: PhantomData }
    }
}

impl<P: Projection> AnyProjection for Registered<P> {
    fn spec(&self) -> &ProjectionSpec {
        &self.spec
    }

    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn event_types(&self) -> &'static [EventType] {
        <P::Event as crate::EventSet>::TYPES
    }

    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<P::View>()
    }

    fn open(
        &self,
        events: Arc<[RecordedEvent]>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Box<dyn Batch>, DecodeError> {
        let mut touching = Vec::with_capacity(events.len());
        for (index, record) in events.iter().enumerate() {
            if let Some(event) = Envelope::<P::Event>::open(record)? {
                let mut keys = Keys::default();
                P::keys(&event, &mut keys);
                debug_assert!(
                    keys.0.iter().all(|key| self.streams(key).is_none_or(|all| all.contains(&record.stream))),
                    "`{}` does not declare that events of {} touch {:?}",
                    self.spec.name,
                    record.stream,
                    keys.0
                );
                keys.0.retain(|key| wanted(key));
                if !keys.0.is_empty() {
                    touching.push(Touching { index, event: Some(event.event), keys: keys.0 });
                }
            }
        }
        Ok(Box::new(Opened::<P> { events, touching }))
    }

    fn streams(&self, key: &str) -> Option<Vec<StreamId>> {
        let categories = P::categories();
        // A key that is no stream's id has none: whoever asks for it from outside learns that there is no such document.
        let streams = categories.iter().filter_map(|category| format!("{category}-{key}").parse().ok());
        (!categories.is_empty()).then(|| streams.collect())
    }

    fn documents(&self) -> Box<dyn Documents> {
        Box::new(Memory::<P>::new(self.spec.category))
    }
}

pub(super) struct Opened<P: Projection> {
    pub(super) events: Arc<[RecordedEvent]>,
    pub(super) touching: Vec<Touching<P::Event>>,
}

/// An event and the documents that it touches.
pub(super) struct Touching<E> {
    pub(super) index: usize,
    /// Always there, but while it is folded.
    pub(super) event: Option<E>,
    pub(super) keys: Vec<String>,
}

impl<P: Projection> Batch for Opened<P> {
    fn keys(&self) -> BTreeSet<&str> {
        self.touching.iter().flat_map(|touching| touching.keys.iter().map(String::as_str)).collect()
    }
}
