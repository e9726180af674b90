//! Every contract has golden samples, and every sample is read and written without a difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daybook_core::{EventSet, Position, RecordedEvent, Revision, StreamId};
use daybook_events::{CustomerEvent, OrderEvent, ProductEvent, StockEvent};
use serde_json::Value;
use serde_json::value::RawValue;

/// A sample as a recorded event, with the name of its file.
struct Sample {
    file: String,
    event: RecordedEvent,
}

/// The samples: files named `<type>.v<version>.json`, or `<type>.v<version>.<case>.json` for more than one.
fn samples() -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut samples: Vec<_> = fs::read_dir(folder)
        .expect("the folder of samples")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let file = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            let (event_type, rest) = file.split_once(".v").expect("`.v` after the type");
            let version = rest.split('.').next().and_then(|text| text.parse().ok()).expect("a version after `.v`");
            let payload: Box<RawValue> =
                serde_json::from_str(&fs::read_to_string(&path).expect("a sample")).expect("JSON");
            let event = RecordedEvent {
                position: Position::new(1),
                stream: StreamId::new("golden", "1"),
                revision: Revision::new(1),
                id: uuid::Uuid::nil(),
                event_type: event_type.to_owned(),
                schema_version: version,
                recorded_at: chrono::DateTime::UNIX_EPOCH,
                metadata: RawValue::NULL.to_owned(),
                payload,
            };
            Sample { file, event }
        })
        .collect();
    samples.sort_by(|a, b| a.file.cmp(&b.file));
    samples
}

/// Reads every sample of the set's contracts and counts how many there are of each version.
fn check<E: EventSet>(samples: &[Sample], counts: &mut BTreeMap<(String, u32), usize>) {
    for contract in E::TYPES {
        counts.entry((contract.name.to_owned(), contract.version)).or_default();
    }
    for Sample { file, event } in samples {
        let Some(decoded) = E::decode(event).unwrap_or_else(|error| panic!("{file}: {error}")) else { continue };
        let encoded = decoded.encode().unwrap_or_else(|error| panic!("{file}: {error}"));
        let json = |text| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(json(&encoded.payload), json(event.payload.get()), "{file}");
        assert_eq!(encoded.event_type, event.event_type, "{file}");
        *counts.entry((event.event_type.clone(), event.schema_version)).or_default() += 1;
    }
}

#[test]
fn every_contract_has_samples_and_every_sample_is_read_and_written_without_a_difference() {
    let samples = samples();
    let mut counts = BTreeMap::new();
    check::<CustomerEvent>(&samples, &mut counts);
    check::<ProductEvent>(&samples, &mut counts);
    check::<StockEvent>(&samples, &mut counts);
    check::<OrderEvent>(&samples, &mut counts);
    let without: Vec<_> = counts.iter().filter(|(_, count)| **count == 0).collect();
    assert!(without.is_empty(), "no sample of {without:?}");
    assert_eq!(counts.values().sum::<usize>(), samples.len(), "a sample belongs to no contract");
}

#[test]
fn a_field_that_a_contract_does_not_know_is_not_dropped_in_silence() {
    let mut sample =
        samples().into_iter().find(|sample| sample.file == "stock.received.v1.json").expect("a sample");
    sample.event.payload = RawValue::from_string(r#"{"quantity": 40, "batch": "A"}"#.to_owned()).expect("JSON");
    assert!(StockEvent::decode(&sample.event).is_err());
}
