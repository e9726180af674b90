//! `/v1/dead-letters`: the events that could not be applied to a document, and those behind them.

use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Position, RecordedEvent, decode_json};
use daybook_views::{DeadLetter, RETRY, SKIP};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::projections::{closed, done, operator, operators_act, unknown};
use crate::{Backend, Problem, cursor, request};

const LIMIT: usize = 100;
/// Less than what is read of a projection at once.
const LIMIT_MAX: usize = 500;

/// A dead letter of a projection.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Listed {
    /// The projection.
    projection: String,
    #[serde(flatten)]
    letter: DeadLetter,
}

/// A page of the dead letters of a document.
#[derive(Serialize)]
struct Shown {
    data: Vec<DeadLetter>,
    next: Option<String>,
    /// The event of the first of them all, which is what is wrong.
    event: Option<RecordedEvent>,
}

/// The body of `skip`.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skip {
    /// The position of the document's first dead letter, which is the one to pass over.
    #[garde(skip)]
    #[schemars(with = "u64")]
    position: Position,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    projection: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// How many are asked for.
fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Problem::parameter("limit", format!("The limit is 1 to {LIMIT_MAX}."))),
    }
}

/// A dead letter's projection, key and position.
type Place = (String, String, Position);

/// `GET /v1/dead-letters`
pub(crate) async fn list(http: HttpRequest, backend: web::Data<Backend>) -> Result<HttpResponse, Problem> {
    operator(&http, &backend)?;
    let query: Query = request::query(http.query_string())?;
    let limit = limit(query.limit)?;
    let names: Vec<&str> = match &query.projection {
        None => backend.domain.projections.keys().copied().collect(),
        Some(name) if backend.domain.projections.contains_key(name.as_str()) => vec![name],
        Some(name) => return Err(unknown(name)),
    };
    let digests = backend.keys.digests();
    let scope = json!(["dead-letters", query.projection]).to_string();
    let after: Option<Place> = match &query.cursor {
        None => None,
        Some(sealed) => {
            let place = cursor::open(digests, &scope, sealed)?;
            Some(serde_json::from_str(&place).map_err(|error| Problem::internal(&error))?)
        }
    };
    let begun = |name: &str| after.as_ref().is_none_or(|(projection, ..)| name >= projection.as_str());
    let mut data: Vec<Listed> = Vec::new();
    for name in names.into_iter().filter(|name| begun(name)) {
        let behind = after.as_ref().filter(|(projection, ..)| projection == name);
        let behind = behind.map(|(_, key, position)| (key.clone(), *position));
        let letters = backend.views.dead_letters(name, None, behind).await?;
        data.extend(letters.into_iter().map(|letter| Listed { projection: name.to_owned(), letter }));
        if data.len() > limit {
            break;
        }
    }
    let is_more = data.len() > limit;
    data.truncate(limit);
    let next = data.last().filter(|_| is_more).map(|Listed { projection, letter }| {
        cursor::seal(digests, &scope, &json!([projection, letter.key, letter.position]).to_string())
    });
    Ok(HttpResponse::Ok().json(json!({"data": data, "next": next})))
}

/// `GET /v1/dead-letters/{projection}/{key}`
pub(crate) async fn show(
    http: HttpRequest,
    path: web::Path<(String, String)>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    operator(&http, &backend)?;
    let (projection, key) = path.into_inner();
    let query: DocumentQuery = request::query(http.query_string())?;
    let limit = limit(query.limit)?;
    let digests = backend.keys.digests();
    let scope = json!(["dead-letters", projection, key]).to_string();
    let after: Option<Position> = match &query.cursor {
        None => None,
        Some(sealed) => {
            let place = cursor::open(digests, &scope, sealed)?;
            Some(place.parse().map_err(|error| Problem::internal(&error))?)
        }
    };
    let missing = || Problem::not_found(format!("`{key}` has no dead letters in `{projection}`."));
    if key.contains('\0') {
        return Err(missing());
    }
    let first = backend.views.dead_letters(&projection, Some(&key), None).await?;
    let event = backend.log.event(first.first().ok_or_else(missing)?.position).await?;
    let mut data = match after {
        None => first,
        Some(after) => backend.views.dead_letters(&projection, Some(&key), Some((key.clone(), after))).await?,
    };
    let is_more = data.len() > limit;
    data.truncate(limit);
    let last = data.last().filter(|_| is_more);
    let next = last.map(|letter| cursor::seal(digests, &scope, &letter.position.to_string()));
    Ok(HttpResponse::Ok().json(closed(&backend, &Shown { data, next, event }).await?))
}

/// `POST /v1/dead-letters/{projection}/{key}/retry`
pub(crate) async fn retry(
    http: HttpRequest,
    path: web::Path<(String, String)>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let (projection, key) = path.into_inner();
    let metadata = operators_act(&http, &backend, &projection, RETRY).await?;
    let key = stored(key)?;
    let (views, answered) = (backend.views.clone(), (projection.clone(), key.clone()));
    let position = done(async move { views.retry(&projection, &key, &metadata).await }).await?;
    Ok(accepted(answered, position))
}

/// `POST /v1/dead-letters/{projection}/{key}/skip`
pub(crate) async fn skip(
    http: HttpRequest,
    path: web::Path<(String, String)>,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let (projection, key) = path.into_inner();
    let metadata = operators_act(&http, &backend, &projection, SKIP).await?;
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let Skip { position } = decode_json(&body)?;
    let key = stored(key)?;
    let (views, answered) = (backend.views.clone(), (projection.clone(), key.clone()));
    let position = done(async move { views.skip(&projection, &key, position, &metadata).await }).await?;
    Ok(accepted(answered, position))
}

/// A key that a document can have.
fn stored(key: String) -> Result<String, Problem> {
    match key.contains('\0') {
        true => Err(Problem::not_found("There is no document with this key.")),
        false => Ok(key),
    }
}

/// It is done once the view has come to this position.
fn accepted((projection, key): (String, String), position: Position) -> HttpResponse {
    HttpResponse::Accepted().json(json!({"projection": projection, "key": key, "position": position}))
}
