//! `GET /v1/views/{view}/live` and `GET /v1/views/{view}/{key}/live`: what becomes of documents, as server-sent events.
//!
//! A reader is told what they would be answered: each document is read for them as it is now, with their rights and what is
//! open to them. So one that changes twice may be told once, and one may be told again; what they have been told last is
//! true at the position that the last `id` names.
//!
//! Nobody waits for a slow reader. What is not taken stays with their connection alone, and is a bounded piece: this stream is
//! not asked for more then, the [news](daybook_views::Live) run past it, and when it is asked again, it tells them to read
//! everything anew. One that takes nothing any more is cut off by the system (`live_stall_s`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use daybook_core::{AnyProjection, Position, Ruling};
use daybook_views::{AtLeast, Criteria, Live, Mark, News};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, Interval, interval_at};

use super::{CATCH_UP, allowed, is_own, json_text, parameters};
use crate::observe::RequestInfo;
use crate::personal::{NO_STORE, Reader};
use crate::{Backend, Problem, request};

/// How often somebody who is told nothing hears that the stream is there still, and is asked for their rights. Whoever has
/// gone away is noticed by what is sent to them the second time, and holds their place until then.
const BEAT: Duration = Duration::from_secs(2);

/// How much is read for a reader before it is sent, at least: so much, and one document, is what each of them may hold.
const PIECE_BYTES: usize = 16 << 10;

/// The header in which a reader says how far they were told.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks a proxy (nginx) not to hold anything back.
pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follows a list: all documents, or one's own.
pub(crate) async fn list(
    http: HttpRequest,
    view: web::Path<String>,
    backend: web::Data<Backend>,
    readers: web::Data<Readers>,
) -> Result<HttpResponse, Problem> {
    let stream = Stream::new(&http, &backend, &readers, &view, None)?;
    stream.begin(&http).await
}

/// Follows one document.
pub(crate) async fn document(
    http: HttpRequest,
    path: web::Path<(String, String)>,
    backend: web::Data<Backend>,
    readers: web::Data<Readers>,
) -> Result<HttpResponse, Problem> {
    let (view, key) = path.into_inner();
    let stream = Stream::new(&http, &backend, &readers, &view, Some(key))?;
    stream.begin(&http).await
}

/// The readers that follow something, in this process.
pub(crate) struct Readers {
    counts: Arc<Mutex<HashMap<String, usize>>>,
    max: usize,
    per_actor_max: usize,
}

impl Readers {
    pub(crate) fn new(max: usize, per_actor_max: usize) -> Self {
        Self { counts: Arc::default(), max, per_actor_max }
    }

    /// Lets one more in, if there is room.
    fn enter(&self, name: String) -> Result<Place, Problem> {
        let mut counts = locked(&self.counts);
        let all: usize = counts.values().sum();
        if all >= self.max {
            return Err(Problem::unavailable("busy", "Too many follow views just now. Try again."));
        }
        let own = counts.entry(name.clone()).or_default();
        if *own >= self.per_actor_max {
            let detail = format!("Nobody follows views more than {} times at once.", self.per_actor_max);
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_live", detail));
        }
        *own += 1;
        metrics::gauge!("daybook_live_readers").set(all as f64 + 1.0);
        drop(counts);
        Ok(Place { counts: self.counts.clone(), name })
    }
}

/// The place of one reader, until it is dropped.
struct Place {
    counts: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = locked(&self.counts);
        if let Some(own) = counts.get_mut(&self.name) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.name);
            }
        }
        metrics::gauge!("daybook_live_readers").set(counts.values().sum::<usize>() as f64);
    }
}

fn locked(counts: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A document as a reader is told of it.
#[derive(Serialize)]
struct Changed<'a> {
    key: &'a str,
    revision: u64,
    data: Box<RawValue>,
}

/// A document that is none of theirs any more: it is gone, or does not match what they asked for.
#[derive(Serialize)]
struct Removed<'a> {
    key: &'a str,
}

/// Documents of which a reader is being told.
struct Telling {
    keys: Arc<[String]>,
    /// How many of them were read.
    read: usize,
    /// Whether the reader was told of any. The event of the last one is not ended: its `id` may follow.
    has_told: bool,
    mark: Mark,
}

/// What one reader follows.
struct Stream {
    backend: web::Data<Backend>,
    projection: Arc<dyn AnyProjection>,
    /// One document, or all that match.
    key: Option<String>,
    criteria: Criteria,
    reader: Reader,
    /// What the reader showed; shown again before each event.
    token: Option<String>,
    after: Option<Mark>,
    /// What is being told.
    telling: Option<Telling>,
    _place: Place,
}

impl Stream {
    fn new(
        http: &HttpRequest,
        backend: &web::Data<Backend>,
        readers: &Readers,
        view: &str,
        key: Option<String>,
    ) -> Result<Self, Problem> {
        let actor = request::actor(http, backend)?;
        let projection = super::projection(backend, view)?.clone();
        allowed(projection.spec(), &actor)?;
        if key.as_ref().is_some_and(|key| key.contains('\0')) {
            return Err(Problem::not_found("There is no such document."));
        }
        let criteria = match key {
            None => parameters::live(http.query_string(), &*projection)?,
            Some(_) => request::query::<parameters::Nothing>(http.query_string()).map(|_| Criteria::default())?,
        };
        let after = request::header(http, &LAST_EVENT_ID)?
            .map(str::parse)
            .transpose()
            .map_err(|_| Problem::parameter("Last-Event-ID", "`Last-Event-ID` is the `id` of an event."))?;
        // Of those who are not signed in, each address is somebody.
        let client = || format!("address {}", RequestInfo::of(http).client_ip.clone().unwrap_or_default());
        let _place = readers.enter(actor.name().unwrap_or_else(client))?;
        let token = request::bearer(http)?.map(str::to_owned);
        let reader = Reader::new(http, backend, actor)?;
        Ok(Self {
            backend: backend.clone(),
            projection,
            key,
            criteria,
            reader,
            token,
            after,
            telling: None,
            _place,
        })
    }

    async fn begin(mut self, http: &HttpRequest) -> Result<HttpResponse, Problem> {
        let name = self.projection.spec().name;
        let mut live = self.backend.views.live(name, self.after).await?;
        let first =
            live.next().await.ok_or_else(|| Problem::unavailable("unavailable", "The server is closing."))?;
        let first = match self.key.clone() {
            // Whoever follows one document is told first what it is now, whatever they were told before.
            Some(key) => {
                let told = self.tell([key].into(), first.mark).await?;
                if !told.starts_with("event: document") {
                    let key = self.key.as_deref().unwrap_or_default();
                    return Err(Problem::not_found(format!(
                        "There is no `{key}` in `{name}`, or it is not yours."
                    )));
                }
                told
            }
            None => self.told(first).await?,
        };
        let mut answer = HttpResponse::Ok();
        // It ends with the server: then is no time for another request.
        answer
            .force_close()
            .insert_header((CACHE_CONTROL, NO_STORE))
            .insert_header((X_ACCEL_BUFFERING, "no"))
            .content_type("text/event-stream");
        if http.method() == Method::HEAD {
            return Ok(answer.finish());
        }
        let state = State { beat: interval_at(Instant::now() + BEAT, BEAT), stream: self, live };
        let first = stream::once(std::future::ready(Ok(Bytes::from(first))));
        let further = stream::unfold(Some(state), |state| async {
            let mut state = state?;
            match state.next().await {
                Some(Ok(text)) => Some((Ok(Bytes::from(text)), Some(state))),
                // The last that is said.
                Some(Err(problem)) => Some((Ok::<_, Problem>(Bytes::from(ended(&problem))), None)),
                None => None,
            }
        });
        Ok(answer.streaming(stream::StreamExt::chain(first, further)))
    }

    /// Whether the reader is still who they were, and may still read.
    fn check(&self) -> Result<(), Problem> {
        let actor = request::actor_of(&self.backend, self.token.as_deref())?;
        if actor != *self.reader.actor() {
            return Err(Problem::forbidden());
        }
        allowed(self.projection.spec(), &actor).map(drop)
    }

    /// The first events of some news; none when they are about nothing that the reader follows.
    async fn told(&mut self, news: News) -> Result<String, Problem> {
        match (news.keys, self.key.clone()) {
            (Some(keys), None) if keys.is_empty() => Ok(reached(news.mark)),
            (Some(keys), None) => self.tell(keys, news.mark).await,
            (Some(keys), Some(key)) if keys.binary_search(&key).is_err() => Ok(String::new()),
            (_, Some(key)) => self.tell([key].into(), news.mark).await,
            (None, None) => Ok(format!("event: reset\nid: {}\ndata: {{}}\n\n", news.mark)),
        }
    }

    /// The first events of documents that have changed.
    async fn tell(&mut self, keys: Arc<[String]>, mark: Mark) -> Result<String, Problem> {
        self.tell_on(Telling { keys, read: 0, has_told: false, mark }).await
    }

    /// The next events of documents that have changed, as they are now. The last one says how far they go: whoever is cut
    /// off before that hears of all of them again.
    async fn tell_on(&mut self, mut telling: Telling) -> Result<String, Problem> {
        let mut told = String::new();
        while let Some(key) = telling.keys.get(telling.read) {
            if told.len() >= PIECE_BYTES {
                self.telling = Some(telling);
                return Ok(told);
            }
            telling.read += 1;
            let Some(event) = self.event(key, telling.mark.position).await? else { continue };
            if std::mem::replace(&mut telling.has_told, true) {
                told.push('\n');
            }
            told.push_str(&event);
        }
        if telling.has_told {
            told.push_str(&reached(telling.mark));
        }
        Ok(told)
    }

    /// The event of a document, if it is the reader's to know of. It may be followed by its `id`.
    async fn event(&mut self, key: &str, position: Position) -> Result<Option<String>, Problem> {
        let spec = self.projection.spec();
        let all = spec.access.rule(self.reader.actor()) == Ruling::Allowed;
        let caught_up = AtLeast { position, deadline: Instant::now() + CATCH_UP };
        let document = self.backend.views.get(spec.name, key, Some(caught_up)).await?.data;
        let removed = || Ok(Some(format!("event: removed\ndata: {}\n", json_text(&Removed { key })?)));
        let Some(document) = document else {
            // Whose it was is not known any more; whoever follows one document was shown that it was theirs.
            return if all || self.key.is_some() { removed() } else { Ok(None) };
        };
        if !all && !is_own(&document, spec, self.reader.actor()) {
            return if self.key.is_some() { removed() } else { Ok(None) };
        }
        let body =
            || serde_json::from_str::<Value>(document.body.get()).map_err(|error| Problem::internal(&error));
        if !self.criteria.is_any() && !self.criteria.matches(&body()?) {
            return removed();
        }
        let revision = document.revision.get();
        let data = self.reader.opened(vec![document.body], spec.access.is_restricted()).await?.pop();
        let data = data.ok_or_else(|| Problem::internal(&"a document was lost"))?;
        Ok(Some(format!("event: document\ndata: {}\n", json_text(&Changed { key, revision, data })?)))
    }
}

/// A stream at work.
struct State {
    stream: Stream,
    live: Live,
    beat: Interval,
}

impl State {
    /// What to send next; an error is the reason why it is the last. `None` when the server closes.
    async fn next(&mut self) -> Option<Result<String, Problem>> {
        loop {
            let telling = self.stream.telling.take();
            let news = match &telling {
                Some(_) => None,
                None => tokio::select! {
                    news = self.live.next() => Some(news?),
                    _ = self.beat.tick() => None,
                },
            };
            if let Err(problem) = self.stream.check() {
                return Some(Err(problem));
            }
            let told = match (telling, news) {
                (Some(telling), _) => self.stream.tell_on(telling).await,
                (None, Some(news)) => self.stream.told(news).await,
                (None, None) => Ok(":\n\n".to_owned()),
            };
            match told {
                Ok(told) if told.is_empty() => {}
                told => {
                    self.beat.reset();
                    return Some(told);
                }
            }
        }
    }
}

/// Says how far everything before it goes. A line of its own says so and is no event.
fn reached(mark: Mark) -> String {
    format!("id: {mark}\n\n")
}

/// Ends the event before it, too, when that was not ended.
fn ended(problem: &Problem) -> String {
    format!("\nevent: ended\ndata: {{\"code\":\"{}\"}}\n\n", problem.code())
}
