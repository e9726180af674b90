//! What surrounds every request: its correlation id, its line in the log, its metrics; panics end here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ResponseHead, ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError, web};
use daybook_core::Actor;
use futures_util::FutureExt;
use metrics::{Label, SharedString};
use tokio::time::timeout;
use uuid::Uuid;

use crate::door::WayOut;
use crate::server::Pattern;
use crate::{Backend, Problem};

/// The header that carries the correlation id, both ways.
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// What is known of a request beside its content. The log line is made of it.
#[derive(Debug)]
pub(crate) struct RequestInfo {
    /// Ties together everything that the request sets off.
    pub(crate) correlation_id: String,
    /// The address that it came from, behind the proxies that are trusted.
    pub(crate) client_ip: Option<String>,
    /// Who sent it, once that is known.
    pub(crate) actor: RefCell<Option<Actor>>,
}

impl RequestInfo {
    /// What is known of a request.
    pub(crate) fn of(request: &HttpRequest) -> Rc<Self> {
        request.extensions().get::<Rc<Self>>().cloned().unwrap_or_else(|| Rc::new(Self::new(None, None)))
    }

    fn new(correlation_id: Option<&str>, client_ip: Option<String>) -> Self {
        let correlation_id = correlation_id
            .filter(|id| is_correlation_id(id))
            .map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned);
        Self { correlation_id, client_ip, actor: RefCell::new(None) }
    }
}

/// A caller may choose the correlation id, if it is one that can stand anywhere.
fn is_correlation_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// How long an answer may take, besides what its reader chose to wait.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// How long this answer may take.
fn time_limit(request: &ServiceRequest) -> Duration {
    let waits = request.query_string().contains("min_position=");
    let wait_s_max = backend(request).map_or(0, |backend| backend.settings.wait_s_max);
    TIME_LIMIT + Duration::from_secs(if waits { wait_s_max } else { 0 })
}

fn backend(request: &ServiceRequest) -> Option<&web::Data<Backend>> {
    request.app_data()
}

/// The middleware.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let info = Rc::new(RequestInfo::new(
        request.headers().get(CORRELATION_ID).and_then(|value| value.to_str().ok()),
        backend(&request)
            .and_then(|backend| backend.settings.trusted_proxies.client(&request))
            .map(|ip| ip.to_string()),
    ));
    request.extensions_mut().insert(info.clone());
    let way_out = WayOut::of(request.request());
    let (method, path) = (request.method().clone(), request.path().to_owned());

    let limit = time_limit(&request);
    // The request itself cannot be kept meanwhile: the router needs it for itself.
    let mut answered = match timeout(limit, AssertUnwindSafe(next.call(request)).catch_unwind()).await {
        Ok(Ok(Ok(response))) => Ok(response.map_into_boxed_body()),
        Ok(Ok(Err(error))) => Err(Problem::of(&error)),
        Ok(Err(_)) => Err(Problem::internal(&"a handler panicked")),
        Err(_) => Err(Problem::timed_out(limit)),
    };
    let problem = match &answered {
        Ok(response) => response.response().error().map(Problem::of),
        Err(problem) => Some(problem.clone()),
    };
    if let Some(cause) = problem.as_ref().and_then(Problem::cause) {
        tracing::error!(cause, correlation_id = info.correlation_id, "a request failed");
    }
    if let Some(problem) = problem.clone() {
        let problem = problem.correlated(&info.correlation_id);
        answered = match answered {
            Ok(response) => Ok(response.into_response(problem.to_response())),
            Err(_) => Err(problem),
        };
    }

    let pattern = answered.as_ref().ok().and_then(|response| response.request().app_data::<Pattern>().cloned());
    let route = pattern.map_or(SharedString::const_str("unmatched"), |Pattern(path)| path.into());
    let outcome = problem.as_ref().map_or(Cow::Borrowed("ok"), |problem| problem.code().to_owned().into());
    let status = match &answered {
        Ok(response) => response.status().as_u16(),
        Err(problem) => problem.status_code().as_u16(),
    };
    let took = started.elapsed();
    tracing::info!(
        target: "daybook::request",
        client_ip = info.client_ip.as_deref(),
        actor = info.actor.borrow().as_ref().and_then(Actor::name),
        method = method.as_str(),
        path,
        route = &*route,
        status,
        outcome = &*outcome,
        duration_ms = took.as_secs_f64() * 1000.0,
        correlation_id = info.correlation_id,
        "request",
    );
    let labels = [Label::from_static_parts("method", known(&method)), Label::new("route", route)];
    metrics::histogram!("daybook_http_request_duration_seconds", labels.iter()).record(took.as_secs_f64());
    let [method, route] = labels;
    metrics::counter!("daybook_http_requests_total", vec![method, route, Label::new("outcome", outcome)])
        .increment(1);

    let leave = |head: &mut ResponseHead| {
        if let Ok(value) = HeaderValue::from_str(&info.correlation_id) {
            head.headers_mut().insert(CORRELATION_ID, value);
        }
        head.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(way_out) = way_out {
            way_out.taken(head);
        }
    };
    match answered {
        Ok(mut response) => {
            leave(response.response_mut().head_mut());
            Ok(response)
        }
        Err(problem) => {
            let mut response = problem.to_response();
            leave(response.head_mut());
            Err(InternalError::from_response(problem, response).into())
        }
    }
}

/// The method, or `other` for one that a client made up: metrics have a bounded number of labels.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::ConnectionType;
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service, try_call_service};
    use actix_web::{App, HttpResponse};

    use super::*;
    use crate::door::Connections;

    /// The answer of a server that closes.
    async fn answer(path: &str) -> HttpResponse {
        let panics = || async { panic!("the handler's mistake") as HttpResponse };
        let app = App::new()
            .app_data(Connections::closing())
            .wrap(from_fn(observe))
            .route("/well", web::to(HttpResponse::Ok))
            .route("/panics", web::to(panics));
        let service = init_service(app).await;
        let request = TestRequest::get().uri(path).insert_header((CORRELATION_ID, "mine")).to_request();
        match try_call_service(&service, request).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        }
    }

    #[actix_web::test]
    async fn every_answer_bears_what_all_do() {
        for (path, status) in [("/well", 200), ("/nowhere", 404), ("/panics", 500)] {
            let answer = answer(path).await;
            assert_eq!(answer.status().as_u16(), status, "{path}");
            assert_eq!(answer.headers().get(CORRELATION_ID).expect("its id"), "mine", "{path}");
            assert_eq!(answer.headers().get(X_CONTENT_TYPE_OPTIONS).expect("it has it"), "nosniff", "{path}");
            assert_eq!(answer.head().connection_type(), ConnectionType::Close, "{path}");
        }
    }
}
