//! Events: what happened, once and for ever.

use std::any::Any;
use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{EventType, JsonText, Metadata, Position, Revision, StreamId, Upcaster};

/// One event contract: a plain struct with a stable name and a schema version.
///
/// ```
/// # use serde::{Serialize, Deserialize};
/// #[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct OrderCancelled { reason: String }
/// impl daybook_core::Event for OrderCancelled {
///     const TYPE: &'static str = "order.cancelled";
///     const VERSION: u32 = 1;
/// }
/// ```
///
/// The struct is the newest version. What was recorded in older ones is lifted to it when it is read; a newest version
/// that the older ones cannot be lifted to does not compile:
///
/// ```compile_fail,E0080
/// # #[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # struct OrderCancelled { reason: String }
/// impl daybook_core::Event for OrderCancelled {
///     const TYPE: &'static str = "order.cancelled";
///     const VERSION: u32 = 2;
/// }
/// daybook_core::event_set! { enum OrderEvent { OrderCancelled } }
/// ```
pub trait Event: Serialize + DeserializeOwned + JsonSchema + fmt::Debug + Send + Sync + 'static {
    /// The stable name that the log holds: lower case, dots between its parts (`order.placed`).
    const TYPE: &'static str;
    /// The version of the payload's schema that this struct describes, from 1.
    const VERSION: u32;
    /// What lifts the older versions: the first one version 1 to version 2, and so on up to [`VERSION`](Self::VERSION).
    const UPCASTERS: &'static [Upcaster] = &[];
}

/// A closed set of events, as an aggregate or a projection sees them: an enum over [`Event`]s, made by
/// [`event_set!`](crate::event_set).
pub trait EventSet: fmt::Debug + Sized + Send + Sync + 'static {
    /// The contracts in the set.
    const TYPES: &'static [EventType];

    /// Reads a recorded event; `Ok(None)` when its type is not in this set.
    ///
    /// # Errors
    ///
    /// When the type is in the set, but the version is unknown or the payload does not fit.
    fn decode(event: &RecordedEvent) -> Result<Option<Self>, DecodeError>;

    /// Reads an event of a stream that has none but those of this set.
    ///
    /// # Errors
    ///
    /// See [`decode`](Self::decode); also when the type is not in this set.
    fn require(event: &RecordedEvent) -> Result<Self, DecodeError> {
        let stranger =
            || event.unreadable(format_args!("this program knows no such event of `{}`", event.stream.category()));
        Self::decode(event)?.ok_or_else(stranger)
    }

    /// The type, version and JSON of an event that is to be appended.
    ///
    /// # Errors
    ///
    /// When the payload has no JSON form (a map with keys that are no strings, for instance).
    fn encode(&self) -> Result<Encoded, serde_json::Error>;
}

/// An event ready to be appended: its name, version and JSON.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// [`Event::TYPE`].
    pub event_type: &'static str,
    /// [`Event::VERSION`].
    pub schema_version: u32,
    /// The payload's JSON.
    pub payload: String,
}

/// An event of any set, its type erased until it is appended.
pub trait AnyEvent: fmt::Debug + Send + Sync {
    /// See [`EventSet::encode`].
    ///
    /// # Errors
    ///
    /// See [`EventSet::encode`].
    fn encode(&self) -> Result<Encoded, serde_json::Error>;
    /// The [`EventSet`] behind it.
    fn as_any(&self) -> &dyn Any;
    /// The same event with its personal fields sealed: what is read from this form of it.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn sealed(&self, sealed: Encoded) -> Result<Box<dyn AnyEvent>, DecodeError>;
}

impl<E: EventSet> AnyEvent for E {
    fn encode(&self) -> Result<Encoded, serde_json::Error> {
        EventSet::encode(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn sealed(&self, sealed: Encoded) -> Result<Box<dyn AnyEvent>, DecodeError> {
        let record = RecordedEvent {
            position: Position::START,
            stream: StreamId::new("new", "event"),
            revision: Revision::NONE,
            id: Uuid::nil(),
            event_type: sealed.event_type.to_owned(),
            schema_version: sealed.schema_version,
            recorded_at: DateTime::UNIX_EPOCH,
            metadata: JsonText::new("null"),
            payload: JsonText::new(sealed.payload),
        };
        Ok(Box::new(E::require(&record)?))
    }
}

/// An event as the log holds it. Payload and metadata are the exact bytes stored.
///
/// Its JSON form, with the keys in this order and no white space between them, is *the event's line*: what `daybook
/// events tail --json` prints, what later exports and audit proofs are made of, and what `/v1/events` answers once its
/// personal fields are opened, or closed, for whoever asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedEvent {
    /// Its place in the log.
    pub position: Position,
    /// The stream that it belongs to.
    pub stream: StreamId,
    /// Its place in the stream.
    pub revision: Revision,
    /// Its own id.
    pub id: Uuid,
    /// The contract's name.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The contract's version.
    pub schema_version: u32,
    /// When it was recorded, in microseconds; never earlier than the event before it.
    #[serde(serialize_with = "micros")]
    pub recorded_at: DateTime<Utc>,
    /// Who, what and why: see [`Metadata`].
    pub metadata: JsonText,
    /// What happened.
    pub payload: JsonText,
}

fn micros<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

impl RecordedEvent {
    /// Reads the metadata.
    ///
    /// # Errors
    ///
    /// When it does not have the shape of [`Metadata`].
    pub fn metadata(&self) -> Result<Metadata, serde_json::Error> {
        serde_json::from_str(self.metadata.get())
    }

    /// Reads the payload as the contract `E`, lifted to its newest version. [`event_set!`](crate::event_set) calls this
    /// for the contract whose name the event bears.
    ///
    /// # Errors
    ///
    /// When the version is none of the contract's, or the payload cannot be lifted or does not fit it.
    pub fn read<E: Event>(&self) -> Result<E, DecodeError> {
        let read = match self.schema_version == E::VERSION {
            true => serde_json::from_str(self.payload.get()),
            false => E::deserialize(EventType::of::<E>().lift(self)?),
        };
        read.map_err(|error| self.unreadable(error))
    }

    /// The error that says why this event cannot be read.
    pub(crate) fn unreadable(&self, reason: impl fmt::Display) -> DecodeError {
        DecodeError {
            position: self.position,
            event_type: self.event_type.clone(),
            schema_version: self.schema_version,
            reason: reason.to_string(),
        }
    }
}

/// An event that cannot be read. Whoever meets one stops and says where; nothing is skipped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the event at position {position} (`{event_type}` version {schema_version}) cannot be read: {reason}")]
pub struct DecodeError {
    /// Where it stands.
    pub position: Position,
    /// Its type.
    pub event_type: String,
    /// Its version.
    pub schema_version: u32,
    /// What is wrong with it.
    pub reason: String,
}

/// A decoded event together with where it stands.
#[derive(Debug)]
pub struct Envelope<'a, E> {
    /// The event.
    pub event: E,
    /// The record that it was read from: position, stream, revision, time, metadata.
    pub record: &'a RecordedEvent,
}

impl<'a, E: EventSet> Envelope<'a, E> {
    /// Reads a record; `Ok(None)` when its type is not in the set.
    ///
    /// # Errors
    ///
    /// See [`EventSet::decode`].
    pub fn open(record: &'a RecordedEvent) -> Result<Option<Self>, DecodeError> {
        Ok(E::decode(record)?.map(|event| Self { event, record }))
    }
}

/// Declares an [`EventSet`]: an enum with one variant for each event contract, named like it.
///
/// ```
/// # use daybook_core::{Event, EventSet};
/// #[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// pub struct LampLit {}
/// # impl Event for LampLit { const TYPE: &'static str = "lamp.lit"; const VERSION: u32 = 1; }
/// #[derive(Debug, Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// pub struct LampDimmed { percent: u8 }
/// # impl Event for LampDimmed { const TYPE: &'static str = "lamp.dimmed"; const VERSION: u32 = 1; }
///
/// daybook_core::event_set! {
///     /// What happens to a lamp.
///     pub enum LampEvent { LampLit, LampDimmed }
/// }
/// assert_eq!(LampEvent::from(LampDimmed { percent: 5 }).encode()?.payload, r#"{"percent":5}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[macro_export]
macro_rules! event_set {
    ($(#[$meta:meta])* $vis:vis enum $set:ident { $($event:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        #[allow(clippy::enum_variant_names, reason = "they are named like the events")]
        $vis enum $set {
            $(#[doc = concat!("See [`", stringify!($event), "`].")] $event($event)),+
        }

        $(impl From<$event> for $set {
            fn from(event: $event) -> Self {
                Self::$event(event)
            }
        })+

        // Evaluated wherever the set is compiled, so that a contract without its upcasters is no program.
        const _: &[$crate::EventType] = <$set as $crate::EventSet>::TYPES;

        impl $crate::EventSet for $set {
            const TYPES: &'static [$crate::EventType] = &[$($crate::EventType::of::<$event>()),+];

            fn decode(record: &$crate::RecordedEvent) -> Result<Option<Self>, $crate::DecodeError> {
                $(if record.event_type == <$event as $crate::Event>::TYPE {
                    return record.read::<$event>().map(|event| Some(Self::$event(event)));
                })+
                Ok(None)
            }

            fn encode(&self) -> Result<$crate::Encoded, $crate::__serde_json::Error> {
                match self {
                    $(Self::$event(event) => Ok($crate::Encoded {
                        event_type: <$event as $crate::Event>::TYPE,
                        schema_version: <$event as $crate::Event>::VERSION,
                        payload: $crate::__serde_json::to_string(event)?,
                    })),+
                }
            }
        }
    };
}

#[cfg(test)]
mod tests;
