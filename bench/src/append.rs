//! Appends, one event each, with the revision that its stream has to be at.

use anyhow::{bail, ensure};
use chrono::Utc;
use clap::{Arg, ArgAction, ArgMatches, Command};
use daybook_core::{Position, Revision, StreamId};
use daybook_dispatch::Request;
use daybook_keys::Keys;
use daybook_log::{Append, Claim, Expected, IdempotencyKey, Log, NewRecord, Settings, Verdict};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::calls::{Caller, closed_loop};
use crate::workload::{Counted, CounterEvent, has_claim, has_key, keys, request};
use crate::{arguments, filled};

/// How many streams of its own a caller goes on with.
const OWN_STREAMS: usize = 100;

/// How many streams of a filled log the callers go on with, all together.
const FILLED_STREAMS: u64 = 2_000;

pub(crate) fn command() -> Command {
    let flag = |name| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("append")
        .about("Appends, one event each; half of them begin a stream")
        .args(arguments::store())
        .args(arguments::load())
        .args([
            flag("filled").help("Go on with streams of a filled log"),
            flag("random-ids").help("Name new streams with random UUIDs, not with ordered ones"),
            flag("in-clear").help("Have address and user agent in clear, where nothing is sealed"),
            flag("snapshot").help("Have a snapshot of the database open all the time"),
        ])
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let keys = keys(&database).await?;
    let before = log.head().await?.position;
    let count: u64 = arguments::parse(arguments, "callers")?;
    let appending = |index| {
        let mut appending = Appending::new(&log, &keys, before, index);
        if arguments.get_flag("in-clear") {
            appending.request = in_clear(appending.request);
        }
        appending.streams.random_ids = arguments.get_flag("random-ids");
        appending
    };
    let mut callers: Vec<_> = (0..count).map(appending).collect();
    if arguments.get_flag("filled") {
        deal(&log, &mut callers).await?;
    }
    let snapshot = match arguments.get_flag("snapshot") {
        true => Some(open_snapshot(arguments::text(arguments, "url")?).await?),
        false => None,
    };
    let measured = closed_loop(callers, arguments::window(arguments)?).await?;
    if let Some(mut snapshot) = snapshot {
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut snapshot).await?;
        ensure!(seen.unsigned_abs() == before.get(), "the snapshot did not last");
    }
    let after = log.head().await?.position;
    if after != before.plus(measured.calls) {
        bail!("{} appends were acknowledged, and the log went from {before} to {after}", measured.calls);
    }
    log.close().await;
    database.close().await;
    Ok(measured.to_json())
}

/// Has what is sealed in metadata where nothing is: in the correlation id.
fn in_clear(request: Request) -> Request {
    let texts = [Some(request.correlation_id), request.client_ip, request.user_agent];
    let correlation_id = texts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Request { correlation_id, client_ip: None, user_agent: None, ..request }
}

/// Begins to look at the database as it is now, as a backup does.
async fn open_snapshot(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM events LIMIT 1")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// Gives the callers streams of a filled log to go on with.
async fn deal(log: &Log, callers: &mut [Appending]) -> anyhow::Result<()> {
    let count = callers.len();
    for (index, stream) in filled::streams(log, FILLED_STREAMS).await?.into_iter().enumerate() {
        let (loaded, _) = log.load(filled::missing(&stream)?).await?;
        let caller = &mut callers[index % count];
        caller.streams.own.extend(loaded.iter().map(|loaded| (loaded.stream().clone(), loaded.revision())));
        caller.streams.keeps = true;
    }
    Ok(())
}

/// Somebody who appends one event after the other.
pub(crate) struct Appending {
    log: Log,
    keys: Keys,
    request: Request,
    streams: Streams,
    /// How far the log was when, as far as the log can tell, the caller read the stream that it goes on with.
    seen: Position,
    calls: u64,
}

impl Appending {
    /// Caller number `index`, when the log ended at `seen`.
    pub(crate) fn new(log: &Log, keys: &Keys, seen: Position, index: u64) -> Self {
        Self {
            log: log.clone(),
            keys: keys.clone(),
            request: request(),
            streams: Streams::default(),
            seen,
            // So that not all are at their tenth call at the same time.
            calls: index,
        }
    }
}

/// The streams that a caller goes on with.
#[derive(Default)]
pub(crate) struct Streams {
    /// With what they are at.
    own: Vec<(StreamId, Revision)>,
    /// Whether they stay the same, and do not make room for those that were begun.
    keeps: bool,
    /// Whether new ones have random names.
    random_ids: bool,
}

impl Streams {
    /// The stream that a call appends to, and its place among those to go on with. Every other call begins one.
    pub(crate) fn next(&self, call: u64) -> (Option<usize>, StreamId, Revision) {
        if call.is_multiple_of(2) || self.own.is_empty() {
            let id = if self.random_ids { Uuid::new_v4() } else { Uuid::now_v7() };
            return (None, StreamId::new("bench.counter", id), Revision::NONE);
        }
        // Not the one that was written to last, nor its neighbour.
        let place = (call as usize).wrapping_mul(37) % self.own.len();
        let (stream, revision) = self.own[place].clone();
        (Some(place), stream, revision)
    }

    /// Remembers what a call appended to.
    pub(crate) fn went_on(&mut self, call: u64, place: Option<usize>, stream: StreamId, revision: Revision) {
        match place {
            Some(place) => self.own[place].1 = revision,
            None if self.keeps => {}
            None if self.own.len() < OWN_STREAMS => self.own.push((stream, revision)),
            None => self.own[(call / 2) as usize % OWN_STREAMS] = (stream, revision),
        }
    }
}

impl Caller for Appending {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.append().await.map(drop)
    }
}

impl Appending {
    /// Appends an event; answers its stream, and where it stands.
    pub(crate) async fn append(&mut self) -> anyhow::Result<(StreamId, Position)> {
        let (place, stream, revision) = self.streams.next(self.calls);
        let command_id = Uuid::now_v7();
        let event = CounterEvent::from(Counted::new(100_000 + self.calls));
        let claim = has_claim(self.calls).then(|| Claim::Take {
            name: "bench.claim".into(),
            key: command_id.to_string(),
            holder: stream.clone(),
        });
        let key = has_key(self.calls).then(|| {
            let mut digest = [0; 32];
            digest[..16].copy_from_slice(Uuid::new_v4().as_bytes());
            IdempotencyKey { digest, body: [7; 32], expires: true }
        });
        let metadata = self.request.metadata("bench.count", command_id, Utc::now());
        let metadata = self.keys.sealed_metadata(metadata).await?;
        let append = Append {
            id: stream.id().to_owned(),
            command_id,
            events: vec![NewRecord::new(stream.clone(), &event)?],
            metadata,
            expected: vec![Expected { stream: stream.clone(), revision, read_at: Some(self.seen) }],
            claims: claim.into_iter().collect(),
            key,
            after: Vec::new(),
        };
        match self.log.append(append).await? {
            Verdict::Committed(receipt) if receipt.events.len() == 1 => {
                self.seen = receipt.position;
                self.streams.went_on(self.calls, place, stream.clone(), receipt.events[0].revision);
                self.calls += 1;
                Ok((stream, receipt.position))
            }
            other => bail!("nobody was in the way, and yet: {other:?}"),
        }
    }
}
