//! What is wrong with contracts, their schemas and their samples. Pure.

use chrono::DateTime;
use serde_json::Value;
use uuid::Uuid;

use super::Files;
use crate::{EventType, JsonText, Opened, Position, RecordedEvent, Revision, StreamId, open_fields};

/// The name of the file that holds the schema of a version, and of its first sample.
pub(super) fn schema_file(contract: &EventType, version: u32) -> String {
    format!("{}.v{version}.json", contract.name)
}

/// What is wrong, one sentence for each.
pub(super) fn find(contracts: &[EventType], schemas: &Files, golden: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut schemas_left, mut golden_left) = (schemas.clone(), golden.clone());
    for contract in contracts {
        for version in 1..=contract.version {
            let file = schema_file(contract, version);
            schemas_left.remove(&file);
            let of_version = format!("{}.v{version}.", contract.name);
            let samples: Vec<_> = golden.iter().filter(|(name, _)| name.starts_with(&of_version)).collect();
            if samples.is_empty() {
                problems.push(format!("golden/{file} is missing: a sample of what was, or will be, recorded"));
            }
            for (name, text) in samples {
                golden_left.remove(name);
                let checked = sample(contract, version, text);
                problems.extend(checked.err().map(|error| format!("golden/{name}: {error}")));
            }
            let checked = schema(contract, version, schemas.get(&file));
            problems.extend(checked.err().map(|error| format!("schemas/{file}: {error}")));
        }
    }
    problems.extend(schemas_left.keys().map(|name| format!("schemas/{name} belongs to no contract")));
    problems.extend(golden_left.keys().map(|name| format!("golden/{name} belongs to no contract")));
    problems
}

/// Checks the committed schema of a version.
fn schema(contract: &EventType, version: u32, committed: Option<&String>) -> Result<(), String> {
    let Some(committed) = committed else { return Err("it is missing: write it".into()) };
    let committed: Value = serde_json::from_str(committed).map_err(|error| error.to_string())?;
    let declared = declared(contract, version)?;
    if without_texts(&committed) != without_texts(&declared) {
        return Err(match version == contract.version {
            true => format!(
                "the contract `{}` is not that any more. If version {version} was ever shipped, the file stays as it \
                 is: raise VERSION to {}, and add an upcaster that lifts version {version}. If it was not, write the \
                 file anew",
                contract.name,
                version + 1
            ),
            false => format!("the upcaster that lifts version {version} has another schema"),
        });
    }
    if version == contract.version && takes_unknown_fields(&declared) {
        return Err(
            "a field that the contract does not know would be dropped: `#[serde(deny_unknown_fields)]`".into()
        );
    }
    Ok(())
}

/// Checks a sample of a version.
fn sample(contract: &EventType, version: u32, text: &str) -> Result<(), String> {
    let record = RecordedEvent {
        position: Position::new(1),
        stream: StreamId::new("golden", "1"),
        revision: Revision::new(1),
        id: Uuid::nil(),
        event_type: contract.name.to_owned(),
        schema_version: version,
        recorded_at: DateTime::UNIX_EPOCH,
        metadata: JsonText::new("null"),
        payload: JsonText::new(text),
    };
    let rewritten = contract.rewrite(&record).map_err(|error| error.reason)?;
    let sample: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if version == contract.version && sample != rewritten {
        return Err(format!("it is written as {rewritten}"));
    }
    // The schema says what is stored, and what readers see.
    let schema = declared(contract, version)?;
    validate(&schema, &sample)?;
    for unopened in [Opened::Sealed, Opened::Erased] {
        let Some(seen) = open_fields(text, &mut |_, _| unopened.clone()) else { continue };
        validate(&schema, &serde_json::from_str(&seen).map_err(|error| error.to_string())?)?;
    }
    Ok(())
}

fn declared(contract: &EventType, version: u32) -> Result<Value, String> {
    let schema = contract.schema(version).map_err(|error| format!("the upcaster's schema: {error}"))?;
    schema.ok_or_else(|| "there is no such version".into())
}

fn validate(schema: &Value, sample: &Value) -> Result<(), String> {
    const PLACE: &str = "urn:daybook:schema";
    let (mut compiler, mut compiled) = (boon::Compiler::new(), boon::Schemas::new());
    compiler.enable_format_assertions();
    compiler.add_resource(PLACE, schema.clone()).map_err(|error| error.to_string())?;
    let index = compiler.compile(PLACE, &mut compiled).map_err(|error| format!("{error:#}"))?;
    compiled.validate(sample, index).map_err(|error| format!("{error:#}"))
}

/// The keywords whose value holds schemas by the names of what they are about.
const NAMED: [&str; 3] = ["properties", "patternProperties", "$defs"];
/// The keywords whose value is no schema.
const LITERAL: [&str; 4] = ["const", "enum", "default", "examples"];

/// A schema without its words: what is explained in other words is the same contract.
fn without_texts(schema: &Value) -> Value {
    match schema {
        Value::Object(keywords) => {
            let kept =
                keywords.iter().filter(|(keyword, _)| !["title", "description"].contains(&keyword.as_str()));
            let stripped = kept.map(|(keyword, value)| {
                let value = match (keyword.as_str(), value) {
                    (keyword, Value::Object(schemas)) if NAMED.contains(&keyword) => {
                        schemas.iter().map(|(name, schema)| (name.clone(), without_texts(schema))).collect()
                    }
                    (keyword, literal) if LITERAL.contains(&keyword) => literal.clone(),
                    (_, nested) => without_texts(nested),
                };
                (keyword.clone(), value)
            });
            stripped.collect()
        }
        Value::Array(items) => items.iter().map(without_texts).collect(),
        other => other.clone(),
    }
}

/// Whether some object with named fields, however deep, takes others as well.
fn takes_unknown_fields(schema: &Value) -> bool {
    match schema {
        Value::Object(keywords) => {
            let open = keywords.contains_key("properties") && !keywords.contains_key("additionalProperties");
            open || keywords.iter().any(|(keyword, value)| match (keyword.as_str(), value) {
                (keyword, Value::Object(schemas)) if NAMED.contains(&keyword) => {
                    schemas.values().any(takes_unknown_fields)
                }
                (keyword, nested) => !LITERAL.contains(&keyword) && takes_unknown_fields(nested),
            })
        }
        Value::Array(items) => items.iter().any(takes_unknown_fields),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
