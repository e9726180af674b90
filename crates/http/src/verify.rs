//! `POST /v1/projections/{name}/verify`: comparing a view with the log, which is told while it goes on.
//!
//! It takes as long as the log is long; so the answer is a stream of lines, begun at once, which no time limit ends. The work
//! is done on a thread of its own: those that answer requests have others to answer.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{Position, decode_json};
use daybook_views::{Extent, Finding, Told, Verification, ViewError, Views};
use futures_util::stream;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;

use crate::personal::NO_STORE;
use crate::projections::{closed, operator, unknown};
use crate::views::live::X_ACCEL_BUFFERING;
use crate::{Backend, Problem, request};

/// The most differences that are told. All are counted.
const FINDINGS_MAX: usize = 1_000;

/// The most memory of the documents that are folded.
const BYTES_MAX: usize = 64 << 20;

/// How long to wait from telling how far it is to telling that again.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The place of the one view that is verified at a time, in this process.
pub(crate) struct Verifying(Arc<Semaphore>);

impl Verifying {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.0.clone().try_acquire_owned();
        place.map_err(|_| Problem::unavailable("busy", "A view is being verified for somebody else. Try again."))
    }
}

/// The body of `verify`.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// Whether all documents are compared, in as many passes as it takes; else as many as fit into memory at once.
    #[serde(default)]
    #[garde(skip)]
    full: bool,
}

/// A line of the answer. The last one is what was compared, or a problem.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Progress { progress: Progress },
    Finding(Finding),
    Verified(Verification),
    Problem(Problem),
}

/// How far it is.
#[derive(Serialize)]
struct Progress {
    position: Position,
    through: Position,
    slices: u16,
}

/// Compares a view with the log, as far as somebody listens.
pub(crate) async fn verify(
    http: HttpRequest,
    name: web::Path<String>,
    mut payload: web::Payload,
    backend: web::Data<Backend>,
    verifying: web::Data<Verifying>,
) -> Result<HttpResponse, Problem> {
    operator(&http, &backend)?;
    if !backend.domain.projections.contains_key(name.as_str()) {
        return Err(unknown(&name));
    }
    let body = request::body(&http, &mut payload, backend.settings.body_bytes_max).await?;
    let Verify { full } = decode_json(&body)?;
    let extent = if full { Extent::Full } else { Extent::Sample };
    let place = verifying.enter()?;
    let (teller, lines) = mpsc::channel(FINDINGS_MAX + 1);
    let (views, runtime) = (backend.views.clone(), Handle::current());
    spawn_blocking(move || {
        runtime.block_on(async {
            let last = match compare(&views, &name, extent, &teller).await {
                Ok(verified) => Line::Verified(verified),
                Err(error) => Line::Problem(error.into()),
            };
            drop(place);
            // Nobody may listen any more.
            let _ = teller.send(last).await;
        });
    });
    let told = stream::unfold((lines, backend), |(mut lines, backend)| async {
        let line = lines.recv().await?;
        if let Line::Problem(problem) = &line
            && let Some(cause) = problem.cause()
        {
            tracing::error!(cause, "a view could not be verified");
        }
        // Where documents differ, it says in what.
        let text = closed(&backend, &line)
            .await
            .map(|text| format!("{}\n", text.as_deref().map_or("", |text| text.get())));
        Some((text.map(web::Bytes::from), (lines, backend)))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, NO_STORE))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .content_type("application/x-ndjson")
        .streaming(told))
}

/// Nothing waits for whoever listens: there is room for all findings that are told.
async fn compare(
    views: &Views,
    name: &str,
    extent: Extent,
    teller: &mpsc::Sender<Line>,
) -> Result<Verification, ViewError> {
    let (mut findings_left, mut progress_at) = (FINDINGS_MAX, Instant::now() + PROGRESS_INTERVAL);
    let mut tell = |told: Told| {
        match told {
            Told::Found(finding) if findings_left > 0 => {
                findings_left -= 1;
                let _ = teller.try_send(Line::Finding(finding));
            }
            Told::Folded { position, through, slices }
                if Instant::now() >= progress_at && teller.capacity() > findings_left =>
            {
                progress_at = Instant::now() + PROGRESS_INTERVAL;
                let _ = teller.try_send(Line::Progress { progress: Progress { position, through, slices } });
            }
            Told::Found(_) | Told::Folded { .. } => {}
        }
        if teller.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    views.verify(name, extent, BYTES_MAX, &mut tell).await
}
