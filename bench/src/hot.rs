//! Commands of which each decides on the newest state of a stream.

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, EventSet, NotLoaded, Reads, Rejection, Snapshots,
    StreamId,
};
use daybook_dispatch::{Dispatcher, Request};
use daybook_log::{EventFilter, Log, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::arguments;
use crate::calls::{Caller, closed_loop};
use crate::workload::{Counted, CounterEvent, has_claim, has_key, keys, request};

/// A number that is counted up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
}

impl Aggregate for Counter {
    const CATEGORY: &'static str = "bench.counter";
    type Event = CounterEvent;
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(1_000, 1));

    fn apply(&mut self, CounterEvent::Counted(counted): &CounterEvent) {
        self.count = counted.count;
    }
}

/// Counts one up.
#[derive(Debug, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
struct Count {
    #[garde(skip)]
    counter: String,
    /// Something to claim, too.
    #[garde(skip)]
    claim: Option<Uuid>,
}

impl Command for Count {
    const NAME: &'static str = "bench.count";
    const ACCESS: Access = Access::signed_in();
    type Model = Entity<Counter>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Counter::CATEGORY, &self.counter)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(&self.counter)
    }

    fn handle(&self, counter: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let mut decision = Decision::new().emit(counter, Counted::new(counter.count + 1));
        if let Some(claim) = self.claim {
            let taken = Rejection::rule("claimed", "Somebody else has drawn the same id.");
            decision = decision.claim(counter, "bench.claim", claim.to_string(), taken);
        }
        Ok(decision)
    }
}

pub(crate) fn command() -> clap::Command {
    clap::Command::new("hot")
        .about("Commands, each deciding on the newest state of a stream")
        .args(arguments::store())
        .args(arguments::load())
        .arg(arguments::with_default("streams", "1", "How many streams the callers share"))
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let (callers, streams): (usize, usize) =
        (arguments::parse(arguments, "callers")?, arguments::parse(arguments, "streams")?);
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let keys = keys(&database).await?;
    let dispatcher = Dispatcher::new(log.clone(), keys, daybook_dispatch::Settings::default());
    let name = |index: usize| (index % streams).to_string();
    let callers = (0..callers)
        .map(|index| Counting {
            dispatcher: dispatcher.clone(),
            request: request(),
            counter: name(index),
            calls: index as u64,
        })
        .collect();
    let measured = closed_loop(callers, arguments::window(arguments)?).await?;
    for index in 0..streams {
        check(&log, StreamId::new(Counter::CATEGORY, name(index))).await?;
    }
    dispatcher.close().await;
    log.close().await;
    database.close().await;
    Ok(measured.to_json())
}

struct Counting {
    dispatcher: Dispatcher,
    request: Request,
    counter: String,
    calls: u64,
}

impl Caller for Counting {
    async fn call(&mut self) -> anyhow::Result<()> {
        let claim = has_claim(self.calls).then(Uuid::now_v7);
        self.request.idempotency_key = has_key(self.calls).then(|| Uuid::now_v7().to_string());
        self.calls += 1;
        let count = Count { counter: self.counter.clone(), claim };
        self.dispatcher.run(Count::NAME, Count::ACCESS, &count, &self.request).await?;
        Ok(())
    }
}

/// Checks that each decision was made on the newest state: nothing was counted twice, or left out.
async fn check(log: &Log, stream: StreamId) -> anyhow::Result<()> {
    let mut filter = EventFilter { stream: Some(stream), ..EventFilter::default() };
    loop {
        let page = log.find(&filter, 10_000).await?;
        for event in &page.events {
            let CounterEvent::Counted(counted) = CounterEvent::decode(event)?.context("not a counter's event")?;
            if counted.count != event.revision.get() {
                bail!("{}@{} counts {}", event.stream, event.revision, counted.count);
            }
        }
        match page.next {
            Some(next) => filter.after = next,
            None => return Ok(()),
        }
    }
}
