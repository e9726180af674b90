use super::*;

/// What is exported and hashed is made of this. It never changes.
#[test]
fn an_events_line_is_this_for_ever() {
    let event = RecordedEvent {
        position: Position::new(7),
        stream: StreamId::new("note", r#"a"b"#),
        revision: Revision::new(2),
        id: Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_00ab),
        event_type: "note.taken".into(),
        schema_version: 3,
        recorded_at: DateTime::from_timestamp(1_769_850_900, 0).expect("a time"),
        metadata: JsonText::new(r#"{ "actor":null }"#),
        payload: JsonText::new(r#"{"b" : 1.0e2,"a":["\u00e4", "ø"]}"#),
    };
    let line = r#"{"position":7,"stream":"note-a\"b","revision":2,"id":"018f0000-0000-7000-8000-0000000000ab","type":"note.taken","schema_version":3,"recorded_at":"2026-01-31T09:15:00.000000Z","metadata":{ "actor":null },"payload":{"b" : 1.0e2,"a":["\u00e4", "ø"]}}"#;
    assert_eq!(serde_json::to_string(&event).expect("JSON"), line);

    let micros = DateTime::from_timestamp(1_769_850_900, 120_999).expect("a time");
    let line = serde_json::to_string(&RecordedEvent { recorded_at: micros, ..event }).expect("JSON");
    assert!(line.contains(r#""recorded_at":"2026-01-31T09:15:00.000120Z","#), "{line}");
}
