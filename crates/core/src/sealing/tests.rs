use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Personal;

const EVENT: Uuid = Uuid::from_u128(7);

/// A cipher that hides nothing: what is sealed can be seen in it.
fn shown(origin: Origin<'_>, plain: &str) -> Option<String> {
    Some(hex(format!("{} {} {plain}", origin.subject, origin.of).as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> String {
    let bytes = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"));
    String::from_utf8(bytes.collect()).expect("text")
}

fn sealed(json: &impl Serialize) -> String {
    match seal_fields(serde_json::to_string(json).expect("JSON"), EVENT, &mut shown) {
        Sealing::Sealed(json) => json,
        Sealing::Missing(_, subjects) => panic!("no keys of {subjects:?}"),
    }
}

/// What `shown` was given, of every field.
fn seen(json: &str) -> Vec<String> {
    sealed_fields(json).map(|(_, field)| unhex(&field.sealed)).collect()
}

fn opened(json: &str) -> Option<Value> {
    let text = open_fields(json, &mut |origin, sealed| {
        let shown = unhex(sealed);
        let plain = shown.strip_prefix(&format!("{} {} ", origin.subject, origin.of)).expect("its own origin");
        Opened::Value(plain.to_owned())
    })?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

#[derive(Serialize)]
struct Address {
    name: Personal<String>,
}

#[derive(Serialize)]
struct Payload {
    id: u32,
    email: Personal<String>,
    shipping_address: Address,
    notes: Vec<Option<Personal<Vec<u8>>>>,
    after: &'static str,
}

fn payload() -> Payload {
    let personal = |value: &str| Personal::new("account-1", value.to_owned());
    Payload {
        id: 5,
        email: personal("ada@example.com"),
        shipping_address: Address { name: personal("Ada \"{ }\" Lovelace\\") },
        notes: vec![None, Some(Personal::new("account-2", vec![1, 2]))],
        after: "all",
    }
}

#[test]
fn each_field_is_sealed_for_its_subject_and_its_place() {
    let sealed = sealed(&payload());
    assert_eq!(
        seen(&sealed),
        [
            format!(r#"account-1 {EVENT}/email "ada@example.com""#),
            format!(r#"account-1 {EVENT}/shipping_address/name "Ada \"{{ }}\" Lovelace\\""#),
            format!("account-2 {EVENT}/notes/1 [1,2]"),
        ]
    );
    let begins = format!(r#"{{"id":5,"email":{{"subject":"account-1","of":"{EVENT}/email","sealed":""#);
    assert!(sealed.starts_with(&begins) && sealed.ends_with(r#""}],"after":"all"}"#), "{sealed}");
    assert!(!holds_fresh(&sealed));
}

#[test]
fn what_is_opened_is_what_was_sealed_and_the_rest_stays_to_the_byte() {
    let sealed = sealed(&payload());
    let expected = json!({
        "id": 5, "email": "ada@example.com", "shipping_address": {"name": "Ada \"{ }\" Lovelace\\"},
        "notes": [null, [1, 2]], "after": "all",
    });
    assert_eq!(opened(&sealed), Some(expected));
    let closed = open_fields(&sealed, &mut |origin, _| match origin.subject {
        "account-1" => Opened::Sealed,
        _ => Opened::Erased,
    });
    assert_eq!(
        closed.as_deref(),
        Some(
            r#"{"id":5,"email":{"sealed":true},"shipping_address":{"name":{"sealed":true}},"notes":[null,{"erased":true}],"after":"all"}"#
        )
    );
}

#[test]
fn a_copy_keeps_its_origin() {
    let first = sealed(&json!([1]));
    assert_eq!(first, "[1]");
    #[derive(Deserialize)]
    struct Read {
        email: Personal<String>,
    }
    let read: Read = serde_json::from_str(&sealed(&payload())).expect("the stored form");
    let copy = sealed(&json!({"copied": {"to": read.email}}));
    assert_eq!(seen(&copy), [format!(r#"account-1 {EVENT}/email "ada@example.com""#)]);
}

#[test]
fn whose_keys_are_missing_is_said_and_the_rest_can_be_sealed_later() {
    let text = serde_json::to_string(&payload()).expect("JSON");
    let mut only_second = |origin: Origin<'_>, plain: &str| match origin.subject {
        "account-2" => shown(origin, plain),
        _ => None,
    };
    let Sealing::Missing(text, subjects) = seal_fields(text, EVENT, &mut only_second) else { panic!("sealed") };
    assert_eq!(subjects, ["account-1", "account-1"]);
    let Sealing::Sealed(text) = seal_fields(text, EVENT, &mut shown) else { panic!("still missing") };
    assert_eq!(text, sealed(&payload()));
}

#[test]
fn keys_in_another_order_and_white_space_are_understood() {
    let field = r#"{ "of": "7/email", "sealed": "4142", "subject": "account-1" }"#;
    let json = format!(r#"{{"a": {field}, "b": [{field}]}}"#);
    let opened = open_fields(&json, &mut |origin, sealed| {
        assert_eq!((origin, sealed), (Origin { subject: "account-1", of: "7/email" }, "4142"));
        Opened::Value("1".into())
    });
    assert_eq!(opened.as_deref(), Some(r#"{"a": 1, "b": [1]}"#));
}

#[test]
fn what_only_looks_like_a_sealed_field_is_left_alone() {
    for json in [
        json!({"sealed": true}),
        json!({"subject": "s", "of": "o"}),
        json!({"subject": "s", "of": "o", "sealed": 1}),
        json!({"subject": "s", "of": "o", "sealed": "x", "more": 1}),
        json!("{\"subject\":\"s\",\"of\":\"o\",\"sealed\":\"x\"}"),
    ] {
        assert_eq!(open_fields(&json.to_string(), &mut |_, _| Opened::Erased), None, "{json}");
    }
}

#[test]
fn slashes_in_keys_do_not_make_two_places_one() {
    let of = |keys: [&str; 2]| {
        let personal = Personal::new("account-1", 1);
        let inner = BTreeMap::from([(keys[1], personal)]);
        seen(&sealed(&BTreeMap::from([(keys[0], inner)])))
    };
    assert_eq!(of(["a/b", "c~"]), [format!("account-1 {EVENT}/a~1b/c~0 1")]);
}

#[test]
fn the_additional_data_tells_subject_and_origin_apart() {
    let aad = |subject, of| Origin { subject, of }.aad();
    assert_eq!(aad("ab", "c"), b"\0\0\0\x02abc");
    assert_ne!(aad("ab", "c"), aad("a", "bc"));
}

proptest! {
    /// Whatever texts, keys and maps come from outside, none of it is taken for a fresh field, nor changed by sealing.
    #[test]
    fn nothing_from_outside_is_taken_for_a_fresh_field(
        texts in prop::collection::vec(r#"(\{ "subject":"|"personal":|[\\"{}, :a\n])*"#, 0..6),
    ) {
        let mut value = Value::Null;
        for text in &texts {
            value = json!({text: value, "text": text, "subject": text, "personal": [text]});
        }
        let text = value.to_string();
        prop_assert!(!holds_fresh(&text));
        prop_assert_eq!(sealed(&value), text);
    }

    #[test]
    fn any_value_anywhere_is_sealed_and_opened_again(keys in prop::collection::vec(".*", 0..5), value in ".*") {
        let mut payload = serde_json::to_string(&Personal::new("account-1", &value)).expect("JSON");
        let mut expected = Value::String(value);
        for key in &keys {
            payload = format!("[null,{{{}:{payload},\"z\":\"}}\"}}]", json!(key));
            expected = json!([null, {key: expected, "z": "}"}]);
        }
        let Sealing::Sealed(sealed) = seal_fields(payload, EVENT, &mut shown) else { panic!("missing") };
        prop_assert_eq!(opened(&sealed), Some(expected));
    }
}
