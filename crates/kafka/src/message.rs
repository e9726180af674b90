//! Events as messages, and messages as events: CloudEvents 1.0 in the binary form of its Kafka binding.
//!
//! The value is the payload to the byte, the key is the stream. The headers hold all the rest of the event's line, and
//! which log and which epoch of it the event was published in: whoever reads a message has the very same
//! [`RecordedEvent`] again. What is personal is sealed there as it is in the log.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use daybook_core::{JsonText, RecordedEvent};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseRecord;
use serde::Deserialize;
use uuid::Uuid;

/// The log that an event was published from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The log's id.
    pub log_id: Uuid,
    /// Its epoch when the event was published. After a restore, the events behind the backup's end are other ones.
    pub epoch: u64,
}

/// What `ce_source` begins with; the log's id follows.
const SOURCE: &str = "urn:daybook:";

/// A header's name and value.
pub type Header<'a> = (&'static str, Cow<'a, str>);

/// An event as Kafka takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// The stream: what decides on the partition, and so keeps a stream's events in order.
    pub key: &'a str,
    /// The payload, byte for byte.
    pub value: &'a str,
    /// When the event was recorded, in milliseconds since 1970.
    pub timestamp: i64,
    /// All the rest.
    pub headers: Vec<Header<'a>>,
}

impl<'a> Message<'a> {
    /// The message of an event.
    pub fn new(event: &'a RecordedEvent, origin: &Origin) -> Self {
        let RecordedEvent {
            position,
            stream,
            revision,
            id,
            event_type,
            schema_version,
            recorded_at,
            metadata,
            payload,
        } = event;
        let mut headers: Vec<Header<'a>> = vec![
            ("ce_specversion", "1.0".into()),
            ("ce_id", id.to_string().into()),
            ("ce_type", event_type.as_str().into()),
            ("ce_source", format!("{SOURCE}{}", origin.log_id).into()),
            ("ce_subject", stream.as_str().into()),
            ("ce_time", recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true).into()),
            ("ce_dataschema", format!("{SOURCE}schema:{}:{schema_version}", Escaped(event_type)).into()),
            ("ce_sequence", position.to_string().into()),
            ("ce_revision", revision.to_string().into()),
            ("ce_schemaversion", schema_version.to_string().into()),
            ("ce_epoch", origin.epoch.to_string().into()),
            ("ce_metadata", metadata.get().into()),
            ("content-type", "application/json".into()),
        ];
        if let Some(traceparent) = traceparent(metadata) {
            headers.push(("traceparent", traceparent.into()));
        }
        Self { key: stream.as_str(), value: payload.get(), timestamp: recorded_at.timestamp_millis(), headers }
    }
}

impl Message<'_> {
    /// The message as a producer sends it.
    pub fn record<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, str, str> {
        let headers = OwnedHeaders::new_with_capacity(self.headers.len());
        let headers = self.headers.iter().fold(headers, |headers, (key, value)| {
            headers.insert(rdkafka::message::Header { key, value: Some(value.as_ref()) })
        });
        BaseRecord::to(topic).key(self.key).payload(self.value).timestamp(self.timestamp).headers(headers)
    }
}

/// An event's type as a part of a URI.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// The trace context among an event's metadata.
fn traceparent(metadata: &JsonText) -> Option<String> {
    #[derive(Deserialize)]
    struct Traced {
        traceparent: Option<String>,
    }
    // Few have one, and looking for it is quicker than parsing.
    metadata.get().contains("\"traceparent\"").then_some(())?;
    serde_json::from_str::<Traced>(metadata.get()).ok()?.traceparent
}

/// An event as it was read from a message.
#[derive(Debug, Clone)]
pub struct Published {
    /// Where it was published from.
    pub origin: Origin,
    /// The event.
    pub event: RecordedEvent,
}

/// Why a message is no event of a Daybook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A part is missing.
    #[error("the message has no `{0}`")]
    Missing(&'static str),
    /// A part is not what it has to be.
    #[error("the message's `{part}` is not right: {reason}")]
    Unfit {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Published {
    /// Reads a message.
    ///
    /// # Errors
    ///
    /// When it is no event of a Daybook.
    pub fn read<'a>(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, Unreadable> {
        let headers: Vec<_> = headers.collect();
        let header = |name: &'static str| {
            text(name, headers.iter().find(|(found, _)| *found == name).and_then(|(_, value)| *value))
        };
        fn parsed<T: std::str::FromStr>(part: &'static str, text: &str) -> Result<T, Unreadable>
        where
            T::Err: fmt::Display,
        {
            text.parse().map_err(|error: T::Err| unfit(part, error))
        }
        expect("ce_specversion", header("ce_specversion")?, "1.0")?;
        let key = text("key", key)?;
        expect("ce_subject", header("ce_subject")?, key)?;
        let log_id = header("ce_source")?
            .strip_prefix(SOURCE)
            .ok_or_else(|| unfit("ce_source", format_args!("it does not begin with {SOURCE}")))?;
        Ok(Self {
            origin: Origin {
                log_id: parsed("ce_source", log_id)?,
                epoch: parsed("ce_epoch", header("ce_epoch")?)?,
            },
            event: RecordedEvent {
                position: parsed("ce_sequence", header("ce_sequence")?)?,
                stream: parsed("key", key)?,
                revision: parsed("ce_revision", header("ce_revision")?)?,
                id: parsed("ce_id", header("ce_id")?)?,
                event_type: header("ce_type")?.to_owned(),
                schema_version: parsed("ce_schemaversion", header("ce_schemaversion")?)?,
                recorded_at: parsed::<DateTime<Utc>>("ce_time", header("ce_time")?)?,
                metadata: JsonText::new(header("ce_metadata")?),
                payload: JsonText::new(text("value", value)?),
            },
        })
    }
}

fn text<'a>(part: &'static str, bytes: Option<&'a [u8]>) -> Result<&'a str, Unreadable> {
    std::str::from_utf8(bytes.ok_or(Unreadable::Missing(part))?).map_err(|error| unfit(part, error))
}

fn expect(part: &'static str, is: &str, due: &str) -> Result<(), Unreadable> {
    if is == due { Ok(()) } else { Err(unfit(part, format_args!("it is `{is}` and not `{due}`"))) }
}

fn unfit(part: &'static str, reason: impl fmt::Display) -> Unreadable {
    Unreadable::Unfit { part, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Position, Revision, StreamId};

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn event(metadata: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(4_711),
            stream: StreamId::new("order", "018f"),
            revision: Revision::new(3),
            id: Uuid::from_u128(7),
            event_type: "order.placed".into(),
            schema_version: 2,
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_450).expect("a time"),
            metadata: JsonText::new(metadata),
            payload: JsonText::new(r#"{ "b" : 1.0e2,"a":["ä", {"subject":"account-1","of":"x/y","sealed":"…"}]}"#),
        }
    }

    fn origin() -> Origin {
        Origin { log_id: Uuid::from_u128(9), epoch: 2 }
    }

    fn read(message: &Message<'_>) -> Result<Published, Unreadable> {
        let headers = message.headers.iter().map(|(name, value)| (*name, Some(value.as_bytes())));
        Published::read(Some(message.key.as_bytes()), Some(message.value.as_bytes()), headers)
    }

    /// To the byte: both of them have one form as a line.
    #[test]
    fn what_is_read_is_what_was_published() {
        let traced = format!(r#"{{"command":"order.place" , "traceparent":"{TRACE}"}}"#);
        for metadata in [r#"{"command":"order.place"}"#, &traced] {
            let event = event(metadata);
            let published = read(&Message::new(&event, &origin())).expect("an event");
            assert_eq!(published.origin, origin());
            let line = |event| serde_json::to_string(event).expect("JSON");
            assert_eq!(line(&published.event), line(&event));
        }
    }

    #[test]
    fn a_message_is_a_cloud_event() {
        let event = event(&format!(r#"{{"traceparent":"{TRACE}"}}"#));
        let message = Message::new(&event, &origin());
        assert_eq!((message.key, message.value), (event.stream.as_str(), event.payload.get()));
        assert_eq!(message.timestamp, 1_700_000_000_123);
        let of = |name: &str| message.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| &**value);
        for (name, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", "00000000-0000-0000-0000-000000000007"),
            ("ce_type", "order.placed"),
            ("ce_source", "urn:daybook:00000000-0000-0000-0000-000000000009"),
            ("ce_subject", event.stream.as_str()),
            ("ce_time", "2023-11-14T22:13:20.123450Z"),
            ("ce_dataschema", "urn:daybook:schema:order.placed:2"),
            ("ce_sequence", "4711"),
            ("ce_revision", "3"),
            ("ce_schemaversion", "2"),
            ("ce_epoch", "2"),
            ("ce_metadata", event.metadata.get()),
            ("content-type", "application/json"),
            ("traceparent", TRACE),
        ] {
            assert_eq!(of(name), Some(value), "{name}");
        }
        for (name, _) in &message.headers {
            let attribute = name.strip_prefix("ce_").unwrap_or("");
            assert!(attribute.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')), "{name}");
        }
    }

    #[test]
    fn a_schema_is_a_uri_whatever_the_type() {
        assert_eq!(Escaped("a:b%/é").to_string(), "a%3Ab%25%2F%C3%A9");
    }

    #[test]
    fn what_is_no_event_says_why() {
        let event = event("{}");
        let whole = Message::new(&event, &origin());
        for (index, (name, _)) in whole.headers.iter().enumerate() {
            let mut message = whole.clone();
            message.headers.remove(index);
            match read(&message) {
                Ok(_) => assert!(["ce_dataschema", "content-type"].contains(name), "{name}"),
                Err(error) => assert_eq!(error, Unreadable::Missing(name)),
            }
        }
        for (name, value) in [
            ("ce_specversion", "0.3"),
            ("ce_subject", "order-other"),
            ("ce_source", "urn:other:1"),
            ("ce_sequence", "-1"),
            ("ce_time", "yesterday"),
        ] {
            let mut message = whole.clone();
            for header in message.headers.iter_mut().filter(|(found, _)| *found == name) {
                header.1 = value.into();
            }
            assert!(matches!(read(&message), Err(Unreadable::Unfit { part, .. }) if part == name), "{name}");
        }
        let headers = std::iter::empty();
        assert_eq!(Published::read(None, None, headers).map(drop), Err(Unreadable::Missing("ce_specversion")));
        let headers = whole.headers.iter().map(|(name, value)| (*name, Some(value.as_bytes())));
        let no_text = Published::read(Some(&[0xff]), Some(b"{}"), headers.clone()).map(drop);
        assert!(matches!(no_text, Err(Unreadable::Unfit { part: "key", .. })), "{no_text:?}");
        let emptied = Published::read(Some(whole.key.as_bytes()), None, headers).map(drop);
        assert_eq!(emptied, Err(Unreadable::Missing("value")));
    }
}
