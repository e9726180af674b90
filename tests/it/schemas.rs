//! `daybook events schema`: what is in the log, for whoever reads it with other programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daybook_tests::{Backend, Daybook, Output, Store};
use serde_json::Value;

#[track_caller]
fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output:?}"))
}

#[tokio::test]
async fn the_schemas_of_all_events_are_printed_without_a_store() {
    let store = Store::new(Backend::Sqlite).await;
    let schema = |args: &[&str]| Daybook::verb(&store, &[&["events", "schema"], args].concat());
    let all = json_of(&schema(&[]));
    let all = all.as_object().expect("an object");
    for (name, schema) in all {
        let (event_type, version) = name.rsplit_once(".v").expect("a type and a version");
        assert_eq!(schema["$id"], format!("urn:daybook:event:{event_type}:{version}"));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["type"], "object", "{name}");
    }
    for event_type in
        ["order.placed", "stock.allocated", "account.registered", "session.ended", "daybook.command.denied"]
    {
        let first = &all[&format!("{event_type}.v1")];
        assert_eq!(json_of(&schema(&[event_type, "--schema-version", "1"])), *first);
        // The newest version is the last without a successor.
        let newest = (1..).find(|version| !all.contains_key(&format!("{event_type}.v{}", version + 1)));
        let newest = &all[&format!("{event_type}.v{}", newest.expect("it ends somewhere"))];
        assert_eq!(json_of(&schema(&[event_type])), *newest);
    }
    let left = std::fs::read_dir(store.data()).expect("the data folder").count();
    assert_eq!(left, 0, "it left something behind");
}

#[tokio::test]
async fn a_schema_that_there_is_not_is_an_error() {
    let store = Store::new(Backend::Sqlite).await;
    for (args, expected) in [
        (&["order.palced"][..], "there is no event `order.palced`; there are account."),
        (&["order.placed", "--schema-version", "0"], "there is no version 0 of `order.placed`"),
        (&["order.placed", "--schema-version", "99"], "there is no version 99 of `order.placed`"),
        (&["order.placed", "--schema-version", "one"], "invalid value 'one'"),
        (&["--schema-version", "1"], "<TYPE>"),
    ] {
        let output = Daybook::verb(&store, &[&["events", "schema"], args].concat());
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {output:?}");
        assert!(output.stderr.contains(expected), "{args:?}: {output:?}");
    }
}

/// Whoever keeps a copy of the printed schemas has what every program after this one is held to.
#[tokio::test]
async fn the_schemas_that_are_printed_are_those_that_are_committed() {
    let store = Store::new(Backend::Sqlite).await;
    let printed = json_of(&Daybook::verb(&store, &["events", "schema"]));
    let printed: BTreeMap<String, Value> = serde_json::from_value(printed).expect("an object");
    let committed = committed();
    let names = |schemas: &BTreeMap<String, Value>| schemas.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&printed), names(&committed));
    for (name, schema) in printed {
        assert_eq!(schema, committed[&name], "{name}");
    }
}

/// What is in the folders of schemas beside the code, by the names of the files.
fn committed() -> BTreeMap<String, Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates =
        fs::read_dir(root.join("crates")).expect("the crates").map(|entry| entry.expect("a crate").path());
    let mut committed = BTreeMap::new();
    for folder in crates.chain([root.join("events")]) {
        let Ok(files) = fs::read_dir(folder.join("schemas")) else { continue };
        for file in files {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("it can be read");
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let twice = committed.insert(name.expect("a JSON file").to_owned(), schema);
            assert!(twice.is_none(), "two crates have {}", path.display());
        }
    }
    committed
}
