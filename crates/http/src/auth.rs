//! `/v1/auth/…` and `/.well-known/jwks.json`: accounts and sessions.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Actor, decode_json};
use daybook_identity::{Login, Logout, Refresh, Registration, Tokens};
use serde_json::json;

use crate::personal::NO_STORE;
use crate::{Backend, Problem, request};

/// Opens an account.
pub(crate) async fn register(
    http: HttpRequest,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let registration: Registration = decode_json(&body)?;
    let request = request::command_request(&http, Actor::Anonymous)?;
    let account = backend.identity.register(registration, &request).await?;
    Ok(HttpResponse::Created().json(json!({"account_id": account})))
}

/// Starts a session.
pub(crate) async fn login(
    http: HttpRequest,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let login: Login = decode_json(&body)?;
    let request = request::command_request(&http, Actor::Anonymous)?;
    Ok(tokens(&backend.identity.login(login, &request).await?))
}

/// Goes on with a session: a new pair of tokens for a refresh token, which is used up.
pub(crate) async fn refresh(
    http: HttpRequest,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let refresh: Refresh = decode_json(&body)?;
    let request = request::command_request(&http, Actor::Anonymous)?;
    Ok(tokens(&backend.identity.refresh(refresh, &request).await?))
}

/// Ends a session.
pub(crate) async fn logout(
    http: HttpRequest,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let logout: Logout = decode_json(&body)?;
    let request = request::command_request(&http, Actor::Anonymous)?;
    backend.identity.logout(logout, &request).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The public keys that access tokens are signed with.
pub(crate) async fn jwks(backend: web::Data<Backend>) -> HttpResponse {
    HttpResponse::Ok().json(backend.identity.jwks())
}

fn tokens(tokens: &Tokens) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, NO_STORE)).json(json!({
        "access_token": tokens.access_token,
        "token_type": "Bearer",
        "expires_in": tokens.expires_in,
        "refresh_token": tokens.refresh_token,
    }))
}
