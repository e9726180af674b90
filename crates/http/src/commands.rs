//! `POST /v1/commands/{name}`

use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Actor, InputError, Ruling};

use crate::{Backend, Problem, request};

/// Sends a command and answers its receipt.
pub(crate) async fn post(
    http: HttpRequest,
    name: web::Path<String>,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let actor = request::actor(&http, &backend)?;
    let Some(spec) = backend.domain.commands.get(name.as_str()) else {
        return Err(unknown(&actor, &body, &name));
    };
    if spec.access.rule(&actor) == Ruling::SignIn {
        return Err(Problem::sign_in());
    }
    let request = request::command_request(&http, actor)?;
    let receipt = backend.dispatcher.dispatch(spec, &body, &request).await?;
    if receipt.forgotten().next().is_some()
        && let Err(error) = backend.identity.forgotten(receipt.position).await
    {
        tracing::warn!(%error, "their key is deleted, and the rest follows");
    }
    Ok(HttpResponse::Ok().json(receipt))
}

/// What is wrong with a command that does not exist: whatever is wrong with the request itself comes first.
fn unknown(actor: &Actor, body: &[u8], name: &str) -> Problem {
    if *actor == Actor::Anonymous {
        return Problem::sign_in();
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Err(error) => InputError::Malformed(error.to_string()).into(),
        Ok(_) => Problem::not_found(format!("There is no command `{name}`.")),
    }
}
