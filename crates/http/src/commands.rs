//! `POST /v1/commands/{name}`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Actor, CommandSpec, InputError, Ruling};
use daybook_dispatch::Request;
use serde::Deserialize;

use crate::personal::{NO_STORE, Reader};
use crate::{Backend, Problem, request};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandQuery {
    #[serde(default)]
    dry_run: bool,
}

/// Sends a command and answers its receipt; with `dry_run`, answers what it would do.
pub(crate) async fn post(
    http: HttpRequest,
    name: web::Path<String>,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let actor = request::actor(&http, &backend)?;
    let spec = backend.domain.commands.get(name.as_str());
    let has_to_sign_in = match spec {
        Some(spec) => spec.access.rule(&actor) == Ruling::SignIn,
        None => actor == Actor::Anonymous,
    };
    // Before anything that they sent is read.
    if has_to_sign_in {
        return Err(Problem::sign_in());
    }
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let Some(spec) = spec else { return Err(unknown(&body, &name)) };
    let CommandQuery { dry_run } = request::query(http.query_string())?;
    let request = request::command_request(&http, actor)?;
    if dry_run {
        return preview(&http, &backend, spec, &body, request).await;
    }
    let receipt = backend.dispatcher.dispatch(spec, &body, &request).await?;
    if receipt.forgotten().next().is_some()
        && let Err(error) = backend.identity.forgotten(receipt.position).await
    {
        tracing::warn!(%error, "their key is deleted, and the rest follows");
    }
    Ok(HttpResponse::Ok().json(receipt))
}

/// The events that would be, as whoever sent the command may see them.
async fn preview(
    http: &HttpRequest,
    backend: &web::Data<Backend>,
    spec: &CommandSpec,
    body: &[u8],
    request: Request,
) -> Result<HttpResponse, Problem> {
    let mut preview = backend.dispatcher.preview(spec, body, &request).await?;
    let mut reader = Reader::new(http, backend, request.actor)?;
    let payloads = preview.events.iter_mut().map(|event| std::mem::take(&mut event.payload)).collect();
    for (event, payload) in preview.events.iter_mut().zip(reader.opened(payloads, false).await?) {
        event.payload = payload;
    }
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(preview))
}

/// What is wrong with a command that does not exist: whatever is wrong with the request itself comes first.
fn unknown(body: &[u8], name: &str) -> Problem {
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Err(error) => InputError::Malformed(error.to_string()).into(),
        Ok(_) => Problem::not_found(format!("There is no command `{name}`.")),
    }
}
