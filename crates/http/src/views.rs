//! `GET /v1/views/{view}` and `GET /v1/views/{view}/{key}`

mod as_of;
mod etag;
pub(crate) mod live;
mod parameters;
mod sparse;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, ETAG, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Actor, AnyProjection, Position, ProjectionSpec, Revision, Ruling};
use daybook_views::{AtLeast, Document, PageQuery};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::etag::Tag;
use self::parameters::{DocumentQuery, ListQuery};
use self::sparse::Fields;
use crate::personal::{NO_STORE, Reader};
use crate::{Backend, Problem, cursor, request};

pub(crate) use self::parameters::LIMIT;

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
    let projection = projection(&backend, &view)?;
    let spec = projection.spec();
    let owner = match allowed(spec, &actor)? {
        Ruling::IfOwner => Some(actor.account().map(|account| account.to_string()).unwrap_or_default()),
        _ => None,
    };
    let ListQuery { criteria, limit, cursor, fields, min_position } =
        ListQuery::parse(http.query_string(), &**projection)?;
    // A cursor is of this list alone.
    let scope = json_text(&(spec.name, spec.version, &owner, &criteria))?;
    let digests = backend.keys.digests();
    let after = match &cursor {
        None => None,
        Some(sealed) => {
            let place = cursor::open(digests, &scope, sealed)?;
            Some(serde_json::from_str(&place).map_err(|error| Problem::internal(&error))?)
        }
    };
    let wanted = PageQuery { owner, criteria, after, limit };
    let answer = backend.views.page(spec.name, &wanted, at_least(&http, &backend, min_position)).await?;
    let next = match &answer.data.next {
        None => None,
        Some(place) => Some(cursor::seal(digests, &scope, &json_text(place)?)),
    };
    let documents = answer.data.documents.into_iter().map(|document| document.body);
    let about = json_text(&(spec.name, spec.version, &next))?;
    let shown = Shown { http: &http, backend: &backend, spec, fields, about, is_past: false };
    let reader = Reader::new(&http, &backend, actor)?;
    shown.answer(reader, documents, |data| List { data, next, position: answer.position }).await
}

#[derive(Serialize)]
struct One {
    data: Option<Box<RawValue>>,
    position: Position,
    revision: Revision,
}

/// One document, as it is or as it was. Somebody else's is not to be told from one that does not exist; who may see only
/// their own has to own it now, and has to have owned it then.
pub(crate) async fn document(
    http: HttpRequest,
    path: web::Path<(String, String)>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let (view, key) = path.into_inner();
    let actor = request::actor(&http, &backend)?;
    let projection = projection(&backend, &view)?;
    let spec = projection.spec();
    let missing = || Problem::not_found(format!("There is no `{key}` in `{view}`, or it is not yours."));
    let ruling = allowed(spec, &actor)?;
    let DocumentQuery { fields, min_position, at } = DocumentQuery::parse(http.query_string(), &**projection)?;
    if key.contains('\0') {
        return Err(missing());
    }
    let answer = backend.views.get(spec.name, &key, at_least(&http, &backend, min_position)).await?;
    let is_visible = |document: &Document| ruling == Ruling::Allowed || is_own(document, spec, &actor);
    let (document, position) = match at {
        None => (answer.data, answer.position),
        Some(at) if ruling == Ruling::Allowed || answer.data.as_ref().is_some_and(is_visible) => {
            // Rare and big: on the heap, so that every other answer's future is smaller.
            Box::pin(at.read(&backend, spec.name, &key, answer.position)).await?
        }
        Some(_) => return Err(missing()),
    };
    let Document { body, revision, .. } = document.filter(is_visible).ok_or_else(missing)?;
    let about = json_text(&(spec.name, spec.version, revision))?;
    let shown = Shown { http: &http, backend: &backend, spec, fields, about, is_past: at.is_some() };
    let reader = Reader::new(&http, &backend, actor)?;
    let one = |mut data: Vec<_>| One { data: data.pop(), position, revision };
    shown.answer(reader, std::iter::once(body), one).await
}

/// How documents are shown to somebody who asked for them.
struct Shown<'a> {
    http: &'a HttpRequest,
    backend: &'a Backend,
    spec: &'a ProjectionSpec,
    fields: Option<Fields>,
    /// What is answered beside the documents, but for the position.
    about: String,
    /// Whether they are as they were: no cache that others share keeps that.
    is_past: bool,
}

impl Shown<'_> {
    /// Answers with them, or that they are as the reader has them already. Then nothing of them is opened.
    async fn answer<T: Serialize>(
        self,
        mut reader: Reader,
        documents: impl Iterator<Item = Box<RawValue>>,
        answer: impl FnOnce(Vec<Box<RawValue>>) -> T,
    ) -> Result<HttpResponse, Problem> {
        let documents: Vec<_> = match &self.fields {
            None => documents.collect(),
            Some(fields) => documents.map(|document| fields.of(&document)).collect::<Result<_, _>>()?,
        };
        // Whoever may read a restricted view does so as its documents' owner or by a role.
        let all = self.spec.access.is_restricted();
        let sight = reader.sight(&documents, all).await?;
        let tag = Tag::new(self.backend.keys.digests(), &self.about, &sight, &documents);
        // What is kept is asked for again each time; nobody but its reader keeps what not everybody sees.
        let kept = match (sight.is_open(), all || self.is_past) {
            (true, _) => NO_STORE,
            (false, true) => HeaderValue::from_static("private, no-cache"),
            (false, false) => HeaderValue::from_static("no-cache"),
        };
        let mut response = match tag.is_known_to(self.http) {
            true => HttpResponse::NotModified().finish(),
            false => {
                let data = match sight.is_of_nobody() {
                    true => documents,
                    false => Box::pin(reader.opened(documents, all)).await?,
                };
                HttpResponse::Ok().json(answer(data))
            }
        };
        response.headers_mut().insert(CACHE_CONTROL, kept);
        let tag = HeaderValue::from_str(tag.as_str()).map_err(|error| Problem::internal(&error))?;
        response.headers_mut().insert(ETAG, tag);
        Ok(response)
    }
}

fn json_text(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::internal(&error))
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

/// Whether an actor may read a view: all of it, or what is their own.
fn allowed(spec: &ProjectionSpec, actor: &Actor) -> Result<Ruling, Problem> {
    match spec.access.rule(actor) {
        ruling @ (Ruling::Allowed | Ruling::IfOwner) => Ok(ruling),
        Ruling::SignIn => Err(Problem::sign_in()),
        Ruling::Denied => Err(Problem::forbidden()),
    }
}

fn projection<'a>(backend: &'a Backend, view: &str) -> Result<&'a Arc<dyn AnyProjection>, Problem> {
    let projection = backend.domain.projections.get(view);
    projection.ok_or_else(|| Problem::not_found(format!("There is no view `{view}`.")))
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
