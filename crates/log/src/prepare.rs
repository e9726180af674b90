//! What is checked of an append before it waits with others, so that one that could never be written does not spoil
//! a group.

use daybook_core::StreamId;

use crate::{Append, Claim, Ticket, json};

/// The most events of one append.
const EVENTS_MAX: usize = 1_000;
/// The most expected revisions of one append.
const EXPECTED_MAX: usize = 1_000;
/// The most claims of one append.
const CLAIMS_MAX: usize = 1_000;
/// The most bytes of an event's line: the leaves of the audit tree have no more.
const LINE_BYTES_MAX: usize = 65_535;
/// The most bytes of all the lines of one append.
const APPEND_BYTES_MAX: usize = 8 << 20;
/// The most bytes of a name: an event's type, a claim's name, the id for the receipt.
const NAME_BYTES_MAX: usize = 200;
/// The most bytes of a claim's key.
const KEY_BYTES_MAX: usize = 1_000;

/// An append that can be written if what it expects holds.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The append.
    pub(crate) append: Append,
    /// The JSON of its metadata.
    pub(crate) metadata: String,
    /// How many bytes it adds to the log, at most.
    pub(crate) bytes: usize,
    /// Tells what becomes of it.
    pub(crate) ticket: Ticket,
}

/// Whoever waits for its ticket does not wait for ever, whatever becomes of the appender.
impl Drop for Prepared {
    fn drop(&mut self) {
        self.ticket.settle(false);
    }
}

impl Prepared {
    /// Checks an append; the reason when it could never be written.
    pub(crate) fn new(append: Append) -> Result<Self, String> {
        let metadata =
            serde_json::to_string(&append.metadata).map_err(|error| format!("the metadata: {error}"))?;
        json::check_valid(&metadata).map_err(|reason| format!("the metadata {reason}"))?;
        at_most(append.events.len(), EVENTS_MAX, "events")?;
        at_most(append.expected.len(), EXPECTED_MAX, "expected revisions")?;
        at_most(append.claims.len(), CLAIMS_MAX, "claims")?;
        at_most(append.id.len(), NAME_BYTES_MAX, "bytes in the receipt's id")?;
        for claim in &append.claims {
            check_claim(claim)?;
        }
        let mut bytes = 0;
        for (index, event) in append.events.iter().enumerate() {
            let fail = |reason: &str| format!("event {index} (`{}`): {reason}", event.event_type);
            if !is_type(&event.event_type) {
                return Err(fail("its type is no name"));
            }
            if i32::try_from(event.schema_version).is_err() {
                return Err(fail("its schema version is out of range"));
            }
            json::check(&event.payload).map_err(|reason| fail(&format!("its payload {reason}")))?;
            let line = line_bytes(&event.stream, event.event_type.len(), metadata.len(), event.payload.len());
            if line > LINE_BYTES_MAX {
                return Err(fail(&format!("its line has {line} bytes, of at most {LINE_BYTES_MAX}")));
            }
            bytes += line;
        }
        at_most(bytes, APPEND_BYTES_MAX, "bytes of events")?;
        Ok(Self { append, metadata, bytes, ticket: Ticket::new() })
    }
}

fn at_most(count: usize, max: usize, what: &str) -> Result<(), String> {
    if count > max { Err(format!("{count} {what}, of at most {max}")) } else { Ok(()) }
}

/// Visible ASCII that stands in JSON as it is.
fn is_type(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

fn check_claim(claim: &Claim) -> Result<(), String> {
    let (Claim::Take { name, key, .. } | Claim::Release { name, key, .. }) = claim;
    at_most(name.len(), NAME_BYTES_MAX, "bytes in a claim's name")?;
    at_most(key.len(), KEY_BYTES_MAX, "bytes in a claim's key")?;
    if name.contains('\0') || key.contains('\0') {
        return Err(format!("a claim of `{}` holds the character U+0000", name.escape_debug()));
    }
    Ok(())
}

/// The most bytes that an event's line can have, wherever it comes to stand.
fn line_bytes(stream: &StreamId, event_type: usize, metadata: usize, payload: usize) -> usize {
    /// The line with all that varies in length left out.
    const FRAME: &str = concat!(
        r#"{"position":,"stream":"","revision":,"id":"00000000-0000-0000-0000-000000000000","type":"","#,
        r#""schema_version":,"recorded_at":"2000-01-01T00:00:00.000000Z","metadata":,"payload":}"#
    );
    /// The digits of the greatest position, revision and schema version.
    const DIGITS: usize = 19 + 19 + 10;
    let escapes = stream.as_str().bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    FRAME.len() + DIGITS + stream.as_str().len() + escapes + event_type + metadata + payload
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use daybook_core::{JsonText, Metadata, Position, RecordedEvent, Revision};
    use uuid::Uuid;

    use super::*;
    use crate::NewRecord;

    fn append(events: Vec<NewRecord>) -> Append {
        let metadata = Metadata {
            actor: None,
            client: None,
            command: "order.place".into(),
            command_id: Uuid::nil(),
            causation_id: None,
            correlation_id: "c".into(),
            traceparent: None,
        };
        Append {
            id: "1".into(),
            command_id: Uuid::nil(),
            events,
            metadata,
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        }
    }

    fn event(payload: String) -> NewRecord {
        NewRecord {
            stream: StreamId::new("order", r#"a"\"#),
            id: Uuid::nil(),
            event_type: "order.placed".into(),
            schema_version: 1,
            payload,
        }
    }

    fn longest_line(prepared: &Prepared) -> String {
        let event = &prepared.append.events[0];
        let recorded = RecordedEvent {
            position: Position::new(i64::MAX as u64),
            stream: event.stream.clone(),
            revision: Revision::new(i64::MAX as u64),
            id: event.id,
            event_type: event.event_type.clone(),
            schema_version: i32::MAX as u32,
            recorded_at: DateTime::<Utc>::default(),
            metadata: JsonText::new(prepared.metadata.as_str()),
            payload: JsonText::new(event.payload.as_str()),
        };
        serde_json::to_string(&recorded).expect("JSON")
    }

    #[test]
    fn the_longest_line_that_is_taken_has_exactly_the_most_bytes() {
        let empty = Prepared::new(append(vec![event("\"\"".into())])).expect("valid");
        assert_eq!(longest_line(&empty).len(), empty.bytes);
        let fits = format!("\"{}\"", "x".repeat(LINE_BYTES_MAX - empty.bytes));
        let longest = Prepared::new(append(vec![event(fits.clone())])).expect("it fits");
        assert_eq!(longest_line(&longest).len(), LINE_BYTES_MAX);
        assert!(Prepared::new(append(vec![event(fits.replacen('x', "xx", 1))])).is_err());
    }

    #[test]
    fn what_could_never_be_written_is_refused() {
        let mut appends = vec![
            append(vec![event("{".into())]),
            append(vec![event(r#""\u0000""#.into())]),
            append(vec![NewRecord { event_type: "a\0".into(), ..event("1".into()) }]),
            append(vec![NewRecord { event_type: String::new(), ..event("1".into()) }]),
            append(vec![NewRecord { schema_version: u32::MAX, ..event("1".into()) }]),
            append((0..=EVENTS_MAX).map(|_| event("1".into())).collect()),
            append((0..200).map(|_| event(format!("\"{}\"", "x".repeat(60_000)))).collect()),
        ];
        let mut nul_in_metadata = append(Vec::new());
        nul_in_metadata.metadata.correlation_id = "a\0".into();
        appends.push(nul_in_metadata);
        for (name, key) in
            [("sku\0", "a".to_owned()), ("sku", "a\0".into()), ("sku", "a".repeat(KEY_BYTES_MAX + 1))]
        {
            let claim = Claim::Release { name: name.into(), key, holder: StreamId::new("order", 1) };
            appends.push(Append { claims: vec![claim], ..append(Vec::new()) });
        }
        for append in appends {
            let shown = format!("{append:.200?}");
            assert!(Prepared::new(append).is_err(), "{shown}");
        }
    }
}
