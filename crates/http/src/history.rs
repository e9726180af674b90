//! `/v1/events`, `/v1/events/{position}` and `/v1/streams/{stream}`: what happened.
//!
//! Analysts, operators and administrators read all of it. Everybody else reads the streams of what they may see in
//! a view: a stream has the permission of the document that it stands behind.

use actix_web::http::Method;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Datelike, Utc};
use daybook_core::{Access, Actor, Position, RecordedEvent, Role, Ruling, StreamId};
use daybook_log::{EventFilter, EventPage, Log};
use futures_util::future::ready;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::personal::{NO_STORE, Reader};
use crate::{Backend, Problem, request, views};

/// Who may read the whole history.
pub(crate) const ACCESS: Access = Access::roles(&[Role::Analyst, Role::Operator]);

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    #[serde(default)]
    after: Position,
    limit: Option<usize>,
    stream: Option<StreamId>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    actor: Option<String>,
    correlation_id: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    next: Option<Position>,
}

/// `GET /v1/events`: a page as JSON, or everything that matches as NDJSON.
pub(crate) async fn events(http: HttpRequest, backend: web::Data<Backend>) -> Result<HttpResponse, Problem> {
    let mut reader = reader(&http, &backend)?;
    let query: Query = request::query(http.query_string())?;
    let limit = limit(query.limit)?;
    for (name, time) in [("since", query.since), ("until", query.until)] {
        if time.is_some_and(|time| !(0..=9_999).contains(&time.year())) {
            return Err(Problem::parameter(name, "A year is 0 to 9999."));
        }
    }
    let filter = EventFilter {
        after: query.after,
        stream: query.stream,
        of_people: false,
        event_type: query.event_type,
        actor: query.actor,
        correlation_id: query.correlation_id,
        since: query.since,
        until: query.until,
    };
    let accepted = http.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    if accepted.into_iter().any(|accept| accept.contains("application/x-ndjson")) {
        let left = query.limit.map(|_| limit);
        // The first page is read before the status is sent: a log that is away is no answer of 200.
        let first = ndjson_page(&backend.log, &mut reader, filter, left).await?;
        let body = ndjson(backend.log.clone(), reader, first);
        // What later pages hold is not known yet.
        let mut answer = HttpResponse::Ok();
        answer.insert_header((CACHE_CONTROL, NO_STORE)).content_type("application/x-ndjson");
        if http.method() == Method::HEAD {
            return Ok(answer.finish());
        }
        return Ok(answer.streaming(body));
    }
    let found = backend.log.find(&filter, limit).await?;
    answer(found, &mut reader).await
}

/// `GET /v1/events/{position}`
pub(crate) async fn event(
    http: HttpRequest,
    position: web::Path<String>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let mut reader = reader(&http, &backend)?;
    let missing = || Problem::not_found(format!("There is no event at position `{position}`."));
    let at: Position = position.parse().map_err(|_| missing())?;
    let event = backend.log.event(at).await?.ok_or_else(missing)?;
    let line = lines(vec![event], &mut reader).await?.pop().ok_or_else(missing)?;
    Ok(reader.answer().content_type("application/json").body(String::from(Box::<str>::from(line))))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamQuery {
    #[serde(default)]
    after: Position,
    limit: Option<usize>,
}

/// `GET /v1/streams/{stream}`
pub(crate) async fn stream_events(
    http: HttpRequest,
    stream: web::Path<String>,
    backend: web::Data<Backend>,
) -> Result<HttpResponse, Problem> {
    let actor = request::actor(&http, &backend)?;
    let query: StreamQuery = request::query(http.query_string())?;
    let limit = limit(query.limit)?;
    let missing = || Problem::not_found(format!("There is no stream `{stream}`, or it is not yours."));
    let stream: StreamId = stream.parse().map_err(|_| missing())?;
    let filter = EventFilter { after: query.after, stream: Some(stream.clone()), ..EventFilter::default() };
    if !may_read(&backend, &actor, &stream).await? {
        return Err(if actor == Actor::Anonymous { Problem::sign_in() } else { missing() });
    }
    let found = backend.log.find(&filter, limit).await?;
    if found.events.is_empty() && query.after == Position::START {
        return Err(missing());
    }
    answer(found, &mut Reader::new(&http, &backend, actor)?).await
}

/// The reader, when they may read the whole history.
fn reader(http: &HttpRequest, backend: &web::Data<Backend>) -> Result<Reader, Problem> {
    let actor = request::actor(http, backend)?;
    match ACCESS.rule(&actor) {
        Ruling::Allowed => Reader::new(http, backend, actor),
        Ruling::SignIn => Err(Problem::sign_in()),
        Ruling::IfOwner | Ruling::Denied => Err(Problem::forbidden()),
    }
}

async fn may_read(backend: &Backend, actor: &Actor, stream: &StreamId) -> Result<bool, Problem> {
    if ACCESS.rule(actor) == Ruling::Allowed {
        return Ok(true);
    }
    let behind = backend.domain.projections.values().find(|projection| {
        let spec = projection.spec();
        spec.category == stream.category() && spec.access.is_restricted()
    });
    let Some(projection) = behind else { return Ok(false) };
    // Whose a stream is, is known from its beginning on: a view that has not come so far yet has to catch up first.
    let first = EventFilter { stream: Some(stream.clone()), ..EventFilter::default() };
    let Some(first) = backend.log.find(&first, 1).await?.events.pop() else { return Ok(false) };
    views::may_read(backend, actor, projection.spec(), stream.id(), first.position).await
}

fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(LIMIT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::parameter("limit", format!("The limit is 1 to {LIMIT_MAX}."))),
    }
}

async fn answer(found: EventPage, reader: &mut Reader) -> Result<HttpResponse, Problem> {
    let data = lines(found.events, reader).await?;
    Ok(reader.answer().json(Page { data, next: found.next }))
}

/// Events' lines as this reader may see them: with their own personal fields open, and everybody's for an administrator.
async fn lines(events: Vec<RecordedEvent>, reader: &mut Reader) -> Result<Vec<Box<RawValue>>, Problem> {
    let line = |event: &RecordedEvent| to_raw_value(event).map_err(|error| Problem::internal(&error));
    let lines = events.iter().map(line).collect::<Result<_, _>>()?;
    let opens_all = reader.actor().has_any(&[]);
    reader.opened(lines, opens_all).await
}

/// Some lines, and where to go on: the filter, and how many are left.
type Lines = (Bytes, Option<(EventFilter, Option<usize>)>);

async fn ndjson_page(
    log: &Log,
    reader: &mut Reader,
    mut filter: EventFilter,
    left: Option<usize>,
) -> Result<Lines, Problem> {
    let page = log.find(&filter, left.unwrap_or(LIMIT_MAX).min(LIMIT_MAX)).await?;
    let count = page.events.len();
    let mut text = String::new();
    for line in lines(page.events, reader).await? {
        text.push_str(line.get());
        text.push('\n');
    }
    let left = left.map(|left| left - count);
    let rest = page.next.filter(|_| left != Some(0)).map(|next| {
        filter.after = next;
        (filter, left)
    });
    Ok((Bytes::from(text), rest))
}

/// Everything that matches, page after page, until the end of the log or the limit.
fn ndjson(log: Log, reader: Reader, first: Lines) -> impl stream::Stream<Item = Result<Bytes, Problem>> {
    let (lines, rest) = first;
    let further = stream::try_unfold((reader, rest), move |(mut reader, rest)| {
        let log = log.clone();
        async move {
            let Some((filter, left)) = rest else { return Ok(None) };
            let (lines, rest) = ndjson_page(&log, &mut reader, filter, left).await?;
            Ok(Some((lines, (reader, rest))))
        }
    });
    stream::once(ready(Ok(lines))).chain(further)
}
