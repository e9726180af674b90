//! `/health/live` and `/health/ready`

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::{Backend, Problem};

/// The process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "live"}))
}

/// The process can do its work: it has started, and its log answers. Whoever asks is not known: why a projection is
/// stopped, which may quote what is in an event, is not for everybody.
pub(crate) async fn ready(backend: web::Data<Backend>) -> Result<HttpResponse, Problem> {
    if !backend.readiness.is_ready() {
        return Err(Problem::unavailable("not_ready", "Starting, or shutting down."));
    }
    let head = backend.log.head().await?;
    let projections: Vec<_> = backend
        .views
        .status()
        .await?
        .into_iter()
        .map(|one| json!({"name": one.name, "position": one.position, "stopped": one.stopped.is_some()}))
        .collect();
    Ok(HttpResponse::build(StatusCode::OK).json(json!({
        "status": "ready",
        "position": head.position,
        "projections": projections,
    })))
}
