//! Logs that `daybook bench fill` has written.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use daybook_core::{
    Access, Aggregate, AnyCommand, Command, Context, Decision, Entity, Event, Loaded, NotLoaded, Outcome,
    Position, Reads, Rejection, StreamId, event_set,
};
use daybook_core::{Actor, Missing};
use daybook_log::Log;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::workload::Counted;

/// What `daybook bench fill` writes, as its reader sees it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Filled {
    /// Which event of its stream it is, from 1.
    pub(crate) number: u64,
    /// How many its stream was to have.
    of: u64,
    pub(crate) filler: String,
}

impl Event for Filled {
    const TYPE: &'static str = "daybook.bench.filled";
    const VERSION: u32 = 1;
}

event_set! {
    /// What is in the streams of such a log: also what was appended to them later.
    pub(crate) enum FilledEvent { Filled, Counted }
}

/// A stream of such a log.
#[derive(Debug, Clone, Default)]
struct FilledStream {
    events: u64,
}

impl Aggregate for FilledStream {
    const CATEGORY: &'static str = "daybook.bench";
    type Event = FilledEvent;

    fn apply(&mut self, _: &FilledEvent) {
        self.events += 1;
    }
}

/// Looks at a stream, and does nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema, garde::Validate)]
struct Look {
    #[garde(skip)]
    stream: String,
}

impl Command for Look {
    const NAME: &'static str = "bench.look";
    const ACCESS: Access = Access::anyone();
    type Model = Entity<FilledStream>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(FilledStream::CATEGORY, &self.stream)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(&self.stream)
    }

    fn handle(&self, _: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        Ok(Decision::new())
    }
}

/// What has to be loaded to decide over a stream of such a log.
pub(crate) fn missing(stream: &StreamId) -> anyhow::Result<Vec<Missing>> {
    let context = Context {
        actor: Actor::Anonymous,
        now: chrono::Utc::now(),
        command_id: Uuid::nil(),
        fresh_id: Uuid::nil(),
    };
    match (Look { stream: stream.id().to_owned() }).decide(&Loaded::default(), &context) {
        Outcome::Missing(missing) => Ok(missing),
        other => bail!("nothing is loaded, and yet: {other:?}"),
    }
}

/// Some of the log's streams, from all over it; `count` at most.
pub(crate) async fn streams(log: &Log, count: u64) -> anyhow::Result<BTreeSet<StreamId>> {
    let head = log.head().await?.position.get();
    let mut streams = BTreeSet::new();
    for index in 0..count {
        // Not at the same place in each block of streams that was written together.
        let position = 1 + (index * head / count + index * 7) % head.max(1);
        let event = log.event(Position::new(position)).await?.context("positions are dense")?;
        if event.stream.category() == FilledStream::CATEGORY {
            streams.insert(event.stream);
        }
    }
    if streams.is_empty() {
        bail!("`daybook bench fill` has not written to this log");
    }
    Ok(streams)
}
