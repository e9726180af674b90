//! `/openapi.json`: everything that can be asked, made from what is registered.

mod operators;

use actix_web::{HttpResponse, web};
use daybook_core::{Actor, AnyProjection, CommandSpec, Domain, Field, FieldKind, Receipt, Ruling};
use daybook_dispatch::Preview;
use daybook_identity::{Login, Logout, Refresh, Registration};
use daybook_views::{COMBINATIONS_MAX, Operator, PageQuery, Parameter, parameters};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::problem;
use crate::views::LIMIT;

/// The description, made once.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn of(domain: &Domain) -> Self {
        Self(document(domain))
    }
}

/// `GET /openapi.json`
pub(crate) async fn get(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok().json(&document.0)
}

/// The OpenAPI 3.1 description of a backend for `domain`.
pub fn document(domain: &Domain) -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let mut paths = Map::new();
    for spec in domain.commands.values() {
        paths.insert(format!("/v1/commands/{}", spec.name), json!({"post": command(spec, &mut schemas)}));
    }
    for projection in domain.projections.values() {
        let name = projection.spec().name;
        let schema = projection.schema(&mut schemas).to_value();
        paths.insert(format!("/v1/views/{name}"), json!({"get": list(&**projection, &schema)}));
        paths.insert(format!("/v1/views/{name}/{{key}}"), json!({"get": document_by_key(&**projection, &schema)}));
        paths.insert(format!("/v1/views/{name}/live"), json!({"get": live(&**projection, false)}));
        paths.insert(format!("/v1/views/{name}/{{key}}/live"), json!({"get": live(&**projection, true)}));
    }
    history(&mut paths);
    identity(&mut paths, &mut schemas);
    operators::describe(&mut paths, &mut schemas);
    operation(&mut paths);
    schemas.subschema_for::<problem::Document>();
    schemas.subschema_for::<Receipt>();
    schemas.subschema_for::<Preview>();
    let mut definitions: Map<String, Value> = schemas.take_definitions(true);
    definitions.insert("Event".into(), event_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": format!("Daybook: {}", domain.name),
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Send commands, read views, look into the history. Every failure is a problem document \
                            (RFC 9457) with a stable `code`. Amounts of money are whole minor units, times are RFC \
                            3339 in UTC.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {"Problem": {
                "description": "It did not succeed; `code` says why.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    })
}

/// What signing in means for an operation: needed, or of use, or neither.
fn security(access: &daybook_core::Access) -> Value {
    match access.rule(&Actor::Anonymous) {
        Ruling::SignIn => json!([{"token": []}]),
        Ruling::Allowed | Ruling::IfOwner | Ruling::Denied => json!([{}, {"token": []}]),
    }
}

fn command(spec: &CommandSpec, schemas: &mut SchemaGenerator) -> Value {
    let schema = (spec.schema)(schemas).to_value();
    json!({
        "operationId": spec.name,
        "tags": ["Commands"],
        "summary": format!("Sends `{}`", spec.name),
        "security": security(&spec.access),
        "parameters": [
            {
                "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "Repeated with the same key and body, the command answers its first receipt again. \
                                Kept 7 days.",
            },
            {
                "name": "If-Match", "in": "header", "schema": {"type": "string", "pattern": "^\"[0-9]+\"$"},
                "description": "The revision, in quotes, that the command's own aggregate has to be at.",
            },
            {
                "name": "dry_run", "in": "query", "schema": {"type": "boolean", "default": false},
                "description": "Answer the events that would be, decided over what is committed, and write nothing. \
                                An idempotency key is not looked at then.",
            },
        ],
        "requestBody": {"required": true, "content": {"application/json": {"schema": schema}}},
        "responses": answers("200", "Its receipt; of a dry run, the events that would be.", json!({"anyOf": [
            {"$ref": "#/components/schemas/Receipt"}, {"$ref": "#/components/schemas/Preview"},
        ]})),
    })
}

/// A parameter that a list can be filtered by.
fn filter(Parameter { name, field, operator }: &Parameter) -> Value {
    let value = match field.kind {
        FieldKind::Text => json!({"type": "string"}),
        FieldKind::Integer => json!({"type": "integer", "format": "int64"}),
        FieldKind::Time => json!({"type": "string", "format": "date-time"}),
        FieldKind::Bool => json!({"type": "boolean"}),
    };
    let how = match operator {
        Operator::Is => "is this",
        Operator::In => "is one of these",
        Operator::Gt => "is greater than this",
        Operator::Gte => "is this or greater",
        Operator::Lt => "is less than this",
        Operator::Lte => "is this or less",
    };
    let description = format!("Only documents whose `{}` {how}.", field.path.join("."));
    match operator {
        Operator::In => json!({
            "name": name, "in": "query", "style": "form", "explode": false, "description": description,
            "schema": {"type": "array", "items": value, "minItems": 1, "maxItems": COMBINATIONS_MAX},
        }),
        _ => json!({"name": name, "in": "query", "schema": value, "description": description}),
    }
}

/// What a list can be sorted by.
fn sort(fields: &[Field]) -> Option<Value> {
    let orders: Vec<_> =
        fields.iter().flat_map(|field| [field.name.to_owned(), format!("-{}", field.name)]).collect();
    (!orders.is_empty()).then(|| {
        json!({
            "name": "sort", "in": "query", "schema": {"type": "string", "enum": orders},
            "description": "In the order of this field, backwards with `-`, and then of the key; without it, of the \
                            key. A document that has nothing there comes first, and last in a list that goes backwards.",
        })
    })
}

/// Which properties a document is to have.
fn sparse(projection: &dyn AnyProjection) -> Option<Value> {
    let names: Vec<_> = projection.shape().properties().iter().map(|property| &property.name).collect();
    (!names.is_empty()).then(|| {
        json!({
            "name": "fields", "in": "query", "style": "form", "explode": false,
            "schema": {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1},
            "description": "Only these properties of the documents; the others are left out, those that a whole document always \
                            has too.",
        })
    })
}

fn freshness() -> [Value; 3] {
    [
        json!({
            "name": "If-None-Match", "in": "header", "schema": {"type": "string"},
            "description": "The `ETag` of an answer that you have: 304 when it would be the same, but for the position.",
        }),
        json!({
            "name": "min_position", "in": "query", "schema": {"type": "integer", "minimum": 0},
            "description": "Answer only from a view that has reached this position (a receipt bears one); otherwise \
                            503 `not_yet` with the position reached.",
        }),
        json!({
            "name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "wait=5",
            "description": "How many seconds to wait for `min_position`.",
        }),
    ]
}

fn list(projection: &dyn AnyProjection, schema: &Value) -> Value {
    let spec = projection.spec();
    let limit = json!({"type": "integer", "minimum": 1, "maximum": PageQuery::LIMIT_MAX, "default": LIMIT});
    let mut parameters: Vec<_> = parameters(spec.fields).map(|parameter| filter(&parameter)).collect();
    parameters.extend(sort(spec.fields));
    parameters.extend([
        json!({"name": "limit", "in": "query", "schema": limit}),
        json!({
            "name": "cursor", "in": "query", "schema": {"type": "string"},
            "description": "Where to go on: `next` of the page before, with the same filters and the same order.",
        }),
    ]);
    parameters.extend(sparse(projection));
    parameters.extend(freshness());
    let personal: Vec<_> =
        projection.shape().properties().iter().filter(|property| property.is_personal).collect();
    let personal: Vec<_> = personal.iter().map(|property| format!("`{}`", property.name)).collect();
    let description = match personal.as_slice() {
        [] => String::new(),
        personal => format!(
            "Personal, and so stored sealed: {}. These can be neither filtered nor sorted by.",
            personal.join(", ")
        ),
    };
    json!({
        "operationId": format!("list_{}", spec.name),
        "tags": ["Views"],
        "summary": spec.summary,
        "description": description,
        "security": security(&spec.access),
        "parameters": parameters,
        "responses": tagged("A page, and the position that the view has reached.", &json!({
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": schema},
                "next": {"type": ["string", "null"]},
                "position": {"type": "integer"},
            },
            "required": ["data", "next", "position"],
        })),
    })
}

fn document_by_key(projection: &dyn AnyProjection, schema: &Value) -> Value {
    let spec = projection.spec();
    let mut parameters =
        vec![json!({"name": "key", "in": "path", "required": true, "schema": {"type": "string"}})];
    parameters.extend(sparse(projection));
    parameters.push(json!({
        "name": "at", "in": "query",
        "schema": {"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "date-time"}]},
        "description": "The document as it was: behind the event at this position, or behind the last one recorded by this \
                        time, as this version of the view tells it. Who may read only what is theirs has to own it now, \
                        and has to have owned it then; what is personal and erased since stays so. 409 `not_happened` \
                        when the view has not come so far. It is folded out of the log when it is asked for.",
    }));
    parameters.extend(freshness());
    json!({
        "operationId": format!("get_{}", spec.name),
        "tags": ["Views"],
        "summary": spec.summary,
        "security": security(&spec.access),
        "parameters": parameters,
        "responses": tagged("The document, its revision, and the position that it corresponds to.", &json!({
            "type": "object",
            "properties": {
                "data": schema,
                "position": {"type": "integer"},
                "revision": {"type": "integer"},
            },
            "required": ["data", "position", "revision"],
        })),
    })
}

/// What a view's documents become: all that match, or one of them.
fn live(projection: &dyn AnyProjection, one: bool) -> Value {
    let spec = projection.spec();
    let mut parameters = vec![json!({
        "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
        "description": "The last `id` that you were told: you hear of what has changed since, or that this is not known \
                        any more.",
    })];
    let kind = if one {
        parameters.push(json!({"name": "key", "in": "path", "required": true, "schema": {"type": "string"}}));
        "document"
    } else {
        parameters.extend(daybook_views::parameters(spec.fields).map(|parameter| filter(&parameter)));
        "view"
    };
    json!({
        "operationId": format!("follow_{}_{kind}", spec.name),
        "tags": ["Views"],
        "summary": format!("Follows a {kind}. {}", spec.summary),
        "description": "Server-sent events: `document` with `key`, `revision` and `data`, what it is now; `removed` with \
                        `key`, of one that is gone or does not match any more; `reset`, when everything has to be read \
                        anew; `ended` with `code`, when you may not read on. An `id` says how far you were told \
                        everything: it begins with a position.",
        "security": security(&spec.access),
        "parameters": parameters,
        "responses": {
            "200": {"description": "The events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    })
}

fn history(paths: &mut Map<String, Value>) {
    let parameter = |name: &str, schema: Value, description: &str| json!({"name": name, "in": "query", "schema": schema, "description": description});
    let limit = parameter("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}), "");
    let after = parameter(
        "after",
        json!({"type": "integer", "minimum": 0, "default": 0}),
        "Only events after this position.",
    );
    let page = json!({
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
            "next": {"type": ["integer", "null"], "description": "Where to go on, as `after`. A page with few \
                      events, or none, need not be the last: a search looks at a bounded number of events at a time."},
        },
        "required": ["data", "next"],
    });
    let mut events =
        answers("200", "A page of events; with `Accept: application/x-ndjson`, all of them.", page.clone());
    events["200"]["content"]["application/x-ndjson"] = json!({"schema": {"type": "string"}});
    let time = json!({"type": "string", "format": "date-time"});
    paths.insert(
        "/v1/events".into(),
        json!({"get": {
            "operationId": "find_events", "tags": ["History"], "security": [{"token": []}],
            "summary": "Events of the whole log, for analysts, operators and administrators",
            "parameters": [
                after, limit,
                parameter("stream", json!({"type": "string"}), "Only events of this stream."),
                parameter("type", json!({"type": "string"}), "Only events of this type."),
                parameter("actor", json!({"type": "string"}), "Only events that this actor caused."),
                parameter("correlation_id", json!({"type": "string"}), "Only events of this correlation id."),
                parameter("since", time.clone(), "Only events recorded at this time or later."),
                parameter("until", time, "Only events recorded before this time."),
            ],
            "responses": events,
        }}),
    );
    let path = |name: &str, schema: Value| json!({"name": name, "in": "path", "required": true, "schema": schema});
    paths.insert(
        "/v1/events/{position}".into(),
        json!({"get": {
            "operationId": "get_event", "tags": ["History"], "security": [{"token": []}],
            "summary": "The event at a position",
            "parameters": [path("position", json!({"type": "integer", "minimum": 1}))],
            "responses": answers("200", "The event.", json!({"$ref": "#/components/schemas/Event"})),
        }}),
    );
    paths.insert(
        "/v1/streams/{stream}".into(),
        json!({"get": {
            "operationId": "get_stream", "tags": ["History"], "security": [{"token": []}],
            "summary": "A stream's events, for everybody who may see the document that the stream stands behind",
            "parameters": [path("stream", json!({"type": "string"})), after, limit],
            "responses": answers("200", "A page of its events.", page),
        }}),
    );
}

fn identity(paths: &mut Map<String, Value>, schemas: &mut SchemaGenerator) {
    let tokens = json!({
        "type": "object",
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"const": "Bearer"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "refresh_token": {"type": "string"},
        },
        "required": ["access_token", "token_type", "expires_in", "refresh_token"],
    });
    let account = json!({
        "type": "object",
        "properties": {"account_id": {"type": "string", "format": "uuid"}},
        "required": ["account_id"],
    });
    let mut add = |name: &str, summary: &str, body: Value, responses: Value| {
        paths.insert(
            format!("/v1/auth/{name}"),
            json!({"post": {
                "operationId": name, "tags": ["Identity"], "summary": summary, "security": [],
                "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
                "responses": responses,
            }}),
        );
    };
    let body = schemas.subschema_for::<Registration>().to_value();
    add("register", "Opens an account", body, answers("201", "The account.", account));
    let body = schemas.subschema_for::<Login>().to_value();
    add("login", "Starts a session", body, answers("200", "Its tokens.", tokens.clone()));
    let body = schemas.subschema_for::<Refresh>().to_value();
    add(
        "refresh",
        "Goes on with a session; the refresh token is used up",
        body,
        answers("200", "New tokens.", tokens),
    );
    let body = schemas.subschema_for::<Logout>().to_value();
    let done = json!({"204": {"description": "Done."}, "default": {"$ref": "#/components/responses/Problem"}});
    add("logout", "Ends a session", body, done);
    paths.insert(
        "/.well-known/jwks.json".into(),
        json!({"get": {
            "operationId": "jwks", "tags": ["Identity"], "security": [],
            "summary": "The public keys that access tokens are signed with",
            "responses": answers("200", "A JSON Web Key Set.", json!({"type": "object"})),
        }}),
    );
}

fn operation(paths: &mut Map<String, Value>) {
    let mut add = |path: &str, id: &str, summary: &str| {
        paths.insert(
            path.into(),
            json!({"get": {
                "operationId": id, "tags": ["Operation"], "summary": summary, "security": [],
                "responses": answers("200", "Yes.", json!({"type": "object"})),
            }}),
        );
    };
    add("/health/live", "live", "Whether the process answers");
    add("/health/ready", "ready", "Whether the process can do its work");
    add("/openapi.json", "openapi", "This description");
}

/// What a view answers: with a tag, or that the reader has it already.
fn tagged(description: &str, schema: &Value) -> Value {
    let tag = json!({"ETag": {"schema": {"type": "string"}, "description": "For `If-None-Match`."}});
    json!({
        "200": {
            "description": description, "headers": tag, "content": {"application/json": {"schema": schema}},
        },
        "304": {"description": "As it is in the answer that has this `ETag`.", "headers": tag},
        "default": {"$ref": "#/components/responses/Problem"},
    })
}

fn answers(status: &str, description: &str, schema: Value) -> Value {
    json!({
        status: {"description": description, "content": {"application/json": {"schema": schema}}},
        "default": {"$ref": "#/components/responses/Problem"},
    })
}

fn event_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "position": {"type": "integer"},
            "stream": {"type": "string"},
            "revision": {"type": "integer"},
            "id": {"type": "string", "format": "uuid"},
            "type": {"type": "string"},
            "schema_version": {"type": "integer"},
            "recorded_at": {"type": "string", "format": "date-time"},
            "metadata": {"type": "object"},
            "payload": {"type": "object"},
        },
        "required": ["position", "stream", "revision", "id", "type", "schema_version", "recorded_at", "metadata", "payload"],
    })
}
