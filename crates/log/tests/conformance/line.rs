//! The event's line: what is exported, and what audit proofs will be made of.

use daybook_core::{Metadata, Position, StreamId};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, NewRecord};
use uuid::Uuid;

use crate::fixture::{commit, event, nothing, open, order, to};

on_both!(&[Schema::Log], an_events_line_is_what_was_appended_to_the_byte);

/// In no spacing, order or escape that this program would choose.
const PAYLOAD: &str = r#"{ "z" : 1.0e2,"a":["\u00e4", "ø","\ud83d\ude00"],  "note":{"subject":"account-1","of":"7/note","sealed":"AQID"}, "a":-0 }"#;

const METADATA: &str = r#"{"actor":"ødä\"","client":{"subject":"account-1","of":"00000000-0000-0000-0000-0000000000c1/client","sealed":"AQID"},"command":"order.place","command_id":"00000000-0000-0000-0000-0000000000c1","correlation_id":"one","traceparent":"00-1"}"#;

async fn an_events_line_is_what_was_appended_to_the_byte(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1)])).await;
    let metadata: Metadata = serde_json::from_str(METADATA).expect("metadata");
    let stream = StreamId::new("order", r#"q"1"#);
    let first = event(&stream);
    let second = NewRecord {
        id: Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_00ab),
        event_type: "order.noted".into(),
        schema_version: 3,
        payload: PAYLOAD.into(),
        ..event(&stream)
    };
    commit(&log, Append { events: vec![first, second], metadata, ..nothing() }).await;

    let read = log.event(Position::new(3)).await.expect("the log answers").expect("it is there");
    let recorded_at = read.recorded_at.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let line = [
        r#"{"position":3,"stream":"order-q\"1","revision":2,"id":"018f0000-0000-7000-8000-0000000000ab","#,
        r#""type":"order.noted","schema_version":3,"recorded_at":""#,
        &recorded_at.to_string(),
        r#"","metadata":"#,
        METADATA,
        r#","payload":"#,
        PAYLOAD,
        "}",
    ]
    .concat();
    assert_eq!(serde_json::to_string(&read).expect("JSON"), line);
}
