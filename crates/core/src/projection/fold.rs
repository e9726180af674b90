//! Folding batches of events into documents that are kept in memory.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{AnyProjection, Keys, Projection, ProjectionSpec};
use crate::{DecodeError, Envelope, EventType, Position, RecordedEvent, Revision, Shape, StreamId};

/// What a document takes in memory beside its content, in bytes; a guess.
const OVERHEAD_BYTES: usize = 160;

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

    /// How many bytes they take, more or less.
    fn bytes(&self) -> usize;

    /// Forgets all of them.
    fn clear(&mut self);
}

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
        let category = self.spec.category;
        Box::new(Memory::<P> { category, known: HashMap::new(), changed: Vec::new(), bytes: 0 })
    }
}

struct Opened<P: Projection> {
    events: Arc<[RecordedEvent]>,
    touching: Vec<Touching<P::Event>>,
}

/// An event and the documents that it touches.
struct Touching<E> {
    index: usize,
    /// Always there, but while it is folded.
    event: Option<E>,
    keys: Vec<String>,
}

impl<P: Projection> Batch for Opened<P> {
    fn keys(&self) -> BTreeSet<&str> {
        self.touching.iter().flat_map(|touching| touching.keys.iter().map(String::as_str)).collect()
    }
}

struct Memory<P: Projection> {
    category: &'static str,
    known: HashMap<String, Known<P::View>>,
    /// Those that say of themselves that they changed, and maybe some that are not known any more.
    changed: Vec<String>,
    bytes: usize,
}

struct Known<V> {
    view: Option<V>,
    position: Position,
    revision: Revision,
    /// Whether there is one in the database.
    is_stored: bool,
    /// Whether it was changed since that was asked last.
    is_changed: bool,
    bytes: usize,
}

impl<V> Known<V> {
    fn none() -> Self {
        let (position, revision) = (Position::START, Revision::NONE);
        Self { view: None, position, revision, is_stored: false, is_changed: false, bytes: OVERHEAD_BYTES }
    }
}

impl<P: Projection> Memory<P> {
    fn insert(&mut self, key: &str, known: Known<P::View>) {
        self.forget(key);
        self.bytes += known.bytes + key.len();
        self.known.insert(key.to_owned(), known);
    }

    fn forget(&mut self, key: &str) {
        if let Some(known) = self.known.remove(key) {
            self.bytes -= known.bytes + key.len();
        }
    }

    /// Applies an event to a document; whether it could be.
    fn apply(&mut self, key: &str, event: &Envelope<'_, P::Event>) -> Result<(), String> {
        let document = match self.known.get_mut(key) {
            Some(document) => document,
            None => {
                self.bytes += OVERHEAD_BYTES + key.len();
                self.known.entry(key.to_owned()).or_insert(Known::none())
            }
        };
        caught(|| P::apply(key, &mut document.view, event))?;
        document.position = event.record.position;
        if document.view.is_none() {
            // Nothing is stored of it, so that nothing of it may be known in memory either.
            document.revision = Revision::NONE;
        } else if event.record.stream.category() == self.category && event.record.stream.id() == key {
            document.revision = event.record.revision;
        }
        let grown = event.record.payload.get().len();
        document.bytes += grown;
        self.bytes += grown;
        if !std::mem::replace(&mut document.is_changed, true) {
            self.changed.push(key.to_owned());
        }
        Ok(())
    }
}

impl<P: Projection> Documents for Memory<P> {
    fn knows(&self, key: &str) -> bool {
        self.known.contains_key(key)
    }

    fn load(&mut self, key: &str, stored: Option<(&str, Revision)>) -> Result<(), serde_json::Error> {
        let known = match stored {
            None => Known::none(),
            Some((body, revision)) => {
                let (view, bytes) = (Some(converted(|| serde_json::from_str(body))?), OVERHEAD_BYTES + body.len());
                Known { view, position: Position::START, revision, is_stored: true, is_changed: false, bytes }
            }
        };
        self.insert(key, known);
        Ok(())
    }

    fn fold(&mut self, batch: &mut dyn Batch, until: &dyn Fn(&str) -> Option<Position>) -> Vec<NotApplied> {
        let mut not_applied: Vec<NotApplied> = Vec::new();
        // Whoever mixes two projections up has made a mistake in the program.
        let Some(batch) = (batch as &mut dyn Any).downcast_mut::<Opened<P>>() else { return not_applied };
        let mut failed: BTreeSet<String> = BTreeSet::new();
        for touching in &mut batch.touching {
            let Some(event) = touching.event.take() else { continue };
            let (index, record) = (touching.index, &batch.events[touching.index]);
            let event = Envelope { event, record };
            for key in &touching.keys {
                let is_behind = failed.contains(key) || until(key).is_some_and(|until| record.position >= until);
                let error = match is_behind {
                    true => None,
                    false => match self.apply(key, &event) {
                        Ok(()) => continue,
                        Err(error) => Some(error),
                    },
                };
                if error.is_some() {
                    self.forget(key);
                    failed.insert(key.clone());
                }
                not_applied.push(NotApplied { key: key.clone(), index, error });
            }
            touching.event = Some(event.event);
        }
        not_applied
    }

    fn changed(&mut self) -> Result<Vec<Changed>, Misshapen> {
        let mut keys = std::mem::take(&mut self.changed);
        keys.sort_unstable();
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(document) = self.known.get_mut(&key) else { continue };
            if !std::mem::take(&mut document.is_changed) {
                continue;
            }
            let view = document.view.as_ref();
            let body = match view.map(|view| converted(|| serde_json::to_string(view))).transpose() {
                Ok(body) => body,
                Err(source) => return Err(Misshapen { key, source }),
            };
            let bytes = OVERHEAD_BYTES + body.as_ref().map_or(0, String::len);
            self.bytes = self.bytes - document.bytes + bytes;
            document.bytes = bytes;
            // What never was there need not be removed.
            if body.is_some() || document.is_stored {
                document.is_stored = body.is_some();
                all.push(Changed { key, body, position: document.position, revision: document.revision });
            }
        }
        Ok(all)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn clear(&mut self) {
        self.known.clear();
        self.changed.clear();
        self.bytes = 0;
    }
}

/// Runs a view's own conversion from or into JSON.
fn converted<T>(code: impl FnOnce() -> serde_json::Result<T>) -> serde_json::Result<T> {
    caught(code).unwrap_or_else(|panic| Err(serde::de::Error::custom(panic)))
}

/// Runs a projection's code. It is pure; what it worked on is given up when it panics.
fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("the projection panicked: {}", message.unwrap_or("no message"))
    })
}
