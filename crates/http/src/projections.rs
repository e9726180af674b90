//! `/v1/projections`: what operators see of projections, and what they do about them.

use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Access, Actor, Metadata, Role, Ruling, decode_json};
use daybook_views::{Act, GenerationStatus, REBUILD, Status, ViewError, acts_stream};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::{Backend, Problem, request};

/// Who runs the system.
const ACCESS: Access = Access::roles(&[Role::Operator]);

/// A projection with its generations.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Overview {
    #[serde(flatten)]
    status: Status,
    /// All its generations, the oldest first.
    generations: Vec<GenerationStatus>,
}

/// The body of `rebuild`.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rebuild {
    /// Whether what was built is held when it differs from what is served, until somebody confirms it.
    #[serde(default)]
    #[garde(skip)]
    confirm_diff: bool,
}

/// `GET /v1/projections`
pub(crate) async fn list(http: HttpRequest, backend: web::Data<Backend>) -> Result<HttpResponse, Problem> {
    operator(&http, &backend)?;
    Ok(HttpResponse::Ok().json(json!({"data": backend.views.status().await?})))
}

/// `GET /v1/projections/{name}`
pub(crate) async fn one(
    http: HttpRequest,
    name: web::Path<String>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    operator(&http, &backend)?;
    let generations = backend.views.generations(&name).await?;
    let status = backend.views.status().await?.into_iter().find(|one| one.name == *name);
    let status = status.ok_or_else(|| unknown(&name))?;
    // Where documents differ, it says in what.
    Ok(HttpResponse::Ok().json(closed(&backend, &Overview { status, generations }).await?))
}

/// `POST /v1/projections/{name}/rebuild`
pub(crate) async fn rebuild(
    http: HttpRequest,
    name: web::Path<String>,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let metadata = operators_act(&http, &backend, &name, REBUILD).await?;
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let Rebuild { confirm_diff } = decode_json(&body)?;
    let (views, projection) = (backend.views.clone(), name.clone());
    let generation = done(async move { views.rebuild(&projection, confirm_diff, &metadata).await }).await?;
    Ok(HttpResponse::Accepted().json(json!({"projection": *name, "generation": generation})))
}

/// `POST /v1/projections/{name}/pause`, and all that needs no body either.
pub(crate) async fn carry_out(
    act: Act,
    http: HttpRequest,
    name: web::Path<String>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let metadata = operators_act(&http, &backend, &name, act.command()).await?;
    let (views, projection) = (backend.views.clone(), name.clone());
    let generation = done(async move { act.carry_out(&views, &projection, &metadata).await }).await?;
    Ok(HttpResponse::Ok().json(json!({"projection": *name, "generation": generation})))
}

/// Lets only operators pass, to read.
pub(crate) fn operator(http: &HttpRequest, backend: &Backend) -> Result<Actor, Problem> {
    let actor = request::actor(http, backend)?;
    match ACCESS.rule(&actor) {
        Ruling::Allowed => Ok(actor),
        Ruling::SignIn => Err(Problem::sign_in()),
        Ruling::IfOwner | Ruling::Denied => Err(Problem::forbidden()),
    }
}

/// Lets only operators pass, to do something about a projection; answers the metadata of that. Who may not is on record.
pub(crate) async fn operators_act(
    http: &HttpRequest,
    backend: &Backend,
    projection: &str,
    act: &'static str,
) -> Result<Metadata, Problem> {
    let actor = request::actor(http, backend)?;
    let ruling = ACCESS.rule(&actor);
    if ruling == Ruling::SignIn {
        return Err(Problem::sign_in());
    }
    if !backend.domain.projections.contains_key(projection) {
        return Err(unknown(projection));
    }
    let request = request::plain_request(http, actor)?;
    if ruling != Ruling::Allowed {
        backend.dispatcher.record_denial(&request, act, &acts_stream(projection)).await?;
        return Err(Problem::forbidden());
    }
    Ok(backend.dispatcher.metadata(&request, act).await?)
}

/// Does something in a task of its own, which goes on when the client goes away: what the log tells of is done too.
pub(crate) async fn done<T: Send + 'static>(
    act: impl Future<Output = Result<T, ViewError>> + Send + 'static,
) -> Result<T, Problem> {
    Ok(tokio::spawn(act).await.map_err(|error| Problem::internal(&error))??)
}

/// JSON with all personal fields closed, whoever reads it: they are of no use to whoever runs the system.
pub(crate) async fn closed(backend: &Backend, value: &impl Serialize) -> Result<Option<Box<RawValue>>, Problem> {
    let document = to_raw_value(value).map_err(|error| Problem::internal(&error))?;
    Ok(backend.keys.open_documents(vec![document], &|_| false).await?.documents.pop())
}

pub(crate) fn unknown(projection: &str) -> Problem {
    Problem::not_found(format!("There is no projection `{projection}`."))
}
