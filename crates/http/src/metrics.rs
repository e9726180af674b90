//! `/metrics`, on a port of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpResponse, HttpServer, web};

/// The text of all metrics, in Prometheus' format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves `/metrics` on `listener`. The returned server runs when it is polled.
///
/// # Errors
///
/// When the listener cannot be used.
pub fn serve(listener: TcpListener, render: Render) -> std::io::Result<(Server, ServerHandle, SocketAddr)> {
    let address = listener.local_addr()?;
    let server = HttpServer::new(move || {
        let render = render.clone();
        App::new().route(
                "/metrics",
                web::get().to(move || {
                    let text = render();
                    async move {
                        HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
                    }
                }),
            )
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .listen(listener)?
    .run();
    let handle = server.handle();
    Ok((server, handle, address))
}
