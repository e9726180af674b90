//! Projections: views are folds of the log.

mod caught;
mod fold;
mod memory;
mod weight;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Access, DecodeError, Envelope, EventSet, EventType, RecordedEvent, Shape, StreamId};

pub use caught::caught;
pub use fold::{Batch, Changed, Documents, GivenAway, Misshapen, NotApplied};

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

    /// The categories of the streams that alone can touch a document, where they have its key for their id: then its
    /// history is read from there, and the log need not be gone through. None: its key does not tell. In debug builds, an
    /// event of another stream that touches it is a panic.
    fn categories() -> &'static [&'static str] {
        &[]
    }
}

/// What a projection says of itself.
#[derive(Debug, Clone)]
pub struct ProjectionSpec {
    /// The view's name in URLs and tables (`orders`).
    pub name: &'static str,
    /// Raised whenever the fold or the shape of its documents changes, unless it only takes in what it failed on before.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Field {
    /// Its name in queries, and its column's.
    pub name: &'static str,
    /// Where it stands in the document (`["total", "amount"]`).
    pub path: &'static [&'static str],
    /// Its type.
    pub kind: FieldKind,
}

/// The types of indexed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// Decodes a batch of events and finds out which documents it touches; documents that are not `wanted` are none of
    /// its concern. Events of other types are passed over.
    ///
    /// # Errors
    ///
    /// When an event cannot be read; the error names its position.
    fn open(
        &self,
        events: Arc<[RecordedEvent]>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Box<dyn Batch>, DecodeError>;
    /// The streams whose events can touch a document; see [`Projection::categories`].
    fn streams(&self, key: &str) -> Option<Vec<StreamId>>;
    /// A memory for its documents, with none in it.
    fn documents(&self) -> Box<dyn Documents>;
}

/// Registers a projection.
pub fn projection<P: Projection>() -> Arc<dyn AnyProjection> {
    Arc::new(fold::Registered::<P>::new())
}
