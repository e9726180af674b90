//! A personal field keeps its origin wherever an upcaster puts it.

use chrono::DateTime;
use daybook_core::{
    Event, JsonText, Personal, Position, RecordedEvent, Revision, StreamId, Upcaster, account_subject,
};
use daybook_database::{Database, Location, on_both};
use daybook_keys::{Keys, MasterKeys};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

on_both!(&[Schema::Keys], a_sealed_field_that_was_moved_and_renamed_still_opens);

const ADA: Uuid = Uuid::from_u128(0xada);
const EVENT: Uuid = Uuid::from_u128(7);

/// As it was.
#[derive(Debug, Serialize)]
struct MovedIn {
    name: Personal<String>,
    street: Personal<String>,
}

/// As it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arrived {
    person: Person,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Person {
    full_name: Personal<String>,
    addresses: Vec<Personal<String>>,
}

impl Event for Arrived {
    const TYPE: &'static str = "tenant.arrived";
    const VERSION: u32 = 2;
    const UPCASTERS: &'static [Upcaster] = &[Upcaster {
        schema: "{}",
        lift: |payload| {
            let name = payload.remove("name").ok_or("no name")?;
            let street = payload.remove("street").ok_or("no street")?;
            payload.insert("person".into(), json!({"full_name": name, "addresses": [street]}));
            Ok(())
        },
    }];
}

async fn a_sealed_field_that_was_moved_and_renamed_still_opens(_: Location, database: Database) {
    let masters = MasterKeys::parse(&"5e".repeat(32)).expect("a master key");
    let keys = Keys::open(&database, masters).await.expect("the keys open");
    let personal = |value: &str| Personal::new(account_subject(ADA), value.to_owned());
    let moved_in = MovedIn { name: personal("Ada"), street: personal("1 Analytical Row") };
    let payload = serde_json::to_string(&moved_in).expect("JSON");
    let record = RecordedEvent {
        position: Position::new(1),
        stream: StreamId::new("tenant", ADA),
        revision: Revision::new(1),
        id: EVENT,
        event_type: Arrived::TYPE.into(),
        schema_version: 1,
        recorded_at: DateTime::UNIX_EPOCH,
        metadata: JsonText::new("null"),
        payload: JsonText::new(keys.sealed(EVENT, payload).await.expect("sealed")),
    };

    // What a view, a snapshot or a later event copies of it.
    let read: Arrived = record.read().expect("it is lifted");
    let copy = serde_json::to_string(&read).expect("JSON");
    assert!(copy.contains(&format!("\"of\":\"{EVENT}/street\"")), "it names where it came in: {copy}");
    let open = async |document: &str| {
        let document = RawValue::from_string(document.to_owned()).expect("JSON");
        let opened = keys.open_documents(vec![document], &|_| true).await.expect("the keys answer");
        serde_json::from_str::<Value>(opened.documents[0].get()).expect("JSON")
    };
    let opened = json!({"person": {"full_name": "Ada", "addresses": ["1 Analytical Row"]}});
    assert_eq!(open(&copy).await, opened);
    // It is bound to where it came in, not to where it stands.
    let exchanged = copy.replace("/street", "/name");
    assert_eq!(open(&exchanged).await["person"]["addresses"], json!([{"sealed": true}]));
    keys.forget(&account_subject(ADA)).await.expect("forgotten");
    assert_eq!(open(&copy).await["person"]["full_name"], json!({"erased": true}));
}
