use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::{Event, Personal, Upcaster};

/// The same lamp was dimmed in two versions: to a percentage, then to one of a range.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Dimmed {
    /// How bright it is now.
    level: u32,
    /// How bright it can be.
    of: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Personal<String>>,
}

const V1: &str = r#"{
    "$id": "urn:daybook:event:lamp.dimmed:1", "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object", "additionalProperties": false,
    "properties": {
        "percent": {"type": "integer", "minimum": 0, "maximum": 100},
        "by": {"oneOf": [{"type": "string"}, {"const": {"sealed": true}}, {"const": {"erased": true}}]}
    },
    "required": ["percent"]
}"#;

impl Event for Dimmed {
    const TYPE: &'static str = "lamp.dimmed";
    const VERSION: u32 = 2;
    const UPCASTERS: &'static [Upcaster] = &[Upcaster {
        schema: V1,
        lift: |payload| {
            let percent = payload.remove("percent").ok_or("no percentage")?;
            payload.extend([("level".to_owned(), percent), ("of".to_owned(), json!(100))]);
            Ok(())
        },
    }];
}

/// A contract with a field of each name that schemas use for themselves.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Labelled {
    title: String,
    properties: Vec<u8>,
}

impl Event for Labelled {
    const TYPE: &'static str = "lamp.labelled";
    const VERSION: u32 = 1;
}

/// A contract that takes any field, though not at its root.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Moved {
    to: Place,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Place {
    room: String,
}

impl Event for Moved {
    const TYPE: &'static str = "lamp.moved";
    const VERSION: u32 = 1;
}

fn files(files: &[(&str, String)]) -> Files {
    files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect()
}

fn current<E: Event>() -> Value {
    EventType::of::<E>().schema(E::VERSION).expect("JSON").expect("the newest version")
}

/// All that has to be committed of [`Dimmed`].
fn committed() -> (Files, Files) {
    let schemas =
        files(&[("lamp.dimmed.v1.json", V1.into()), ("lamp.dimmed.v2.json", current::<Dimmed>().to_string())]);
    let by =
        json!({"level": 3, "of": 8, "by": {"subject": "account-1", "of": "1/by", "sealed": "AQID"}}).to_string();
    let golden = files(&[
        ("lamp.dimmed.v1.json", r#"{"percent": 40}"#.into()),
        ("lamp.dimmed.v2.json", r#"{"level": 3, "of": 8}"#.into()),
        ("lamp.dimmed.v2.by.json", by),
    ]);
    (schemas, golden)
}

#[track_caller]
fn assert_found<E: Event>(schemas: &Files, golden: &Files, expected: &[&str]) {
    let found = find(&[EventType::of::<E>()], schemas, golden);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_contract_that_was_kept_is_found_without_a_fault() {
    let (schemas, golden) = committed();
    assert_found::<Dimmed>(&schemas, &golden, &[]);
}

#[test]
fn a_contract_that_changed_without_a_new_version_is_found() {
    let (mut schemas, golden) = committed();
    for (pointer, before) in [
        ("/properties/level", json!({"type": "string"})),
        ("/required", json!(["level", "of", "by"])),
        ("/$id", json!("urn:daybook:event:lamp.lit:2")),
    ] {
        let mut schema = current::<Dimmed>();
        *schema.pointer_mut(pointer).expect("it is there") = before;
        schemas.insert("lamp.dimmed.v2.json".into(), schema.to_string());
        assert_found::<Dimmed>(
            &schemas,
            &golden,
            &["raise VERSION to 3, and add an upcaster that lifts version 2"],
        );
    }
}

#[test]
fn other_words_are_no_other_contract() {
    let (mut schemas, golden) = committed();
    let mut schema = current::<Dimmed>();
    schema["title"] = json!("Darkened");
    schema["properties"]["level"]["description"] = json!("Its brightness.");
    schemas.insert("lamp.dimmed.v2.json".into(), schema.to_string());
    assert_found::<Dimmed>(&schemas, &golden, &[]);
}

#[test]
fn a_field_that_is_called_like_a_keyword_is_a_field() {
    let golden = files(&[("lamp.labelled.v1.json", r#"{"title": "mine", "properties": [1]}"#.into())]);
    let mut schema = current::<Labelled>();
    let schemas = |schema: &Value| files(&[("lamp.labelled.v1.json", schema.to_string())]);
    assert_found::<Labelled>(&schemas(&schema), &golden, &[]);
    schema["properties"]["title"] = json!({"type": "integer"});
    assert_found::<Labelled>(&schemas(&schema), &golden, &["`lamp.labelled` is not that any more"]);
}

#[test]
fn another_schema_of_an_older_version_is_found() {
    let (mut schemas, golden) = committed();
    schemas.insert("lamp.dimmed.v1.json".into(), V1.replace("100", "255"));
    assert_found::<Dimmed>(&schemas, &golden, &["the upcaster that lifts version 1 has another schema"]);
}

#[test]
fn a_missing_file_and_a_stray_one_are_found() {
    let (schemas, golden) = committed();
    let (mut without, mut with) = (schemas.clone(), golden.clone());
    without.remove("lamp.dimmed.v2.json");
    with.insert("lamp.dimmed.v3.json".into(), "{}".into());
    with.insert("lamp.dimmed.v10.json".into(), "{}".into());
    let expected =
        ["schemas/lamp.dimmed.v2.json: it is missing", "golden/lamp.dimmed.v10.json", "v3.json belongs"];
    assert_found::<Dimmed>(&without, &with, &expected);
    let (mut with, mut without) = (schemas, golden);
    with.insert("lamp.dimed.v1.json".into(), V1.into());
    without.remove("lamp.dimmed.v1.json");
    let expected = ["golden/lamp.dimmed.v1.json is missing", "schemas/lamp.dimed.v1.json belongs to no contract"];
    assert_found::<Dimmed>(&with, &without, &expected);
}

#[test]
fn a_sample_that_was_never_so_is_found() {
    let (schemas, golden) = committed();
    for (file, text, expected) in [
        ("lamp.dimmed.v1.json", r#"{"percent": 400}"#, "must be <=100, but got 400"),
        ("lamp.dimmed.v1.json", r#"{"percent": 4, "of": 8}"#, "additionalProperties 'of' not allowed"),
        (
            "lamp.dimmed.v1.json",
            r#"{"percent": 4, "by": {"subject": "a-1", "of": "7/by", "sealed": "A"}}"#,
            "oneOf",
        ),
        ("lamp.dimmed.v1.json", r#"{"level": 4, "of": 8}"#, "cannot be lifted from version 1 to 2: no percentage"),
        ("lamp.dimmed.v1.json", r#"{"percent": "most"}"#, "invalid type: string"),
        ("lamp.dimmed.v2.json", r#"{"level": 4, "of": 8, "by": null}"#, r#"it is written as {"level":4,"of":8}"#),
        ("lamp.dimmed.v2.json", r#"{"level": 4, "of": 8, "color": 1}"#, "unknown field `color`"),
        ("lamp.dimmed.v2.json", "level: 4", "expected value"),
    ] {
        let mut golden = golden.clone();
        golden.insert(file.into(), text.into());
        assert_found::<Dimmed>(&schemas, &golden, &[expected]);
    }
}

#[test]
fn a_contract_that_would_drop_a_field_is_found() {
    let golden = files(&[("lamp.moved.v1.json", r#"{"to": {"room": "attic"}}"#.into())]);
    let schemas = files(&[("lamp.moved.v1.json", current::<Moved>().to_string())]);
    assert_found::<Moved>(&schemas, &golden, &["deny_unknown_fields"]);
}

#[test]
fn a_personal_field_fits_as_it_is_stored_and_as_it_is_read() {
    let stored = json!({"subject": "account-1", "of": "7/by", "sealed": "AQID"});
    let fits = |by: &Value| validate(&current::<Dimmed>(), &json!({"level": 4, "of": 8, "by": by})).is_ok();
    for by in [&stored, &json!("Ada"), &json!({"sealed": true}), &json!({"erased": true}), &Value::Null] {
        assert!(fits(by), "{by}");
    }
    for field in ["subject", "of", "sealed"] {
        let (mut without, mut other) = (stored.clone(), stored.clone());
        without.as_object_mut().expect("an object").remove(field);
        other[field] = json!(1);
        assert!(!fits(&without) && !fits(&other), "{field}");
    }
    for by in [json!({"subject": "account-1", "personal": "Ada"}), json!({"sealed": false}), json!(1)] {
        assert!(!fits(&by), "{by}");
    }
    let mut more = stored;
    more["more"] = json!(1);
    assert!(!fits(&more));
}
