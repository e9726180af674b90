//! What operators see of projections and dead letters, and what they do about them.

use daybook_views::Act;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::answers;
use crate::dead_letters::{Listed, Skip};
use crate::projections::{Overview, Rebuild};
use crate::verify::Verify;

pub(super) fn describe(paths: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
    projections(paths, schemas);
    dead_letters(paths, schemas);
}

fn projections(paths: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
    let (status, overview) = (schema::<daybook_views::Status>(schemas), schema::<Overview>(schemas));
    let list = answers("200", "All projections.", list_of(&status, json!({})));
    add(paths, "/v1/projections", "get", "list_projections", "How far each projection is", list);
    let one = answers("200", "The projection, with its generations.", overview);
    add(paths, "/v1/projections/{name}", "get", "get_projection", "A projection and its generations", one);
    let generation = json!({
        "type": "object",
        "properties": {"projection": {"type": "string"}, "generation": {"type": "integer"}},
        "required": ["projection", "generation"],
    });
    let begun = answers("202", "The generation that is being built.", generation.clone());
    let summary = "Has a view built anew, beside the one that is served";
    add(paths, "/v1/projections/{name}/rebuild", "post", "rebuild_projection", summary, begun);
    takes::<Rebuild>(paths, "/v1/projections/{name}/rebuild", schemas);
    let mut verified = answers("200", "Lines of JSON, told while it goes on.", json!({"type": "string"}));
    verified["200"]["content"] = json!({"application/x-ndjson": {"schema": {"type": "string"}}});
    add(
        paths,
        "/v1/projections/{name}/verify",
        "post",
        "verify_projection",
        "Compares a view with the log",
        verified,
    );
    takes::<Verify>(paths, "/v1/projections/{name}/verify", schemas);
    paths["/v1/projections/{name}/verify"]["post"]["description"] = json!(
        "For operators and administrators; one at a time in each process. A line with `progress` says how far it is; one \
         with `finding` is a difference, of which the first 1,000 are told (`checkpoint`, `differs`, `missing` or \
         `unexpected`). The last line says what was compared, and in `findings` how many differences there are; or it is a \
         problem."
    );
    for act in Act::ALL {
        let path = format!("/v1/projections/{{name}}/{}", act.name());
        let responses = answers("200", "The generation.", generation.clone());
        add(paths, &path, "post", &format!("{}_projection", act.name()), summary_of(act), responses);
    }
}

fn summary_of(act: Act) -> &'static str {
    match act {
        Act::Pause => "Lets the generation that is being built wait",
        Act::Resume => "Lets the generation that is being built go on; one that is held is compared again",
        Act::Abort => "Gives up the generation that is being built",
        Act::Confirm => "Agrees that the generation that is being built is served though it differs",
        Act::Rollback => "Serves the generation again that was served before",
    }
}

fn dead_letters(paths: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
    let (listed, letter) = (schema::<Listed>(schemas), schema::<daybook_views::DeadLetter>(schemas));
    let next = json!({"type": ["string", "null"], "description": "Where to go on, as `cursor`."});
    let page = [
        json!({"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}}),
        json!({"name": "cursor", "in": "query", "schema": {"type": "string"}}),
    ];
    let list = answers("200", "A page of dead letters.", list_of(&listed, json!({"next": next})));
    let summary = "Events that could not be applied to a document, and those behind them";
    add(paths, "/v1/dead-letters", "get", "list_dead_letters", summary, list);
    let projection = json!({"name": "projection", "in": "query", "schema": {"type": "string"}, "description": "Only those of this one."});
    takes_parameters(paths, "/v1/dead-letters", std::iter::once(projection).chain(page.clone()));
    let event = json!({"anyOf": [{"$ref": "#/components/schemas/Event"}, {"type": "null"}]});
    let shown = list_of(&letter, json!({"next": next, "event": event}));
    let shown = answers("200", "A page of them, and the event of the first of all.", shown);
    let path = "/v1/dead-letters/{projection}/{key}";
    add(paths, path, "get", "get_dead_letters", "The dead letters of a document", shown);
    takes_parameters(paths, path, page);
    let done = json!({
        "type": "object",
        "properties": {
            "projection": {"type": "string"},
            "key": {"type": "string"},
            "position": {"type": "integer", "description": "It is done once the view has come to this position."},
        },
        "required": ["projection", "key", "position"],
    });
    let summary = "Has the dead letters of a document tried again";
    let retried = answers("202", "Where that stands in the log.", done.clone());
    add(paths, &format!("{path}/retry"), "post", "retry_dead_letters", summary, retried);
    let summary = "Has the first dead letter of a document passed over, and those behind it tried again";
    let skipped = answers("202", "Where that stands in the log.", done);
    add(paths, &format!("{path}/skip"), "post", "skip_dead_letter", summary, skipped);
    takes::<Skip>(paths, &format!("{path}/skip"), schemas);
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

/// An object with `data`, and what stands beside it.
fn list_of(item: &Value, mut beside: Value) -> Value {
    beside["data"] = json!({"type": "array", "items": item});
    let required: Vec<_> = beside.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    json!({"type": "object", "properties": beside, "required": required})
}

/// An operation of operators, with the parameters that are in its path.
fn add(paths: &mut Map<String, Value>, path: &str, method: &str, id: &str, summary: &str, responses: Value) {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<_> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    let operation = json!({
        "operationId": id, "tags": ["Operation"], "summary": summary, "security": [{"token": []}],
        "description": "For operators and administrators.", "parameters": parameters, "responses": responses,
    });
    paths.insert(path.to_owned(), json!({ method: operation }));
}

/// Gives an operation parameters, behind those in its path.
fn takes_parameters(paths: &mut Map<String, Value>, path: &str, more: impl IntoIterator<Item = Value>) {
    if let Some(parameters) = paths[path]["get"]["parameters"].as_array_mut() {
        parameters.extend(more);
    }
}

/// Gives an operation a body.
fn takes<T: JsonSchema>(paths: &mut Map<String, Value>, path: &str, schemas: &mut SchemaGenerator) {
    let body = schema::<T>(schemas);
    paths[path]["post"]["requestBody"] =
        json!({"required": true, "content": {"application/json": {"schema": body}}});
}
