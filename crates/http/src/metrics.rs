//! `/metrics`, on a port of its own, with the process's health beside it: a process without the API has one too.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::BoxFuture;

use crate::{Backend, Running, health};

/// The text of all metrics, in Prometheus' format, once what they need is looked up.
pub type Render = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

/// Starts to serve `/metrics`, `/health/live` and `/health/ready` on `listener`.
///
/// # Errors
///
/// When the listener cannot be used.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn start(backend: Backend, listener: TcpListener, render: Render) -> std::io::Result<Running> {
    let address = listener.local_addr()?;
    let backend = web::Data::new(backend);
    let server =
        HttpServer::new(move || {
            let render = render.clone();
            let metrics = move || {
                let text = render();
                async move {
                    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text.await)
                }
            };
            App::new()
                .app_data(backend.clone())
                .route("/metrics", web::get().to(metrics))
                .route("/health/live", web::get().to(health::live))
                .route("/health/ready", web::get().to(health::ready))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
    Ok(Running::start(server, address, None))
}
