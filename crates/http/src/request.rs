//! What handlers take out of a request: its body, its actor, its headers, its query.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, IF_MATCH, USER_AGENT};
use actix_web::{HttpRequest, web};
use daybook_core::{Actor, Revision};
use daybook_dispatch::Request;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::observe::RequestInfo;
use crate::{Backend, Problem};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a JSON body: of the right content type, and within the limit.
pub(crate) async fn body(
    request: &HttpRequest,
    payload: &mut web::Payload,
    bytes_max: usize,
) -> Result<Vec<u8>, Problem> {
    let content_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.split(';').next().is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "The body has to be application/json.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    }
    let too_large = || {
        let detail = format!("The body has more than {bytes_max} bytes.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    let announced =
        header(request, &actix_web::http::header::CONTENT_LENGTH)?.and_then(|length| length.parse().ok());
    if announced.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large());
    }
    timeout(BODY_TIMEOUT, whole(payload, bytes_max, too_large)).await.unwrap_or_else(|_| {
        let detail = format!("The body did not arrive within {} seconds.", BODY_TIMEOUT.as_secs());
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail))
    })
}

async fn whole(
    payload: &mut web::Payload,
    bytes_max: usize,
    too_large: impl Fn() -> Problem,
) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            let detail = format!("The body did not arrive whole: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", detail)
        })?;
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Who sends the request: by its access token, or nobody in particular when it bears none.
pub(crate) fn actor(request: &HttpRequest, backend: &Backend) -> Result<Actor, Problem> {
    let actor = actor_of(backend, bearer(request)?)?;
    RequestInfo::of(request).actor.replace(Some(actor.clone()));
    Ok(actor)
}

/// Who has an access token.
pub(crate) fn actor_of(backend: &Backend, token: Option<&str>) -> Result<Actor, Problem> {
    match token {
        None => Ok(Actor::Anonymous),
        Some(token) => Ok(backend.identity.authenticate(token)?.actor),
    }
}

/// The access token that a request bears.
pub(crate) fn bearer(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let Some(value) = header(request, &AUTHORIZATION)? else { return Ok(None) };
    let token = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(Problem::sign_in)?;
    Ok(Some(token))
}

/// The request as the dispatcher sees it.
pub(crate) fn command_request(request: &HttpRequest, actor: Actor) -> Result<Request, Problem> {
    let idempotency_key = idempotency_key(request)?;
    Ok(Request { idempotency_key, if_match: if_match(request)?, ..plain_request(request, actor)? })
}

/// The same, of a request that sends no command.
pub(crate) fn plain_request(request: &HttpRequest, actor: Actor) -> Result<Request, Problem> {
    let info = RequestInfo::of(request);
    Ok(Request {
        actor,
        about: None,
        client_ip: info.client_ip.clone(),
        user_agent: request
            .headers()
            .get(USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).chars().take(256).collect()),
        correlation_id: info.correlation_id.clone(),
        traceparent: header(request, &HeaderName::from_static("traceparent"))?
            .filter(|trace| trace.len() <= 64 && trace.bytes().all(|b| b.is_ascii_graphic()))
            .map(ToOwned::to_owned),
        causation_id: None,
        idempotency_key: None,
        if_match: None,
    })
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(key) = header(request, &HeaderName::from_static("idempotency-key"))? else { return Ok(None) };
    if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        Ok(Some(key.to_owned()))
    } else {
        Err(Problem::parameter("Idempotency-Key", "An idempotency key has 1 to 255 visible ASCII characters."))
    }
}

fn if_match(request: &HttpRequest) -> Result<Option<Revision>, Problem> {
    let Some(value) = header(request, &IF_MATCH)? else { return Ok(None) };
    value
        .trim()
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .and_then(|revision| revision.parse().ok())
        .map(Some)
        .ok_or_else(|| Problem::parameter("If-Match", "If-Match is one revision in quotes: \"3\"."))
}

/// A header that may be there once.
pub(crate) fn header<'a>(request: &'a HttpRequest, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name);
    let (Some(value), None) = (values.next(), values.next()) else {
        return match request.headers().contains_key(name) {
            true => Err(Problem::parameter(name.as_str(), "This header may be given once.")),
            false => Ok(None),
        };
    };
    value.to_str().map(Some).map_err(|_| Problem::parameter(name.as_str(), "This header is not plain ASCII."))
}

/// Refuses U+0000, which no store holds.
pub(crate) fn without_nul(query: &str) -> Result<(), Problem> {
    match query.contains("%00") {
        true => Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", "A parameter holds U+0000.")),
        false => Ok(()),
    }
}

/// Reads a query string into a struct that says which parameters there are.
pub(crate) fn query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    without_nul(query)?;
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let (name, detail) = (error.path().to_string(), error.inner().to_string());
        match name.as_str() {
            "." | "?" => Problem::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail),
            name => Problem::parameter(name, detail),
        }
    })
}
