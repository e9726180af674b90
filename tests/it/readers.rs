//! The topic, read with other people's clients: what knows Kafka and CloudEvents reads it, without knowing Daybook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use daybook_tests::{Backend, Customer, Daybook, Product, Role, Topic};
use serde_json::{Value, json};

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/requirements.txt");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/read_topic.py");

#[tokio::test]
async fn a_client_of_kafka_and_the_sdk_of_cloudevents_read_the_log() {
    let topic = Topic::default();
    let brokers = Topic::brokers();
    let roles = topic.published_by(&["serve", "--roles", "api,projector,relay"], &brokers);
    let daybook = Daybook::start(Daybook::seeded(Backend::Sqlite).await, &roles).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10_000).await;
    let customer = Customer::register(&daybook.client()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    customer.order(&product.order(1)).header("traceparent", trace).send().await.expect(200);
    let analyst = daybook.login(Role::Analyst).await;
    topic.holding_all_of(&daybook).await;
    let events = analyst.events("").await;

    let python = python();
    let name = topic.name().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        said(Command::new(python).args([SCRIPT, &brokers, &name]), "the topic was not read")
    });
    let lines = read.await.expect("no panic");
    let status: Value = serde_json::from_str(&daybook.cli(&["status", "--json"]).stdout).expect("JSON");
    let source = format!("urn:daybook:{}", status["log"]["id"].as_str().expect("an id"));
    let mut found = BTreeMap::new();
    for line in lines.lines() {
        let message: Value = serde_json::from_str(line).expect("JSON");
        let sequence = message["attributes"]["sequence"].as_str().expect("a text");
        found.entry(sequence.parse::<u64>().expect("a position")).or_insert(message);
    }
    assert!(events.len() > 10, "{events:?}");
    for event in &events {
        let position = event["position"].as_u64().expect("a position");
        let message = found.get(&position).unwrap_or_else(|| panic!("position {position} was not read"));
        assert_eq!(message["key"], event["stream"]);
        let attributes = &message["attributes"];
        let text = |field: &str| match &event[field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        for (name, is) in [
            ("specversion", "1.0"),
            ("id", &text("id")),
            ("type", &text("type")),
            ("source", &source),
            ("subject", &text("stream")),
            ("dataschema", &format!("urn:daybook:schema:{}:{}", text("type"), event["schema_version"])),
            ("datacontenttype", "application/json"),
            ("partitionkey", &text("stream")),
            ("revision", &text("revision")),
            ("schemaversion", &text("schema_version")),
            ("epoch", "1"),
        ] {
            assert_eq!(attributes[name], is, "{name} of {position}");
        }
        let time = |text: &Value| text.as_str().map(|text| text.replace("+00:00", "Z"));
        assert_eq!(time(&attributes["time"]), time(&event["recorded_at"]));
        assert!(is_shown_as(&message["data"], &event["payload"]), "the payload of {position}: {message} {event}");
        let metadata: Value =
            serde_json::from_str(attributes["metadata"].as_str().expect("a text")).expect("JSON");
        assert!(is_shown_as(&metadata, &event["metadata"]), "the metadata of {position}: {metadata} {event}");
        assert_eq!(message["trace"], metadata["traceparent"], "the trace of {position}");
    }
    // The extension of tracing goes without a prefix, as W3C has it for Kafka: it is a header and no attribute.
    assert!(found.values().any(|message| message["trace"] == trace));
}

/// Whether what is in the topic is what a reader of the log is shown: what is sealed there is shown as that, or opened, where
/// it is the reader's own; all else as it is.
fn is_shown_as(there: &Value, shown: &Value) -> bool {
    match (there, shown) {
        (Value::Object(there), _) if there.contains_key("sealed") => {
            *shown == json!({"sealed": true}) || shown.get("sealed").is_none()
        }
        (Value::Object(there), Value::Object(shown)) => {
            let is_shown = |(name, value)| shown.get(name).is_some_and(|shown| is_shown_as(value, shown));
            there.len() == shown.len() && there.iter().all(is_shown)
        }
        (Value::Array(there), Value::Array(shown)) => {
            there.len() == shown.len() && there.iter().zip(shown).all(|(there, shown)| is_shown_as(there, shown))
        }
        _ => there == shown,
    }
}

/// The Python of an environment with what is required: made once, beside what is built, for each list of that.
fn python() -> PathBuf {
    let required = std::fs::read_to_string(REQUIREMENTS).expect("a list");
    let name: String = required.split_whitespace().flat_map(|line| ["-", line]).collect();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python{name}"));
    if !kept.join("bin/python").exists() {
        // Whole or not at all. What it holds is found wherever it lies.
        let making = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let made = making.path().join("python");
        said(
            Command::new("python3").args(["-m", "venv"]).arg(&made),
            "the test needs Python 3.10 or later with `venv` (Debian: apt-get install python3-venv)",
        );
        said(
            Command::new(made.join("bin/python")).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
                REQUIREMENTS,
            ]),
            "the test gets clients of Kafka and CloudEvents from PyPI, and did not",
        );
        if std::fs::rename(&made, &kept).is_err() {
            assert!(kept.join("bin/python").exists(), "another test run has made it");
        }
    }
    kept.join("bin/python")
}

/// What a program prints.
fn said(command: &mut Command, otherwise: &str) -> String {
    match command.output() {
        Ok(Output { status, stdout, .. }) if status.success() => String::from_utf8(stdout).expect("a text"),
        Ok(Output { status, stderr, .. }) => panic!("{otherwise}: {status}\n{}", String::from_utf8_lossy(&stderr)),
        Err(error) => panic!("{otherwise}: {error}"),
    }
}
