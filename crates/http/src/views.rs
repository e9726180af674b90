//! `GET /v1/views/{view}` and `GET /v1/views/{view}/{key}`

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Actor, Position, ProjectionSpec, Revision, Ruling};
use daybook_views::{AtLeast, Document, PageQuery};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::personal::Reader;
use crate::{Backend, Problem, cursor, request};

/// How many documents a page has when nobody asks for more or fewer.
const LIMIT: u32 = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    limit: Option<u32>,
    cursor: Option<String>,
    min_position: Option<Position>,
}

#[derive(Serialize)]
struct List {
    data: Vec<Box<RawValue>>,
    next: Option<String>,
    position: Position,
}

/// A page of a view's documents: all of them, or one's own.
pub(crate) async fn page(
    http: HttpRequest,
    view: web::Path<String>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let actor = request::actor(&http, &backend)?;
    let spec = spec(&backend, &view)?;
    let owner = match spec.access.rule(&actor) {
        Ruling::Allowed => None,
        Ruling::IfOwner => Some(actor.account().map(|account| account.to_string()).unwrap_or_default()),
        Ruling::SignIn => return Err(Problem::sign_in()),
        Ruling::Denied => return Err(Problem::forbidden()),
    };
    let query: ListQuery = request::query(&http)?;
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=PageQuery::LIMIT_MAX).contains(&limit) {
        let detail = format!("The limit is 1 to {}.", PageQuery::LIMIT_MAX);
        return Err(Problem::parameter("limit", detail));
    }
    let scope = format!("{}/{}/{}", spec.name, spec.version, owner.as_deref().unwrap_or("*"));
    let after = match &query.cursor {
        None => None,
        Some(sealed) => {
            let place = cursor::open(backend.keys.digests(), &scope, sealed)?;
            Some(serde_json::from_str(&place).map_err(|error| Problem::internal(&error))?)
        }
    };
    let wanted = PageQuery { owner, after, limit };
    let answer = backend.views.page(spec.name, &wanted, at_least(&http, &backend, query.min_position)).await?;
    let next = match &answer.data.next {
        None => None,
        Some(place) => {
            let place = serde_json::to_string(place).map_err(|error| Problem::internal(&error))?;
            Some(cursor::seal(backend.keys.digests(), &scope, &place))
        }
    };
    let documents = answer.data.documents.into_iter().map(|document| document.body).collect();
    // Whoever may read a restricted view does so as its documents' owner or by a role.
    let mut reader = Reader::new(&http, &backend, actor)?;
    let data = reader.opened(documents, spec.access.is_restricted()).await?;
    Ok(reader.answer().json(List { data, next, position: answer.position }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentQuery {
    min_position: Option<Position>,
}

#[derive(Serialize)]
struct One {
    data: Box<RawValue>,
    position: Position,
    revision: Revision,
}

/// One document. Somebody else's is not to be told from one that does not exist.
pub(crate) async fn document(
    http: HttpRequest,
    path: web::Path<(String, String)>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let (view, key) = path.into_inner();
    let actor = request::actor(&http, &backend)?;
    let spec = spec(&backend, &view)?;
    let missing = || Problem::not_found(format!("There is no `{key}` in `{view}`, or it is not yours."));
    let ruling = spec.access.rule(&actor);
    match ruling {
        Ruling::Allowed | Ruling::IfOwner => {}
        Ruling::SignIn => return Err(Problem::sign_in()),
        Ruling::Denied => return Err(Problem::forbidden()),
    }
    let query: DocumentQuery = request::query(&http)?;
    if key.contains('\0') {
        return Err(missing());
    }
    let answer = backend.views.get(spec.name, &key, at_least(&http, &backend, query.min_position)).await?;
    let document = answer
        .data
        .filter(|document| ruling == Ruling::Allowed || is_own(document, spec, &actor))
        .ok_or_else(missing)?;
    let revision = document.revision;
    let mut reader = Reader::new(&http, &backend, actor)?;
    let data = reader.opened(vec![document.body], spec.access.is_restricted()).await?.pop().ok_or_else(missing)?;
    Ok(reader.answer().json(One { data, position: answer.position, revision }))
}

/// How long a view may take to catch up with what decides whether somebody may read.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Whether an actor may read the document with this key, which is there from `position` on.
pub(crate) async fn may_read(
    backend: &Backend,
    actor: &Actor,
    spec: &ProjectionSpec,
    key: &str,
    position: Position,
) -> Result<bool, Problem> {
    match spec.access.rule(actor) {
        Ruling::Allowed => Ok(true),
        Ruling::SignIn | Ruling::Denied => Ok(false),
        Ruling::IfOwner => {
            let caught_up = AtLeast { position, deadline: Instant::now() + CATCH_UP };
            let document = backend.views.get(spec.name, key, Some(caught_up)).await?.data;
            Ok(document.is_some_and(|document| is_own(&document, spec, actor)))
        }
    }
}

fn spec<'a>(backend: &'a Backend, view: &str) -> Result<&'a ProjectionSpec, Problem> {
    let projection = backend.domain.projections.get(view);
    projection.map(|one| one.spec()).ok_or_else(|| Problem::not_found(format!("There is no view `{view}`.")))
}

/// Whether a document is the actor's own.
fn is_own(document: &Document, spec: &ProjectionSpec, actor: &Actor) -> bool {
    spec.access.allows(actor, owner(document, spec))
}

/// The account that owns a document, by the field that the projection names.
fn owner(document: &Document, spec: &ProjectionSpec) -> Option<uuid::Uuid> {
    let field = spec.fields.iter().find(|field| Some(field.name) == spec.owner)?;
    let body: Value = serde_json::from_str(document.body.get()).ok()?;
    let value = field.path.iter().try_fold(&body, |json, name| json.get(name))?;
    value.as_str()?.parse().ok()
}

/// The position that the view has to have reached, and until when.
fn at_least(http: &HttpRequest, backend: &Backend, position: Option<Position>) -> Option<AtLeast> {
    let position = position?;
    // What cannot be understood is as if it were not there (RFC 7240).
    let preferences = http.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    let wait_s = preferences
        .flat_map(|value| value.split([',', ';']))
        .find_map(|preference| preference.trim().strip_prefix("wait=")?.parse().ok())
        .unwrap_or(0_u64);
    let wait = Duration::from_secs(wait_s.min(backend.settings.wait_s_max));
    Some(AtLeast { position, deadline: Instant::now() + wait })
}
