//! Appends, one event each, with the revision that its stream has to be at.

use anyhow::bail;
use chrono::Utc;
use daybook_core::{Revision, StreamId};
use daybook_dispatch::Request;
use daybook_log::{Append, Claim, Expected, IdempotencyKey, Log, NewRecord, Settings, Verdict};
use serde_json::Value;
use uuid::Uuid;

use crate::closed_loop::{Caller, Window, closed_loop};
use crate::store::Store;
use crate::workload::{Counted, CounterEvent, has_claim, has_key, request};

/// How many streams a caller goes on with.
const STREAMS: usize = 100;

/// Has `callers` append for the time of `window`; half of the appends begin a stream.
pub(crate) async fn append(store: &Store, callers: usize, window: Window) -> anyhow::Result<Value> {
    let database = store.open().await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let before = log.head().await?.position;
    let callers = (0..callers).map(|index| Appending::new(&log, index)).collect();
    let measured = closed_loop(callers, window).await?;
    let after = log.head().await?.position;
    if after != before.plus(measured.calls) {
        bail!("{} appends were acknowledged, and the log went from {before} to {after}", measured.calls);
    }
    log.close().await;
    database.close().await;
    Ok(measured.to_json())
}

struct Appending {
    log: Log,
    request: Request,
    /// The streams to go on with.
    streams: Vec<(StreamId, Revision)>,
    calls: u64,
}

impl Appending {
    /// Callers are not all at their tenth call at the same time.
    fn new(log: &Log, index: usize) -> Self {
        Self { log: log.clone(), request: request(), streams: Vec::new(), calls: index as u64 }
    }

    /// Every other call begins a stream, in place of one that was gone on with for long.
    fn next_stream(&mut self) -> usize {
        if self.calls.is_multiple_of(2) || self.streams.is_empty() {
            let new = (StreamId::new("bench.counter", Uuid::now_v7()), Revision::NONE);
            if self.streams.len() < STREAMS {
                self.streams.push(new);
                return self.streams.len() - 1;
            }
            let place = (self.calls / 2) as usize % STREAMS;
            self.streams[place] = new;
            return place;
        }
        // Far from the one that was begun last.
        (self.calls as usize).wrapping_mul(37) % self.streams.len()
    }
}

impl Caller for Appending {
    async fn call(&mut self) -> anyhow::Result<()> {
        let place = self.next_stream();
        let (stream, revision) = self.streams[place].clone();
        let command_id = Uuid::now_v7();
        let event = CounterEvent::from(Counted::new(100_000 + self.calls));
        let claim = has_claim(self.calls).then(|| Claim::Take {
            name: "bench.claim".into(),
            key: command_id.to_string(),
            holder: stream.clone(),
        });
        let key = has_key(self.calls).then(|| IdempotencyKey {
            digest: [*command_id.as_bytes(), *Uuid::now_v7().as_bytes()].concat().try_into().unwrap_or_default(),
            body: [7; 32],
            expires: true,
        });
        self.calls += 1;
        let append = Append {
            id: stream.id().to_owned(),
            command_id,
            events: vec![NewRecord::new(stream.clone(), &event)?],
            metadata: self.request.metadata("bench.count", command_id, Utc::now()),
            expected: vec![Expected { stream, revision }],
            claims: claim.into_iter().collect(),
            key,
        };
        match self.log.append(append).await? {
            Verdict::Committed(receipt) if receipt.events.len() == 1 => {
                self.streams[place].1 = receipt.events[0].revision;
                Ok(())
            }
            other => bail!("nobody was in the way, and yet: {other:?}"),
        }
    }
}
