//! Projections: views are folds of the log.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Access, DecodeError, Envelope, EventSet, EventType, Position, RecordedEvent, Revision, Shape};

/// A pure fold: which events it wants, which documents an event touches, and how it changes each.
pub trait Projection: Send + Sync + 'static {
    /// The events that it wants.
    type Event: EventSet;
    /// A document of the view.
    type View: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// Its name, version, indexed fields, and who may read it.
    fn spec() -> ProjectionSpec;

    /// The keys of the documents that an event touches.
    fn keys(event: &Envelope<'_, Self::Event>, keys: &mut Keys);

    /// Changes one of them. `None` is a document that does not exist; leaving `None` removes it.
    ///
    /// `key` tells which of the touched documents this is.
    fn apply(key: &str, view: &mut Option<Self::View>, event: &Envelope<'_, Self::Event>);
}

/// What a projection says of itself.
#[derive(Debug, Clone)]
pub struct ProjectionSpec {
    /// The view's name in URLs and tables (`orders`).
    pub name: &'static str,
    /// Raised whenever the fold or the shape of its documents changes.
    pub version: u32,
    /// One sentence for the API's description.
    pub summary: &'static str,
    /// The category of the streams that its documents stand for: the document `K` bears the revision of the
    /// stream `category-K`, which is what `If-Match` wants.
    pub category: &'static str,
    /// The fields that are indexed, and so can be filtered and sorted on.
    pub fields: &'static [Field],
    /// The lists that are often asked for, each as the names of fields: those that it is filtered by, and then the one
    /// that it is sorted by (`&["status", "placed_at"]`). Each gets an index of its own, beside those of single fields. A
    /// list of what somebody owns begins with the owner's field.
    pub indexes: &'static [&'static [&'static str]],
    /// Who may read it.
    pub access: Access,
    /// The indexed field that holds the owner's account id, when documents have owners.
    pub owner: Option<&'static str>,
}

/// An indexed field: a typed column beside the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// Its name in queries, and its column's.
    pub name: &'static str,
    /// Where it stands in the document (`["total", "amount"]`).
    pub path: &'static [&'static str],
    /// Its type.
    pub kind: FieldKind,
}

/// The types of indexed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldKind {
    /// A text, sorted by its bytes; also ids.
    Text,
    /// A whole number.
    Integer,
    /// A time, in the one form that sorts as text: RFC 3339 in UTC with six digits (`2026-01-31T09:15:00.000000Z`).
    Time,
    /// Yes or no.
    Bool,
}

/// Collects the keys of the documents that an event touches.
#[derive(Debug, Default)]
pub struct Keys(Vec<String>);

impl Keys {
    /// Adds one.
    pub fn add(&mut self, key: impl Into<String>) {
        let key = key.into();
        if !self.0.contains(&key) {
            self.0.push(key);
        }
    }
}

/// A document after a batch.
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

/// A projection, its types erased.
pub trait AnyProjection: Send + Sync {
    /// See [`Projection::spec`].
    fn spec(&self) -> &ProjectionSpec;
    /// What its documents look like.
    fn shape(&self) -> &Shape;
    /// The events that it wants.
    fn event_types(&self) -> &'static [EventType];
    /// The JSON Schema of a document, out of a generator that gathers what several schemas share.
    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
    /// Decodes a batch of events and finds out which documents it touches. Events of other types are passed over.
    ///
    /// # Errors
    ///
    /// When an event cannot be read; the error names its position.
    fn open<'a>(&self, events: &'a [RecordedEvent]) -> Result<Box<dyn Batch + 'a>, DecodeError>;
}

/// A batch of decoded events, ready to be folded.
pub trait Batch: Send {
    /// The keys of the documents that it touches, each once.
    fn keys(&self) -> Vec<String>;

    /// Folds it into the documents: `stored` holds those of [`keys`](Self::keys) that exist, as JSON with their
    /// revision.
    ///
    /// # Errors
    ///
    /// When a stored document is not of the view's shape, or a new one has no JSON form.
    fn fold(
        self: Box<Self>,
        stored: &HashMap<String, (String, Revision)>,
    ) -> Result<Vec<Changed>, serde_json::Error>;
}

/// Registers a projection.
pub fn projection<P: Projection>() -> Arc<dyn AnyProjection> {
    Arc::new(Registered::<P> { spec: P::spec(), shape: Shape::of::<P::View>(), marker: PhantomData })
}

struct Registered<P> {
    spec: ProjectionSpec,
    shape: Shape,
    marker: PhantomData<fn() -> P>,
}

impl<P: Projection> AnyProjection for Registered<P> {
    fn spec(&self) -> &ProjectionSpec {
        &self.spec
    }

    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn event_types(&self) -> &'static [EventType] {
        P::Event::TYPES
    }

    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<P::View>()
    }

    fn open<'a>(&self, events: &'a [RecordedEvent]) -> Result<Box<dyn Batch + 'a>, DecodeError> {
        let mut touching = Vec::with_capacity(events.len());
        for record in events {
            if let Some(event) = Envelope::<P::Event>::open(record)? {
                let mut keys = Keys::default();
                P::keys(&event, &mut keys);
                touching.push((event, keys.0));
            }
        }
        Ok(Box::new(Opened::<P> { category: self.spec.category, touching }))
    }
}

struct Opened<'a, P: Projection> {
    category: &'static str,
    touching: Vec<(Envelope<'a, P::Event>, Vec<String>)>,
}

impl<P: Projection> Batch for Opened<'_, P> {
    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.touching.iter().flat_map(|(_, keys)| keys.iter().cloned()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn fold(
        self: Box<Self>,
        stored: &HashMap<String, (String, Revision)>,
    ) -> Result<Vec<Changed>, serde_json::Error> {
        struct Document<V> {
            view: Option<V>,
            position: Position,
            revision: Revision,
        }
        let mut documents: HashMap<&str, Document<P::View>> = HashMap::new();
        for (event, keys) in &self.touching {
            for key in keys {
                if !documents.contains_key(key.as_str()) {
                    let document = match stored.get(key) {
                        Some((body, revision)) => Document {
                            view: Some(serde_json::from_str(body)?),
                            position: Position::START,
                            revision: *revision,
                        },
                        None => Document { view: None, position: Position::START, revision: Revision::NONE },
                    };
                    documents.insert(key, document);
                }
                if let Some(document) = documents.get_mut(key.as_str()) {
                    P::apply(key, &mut document.view, event);
                    document.position = event.record.position;
                    if document.view.is_none() {
                        // Nothing is stored of it, so that nothing of it may be known in the same batch either.
                        document.revision = Revision::NONE;
                    } else if event.record.stream.category() == self.category && event.record.stream.id() == key {
                        document.revision = event.record.revision;
                    }
                }
            }
        }
        let mut changed = documents
            .into_iter()
            .map(|(key, document)| {
                Ok(Changed {
                    key: key.to_owned(),
                    body: document.view.as_ref().map(serde_json::to_string).transpose()?,
                    position: document.position,
                    revision: document.revision,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        changed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(changed)
    }
}
