//! A stream that is long is not read from its beginning.

use daybook_core::{
    Access, Actor, Aggregate, AnyCommand, Command, Context, Decision, Entity, Event, Judgement, Loaded, NotLoaded,
    Outcome, Reads, Rejection, Snapshots, StreamId, event_set,
};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Log};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fixture::{commit, event, nothing, open, open_again, order};
use crate::snapshots::revisions;

on_both!(&[Schema::Log], of_a_long_stream_only_what_its_snapshot_lacks_is_folded);

/// How many events a stream has.
const EVENTS: u64 = 100_000;

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
struct OrderPlaced {
    total: i64,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 1;
}

event_set! {
    enum OrderEvent { OrderPlaced }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tally {
    total: i64,
    /// How many events were folded into this very state.
    #[serde(skip)]
    folded: u64,
}

impl Aggregate for Tally {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(500, 1));

    fn apply(&mut self, OrderEvent::OrderPlaced(placed): &OrderEvent) {
        self.total += placed.total;
        self.folded += 1;
    }
}

/// Reads an order, and rejects with what it has read.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema, garde::Validate)]
struct Look {}

impl Command for Look {
    const NAME: &'static str = "order.look";
    const ACCESS: Access = Access::anyone();
    type Model = Entity<Tally>;

    fn target(&self, _: &Context) -> StreamId {
        order(1)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(1)
    }

    fn handle(&self, tally: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        Err(Rejection::rule("seen", format!("{} folded, {} in all", tally.folded, tally.total)))
    }
}

/// What a load of the order comes to.
async fn look(log: &Log) -> String {
    let now = chrono::DateTime::default();
    let context = Context { actor: Actor::System("test"), now, command_id: Uuid::nil(), fresh_id: Uuid::nil() };
    let mut loaded = Loaded::default();
    let Outcome::Missing(missing) = AnyCommand::decide(&Look {}, &loaded, &context) else {
        panic!("nothing is loaded yet")
    };
    for stream in log.load(missing).await.expect("it loads").0 {
        loaded.insert(stream);
    }
    match AnyCommand::decide(&Look {}, &loaded, &context) {
        Outcome::Decided(Judgement::Rejected(seen), _) => seen.message,
        other => panic!("all is loaded: {other:?}"),
    }
}

async fn of_a_long_stream_only_what_its_snapshot_lacks_is_folded(location: Location, database: Database) {
    let log = open(&database).await;
    for _ in 0..EVENTS / 1_000 {
        let events = (0..1_000).map(|_| event(&order(1))).collect();
        commit(&log, Append { events, ..nothing() }).await;
    }
    assert_eq!(look(&log).await, format!("{EVENTS} folded, {EVENTS} in all"));
    revisions(&database, "1", &[EVENTS.cast_signed()]).await;
    let events = (0..7).map(|_| event(&order(1))).collect();
    commit(&log, Append { events, ..nothing() }).await;
    let other = open_again(&location).await;
    for log in [&log, &other] {
        assert_eq!(look(log).await, format!("7 folded, {} in all", EVENTS + 7));
    }
    other.close().await;
}
