//! The routes, and the server that answers them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Handler, Server, ServerHandle};
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{App, FromRequest, HttpServer, Resource, Responder, Route, guard, web};
use daybook_views::Act;
use socket2::SockRef;
use tokio::task::JoinHandle;

use crate::door::{Connections, Door, KEPT};
use crate::verify::Verifying;
use crate::views::live::Readers;
use crate::{
    Backend, Problem, auth, commands, dead_letters, health, history, observe, openapi, projections, verify, views,
};

/// A server at work.
pub struct Running {
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
    address: SocketAddr,
    /// `None` where nothing is lost with a request.
    door: Option<Door>,
}

impl Running {
    pub(crate) fn start(server: Server, address: SocketAddr, door: Option<Door>) -> Self {
        Self { handle: server.handle(), task: tokio::spawn(server), address, door }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has ended by itself, which it should not; not to be called again then.
    ///
    /// # Errors
    ///
    /// What it ended of.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.task).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Lets nobody in any more, and answers on until nobody can send another request: to be called before
    /// [`stop`](Self::stop), which closes connections that nobody uses.
    pub async fn let_go(&self) {
        if let Some(door) = &self.door {
            door.close(&self.handle).await;
        }
    }

    /// Stops it: requests under way are answered first, for as long as it was started with.
    pub async fn stop(self) {
        self.handle.stop(true).await;
    }
}

/// Starts to serve on `listener`.
///
/// # Errors
///
/// When the listener cannot be used.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn start(backend: Backend, listener: TcpListener) -> io::Result<Running> {
    let address = listener.local_addr()?;
    let (workers, drain) = (backend.settings.workers, Duration::from_secs(backend.settings.drain_s));
    // Idle connections are closed within it; what is under way then has the rest.
    let patience = drain.min(KEPT);
    if patience < KEPT {
        let kept_s = KEPT.as_secs();
        tracing::warn!("`drain_s` is below {kept_s}: requests may be lost that a proxy sends as the server stops");
    }
    let description = web::Data::new(openapi::Document::of(&backend.domain));
    let verifying = web::Data::new(Verifying::new());
    let settings = &backend.settings;
    let readers = web::Data::new(Readers::new(settings.live_max, settings.live_per_actor_max));
    // Accepted connections have it from here: whoever takes nothing of what is sent for so long is cut off.
    let stall = Duration::from_secs(settings.live_stall_s);
    SockRef::from(&listener).set_tcp_user_timeout(Some(stall))?;
    let backend = web::Data::new(backend);
    let connections = Arc::<Connections>::default();
    let door = Door::new(&listener, connections.clone(), patience)?;
    let opened = connections.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(backend.clone())
            .app_data(connections.clone())
            .app_data(readers.clone())
            .app_data(verifying.clone())
            .app_data(description.clone())
            .wrap(from_fn(observe::observe))
            .configure(routes)
            .default_service(web::to(|| async { Err::<String, _>(Problem::not_found("There is nothing here.")) }))
    })
    .on_connect(move |_, connection| opened.opened(connection))
    .workers(workers)
    .disable_signals()
    .keep_alive(KEPT)
    .shutdown_timeout((drain - patience).as_secs())
    .client_request_timeout(Duration::from_secs(10))
    .listen(listener)?
    .run();
    Ok(Running::start(server, address, Some(door)))
}

fn routes(routes: &mut web::ServiceConfig) {
    routes
        .service(at("/v1/commands/{name}", Only::Post, commands::post))
        .service(at("/v1/views/{view}", Only::Get, views::page))
        .service(at("/v1/views/{view}/live", Only::Get, views::live::list))
        .service(at("/v1/views/{view}/{key}", Only::Get, views::document))
        .service(at("/v1/views/{view}/{key}/live", Only::Get, views::live::document))
        .service(at("/v1/events", Only::Get, history::events))
        .service(at("/v1/events/{position}", Only::Get, history::event))
        .service(at("/v1/streams/{stream}", Only::Get, history::stream_events))
        .service(at("/v1/projections", Only::Get, projections::list))
        .service(at("/v1/projections/{name}", Only::Get, projections::one))
        .service(at("/v1/projections/{name}/rebuild", Only::Post, projections::rebuild))
        .service(at("/v1/projections/{name}/verify", Only::Post, verify::verify))
        .service(at("/v1/dead-letters", Only::Get, dead_letters::list))
        .service(at("/v1/dead-letters/{projection}/{key}", Only::Get, dead_letters::show))
        .service(at("/v1/dead-letters/{projection}/{key}/retry", Only::Post, dead_letters::retry))
        .service(at("/v1/dead-letters/{projection}/{key}/skip", Only::Post, dead_letters::skip))
        .service(at("/v1/auth/register", Only::Post, auth::register))
        .service(at("/v1/auth/login", Only::Post, auth::login))
        .service(at("/v1/auth/refresh", Only::Post, auth::refresh))
        .service(at("/v1/auth/logout", Only::Post, auth::logout))
        .service(at("/.well-known/jwks.json", Only::Get, auth::jwks))
        .service(at("/health/live", Only::Get, health::live))
        .service(at("/health/ready", Only::Get, health::ready))
        .service(at("/openapi.json", Only::Get, openapi::get));
    for act in Act::ALL {
        let carry_out = move |http, name, backend| projections::carry_out(act, http, name, backend);
        routes.service(at(&format!("/v1/projections/{{name}}/{}", act.name()), Only::Post, carry_out));
    }
}

/// What an address answers. Whoever may read may ask for the head alone.
#[derive(Clone, Copy)]
enum Only {
    Get,
    Post,
}

/// What an address looks like: its name in logs and metrics. The router would have to match it anew to say so.
#[derive(Clone)]
pub(crate) struct Pattern(pub(crate) Arc<str>);

/// An address with its handler; other methods are told which one it answers.
fn at<F, Args>(path: &str, only: Only, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let allow = match only {
        Only::Get => "GET, HEAD",
        Only::Post => "POST",
    };
    let is_answered = move |context: &guard::GuardContext<'_>| match only {
        Only::Get => matches!(context.head().method, Method::GET | Method::HEAD),
        Only::Post => context.head().method == Method::POST,
    };
    web::resource(path)
        .app_data(Pattern(path.into()))
        .route(Route::new().guard(guard::fn_guard(is_answered)).to(handler))
        .default_service(web::to(move || async move { Err::<String, _>(Problem::method(allow)) }))
}
