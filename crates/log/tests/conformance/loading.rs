//! Loading what a decision reads.

use daybook_core::{
    Access, Actor, Aggregate, AnyCommand, Command, Context, Decision, Entity, Event, Judgement, Loaded, Missing,
    NotLoaded, Outcome, Personal, Reads, Rejection, Snapshots, States, StreamId, event_set,
};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Log, LogError, NewRecord};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fixture::{commit, event, nothing, open, order, to};

on_both!(
    &[Schema::Log],
    streams_are_loaded_in_the_order_of_their_events,
    several_streams_are_loaded_from_one_state_of_the_log,
    an_event_that_cannot_be_read_stops_the_load,
);

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct OrderPlaced {
    pub(crate) total: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<Personal<String>>,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 1;
}

event_set! {
    pub(crate) enum OrderEvent { OrderPlaced }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Order {
    totals: Vec<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Personal<String>>,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(20, 3));

    fn apply(&mut self, event: &OrderEvent) {
        let OrderEvent::OrderPlaced(placed) = event;
        self.totals.push(placed.total);
        self.note = placed.note.clone().or(self.note.take());
    }
}

/// Reads orders, and rejects with what it has read.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema, garde::Validate)]
struct Look {
    #[garde(skip)]
    ids: Vec<String>,
}

impl Command for Look {
    const NAME: &'static str = "order.look";
    const ACCESS: Access = Access::anyone();
    type Model = Vec<Entity<Order>>;

    fn target(&self, _: &Context) -> StreamId {
        order(1)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.all(&self.ids)
    }

    fn handle(&self, orders: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let totals: Vec<_> = orders.iter().map(|order| order.totals.as_slice()).collect();
        Err(Rejection::rule("seen", format!("{totals:?}")))
    }
}

fn decide(ids: &[&str], loaded: &Loaded) -> Outcome {
    let context = Context {
        actor: Actor::System("test"),
        now: chrono::DateTime::default(),
        command_id: Uuid::nil(),
        fresh_id: Uuid::nil(),
    };
    AnyCommand::decide(&Look { ids: ids.iter().map(ToString::to_string).collect() }, loaded, &context)
}

pub(crate) fn missing(ids: &[&str]) -> Vec<Missing> {
    match decide(ids, &Loaded::default()) {
        Outcome::Missing(missing) => missing,
        other => panic!("nothing is loaded yet: {other:?}"),
    }
}

pub(crate) fn placed(stream: &StreamId, total: i64) -> NewRecord {
    NewRecord { payload: format!(r#"{{"total":{total}}}"#), ..event(stream) }
}

async fn streams_are_loaded_in_the_order_of_their_events(_: Location, database: Database) {
    let log = open(&database).await;
    for total in 0..12 {
        let streams = [order(2), order(1), order(3)];
        let events = streams.iter().enumerate().map(|(index, stream)| placed(stream, total * 10 + index as i64));
        commit(&log, Append { events: events.collect(), ..nothing() }).await;
    }
    let mut loaded = Loaded::default();
    for stream in log.load(missing(&["1", "none", "2"])).await.expect("they load").0 {
        loaded.insert(stream);
    }
    assert_eq!(loaded.state(&order(1)).map(|state| state.revision().get()), Some(12));
    assert_eq!(loaded.state(&order("none")).map(|state| state.revision().get()), Some(0));
    let Outcome::Decided(Judgement::Rejected(seen), _) = decide(&["1", "none", "2"], &loaded) else {
        panic!("all is loaded")
    };
    let totals = |index: i64| (0..12).map(|total| total * 10 + index).collect::<Vec<_>>();
    assert_eq!(
        seen.to_string(),
        Rejection::rule("seen", format!("{:?}", [totals(1), vec![], totals(0)])).to_string()
    );
}

async fn several_streams_are_loaded_from_one_state_of_the_log(_: Location, database: Database) {
    let log = open(&database).await;
    let appending = {
        let log = log.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                commit(&log, to(&[&order(1), &order(2)])).await;
            }
        })
    };
    while !appending.is_finished() {
        let (loaded, _) = log.load(missing(&["2", "1"])).await.expect("they load");
        assert_eq!(loaded[0].revision(), loaded[1].revision());
    }
    appending.await.expect("all is committed");
}

async fn an_event_that_cannot_be_read_stops_the_load(_: Location, database: Database) {
    let log = open(&database).await;
    let unknown = NewRecord { schema_version: 2, ..event(&order(2)) };
    commit(&log, Append { events: vec![event(&order(1)), unknown], ..nothing() }).await;
    match log.load(missing(&["1", "2"])).await {
        Err(LogError::Decode(error)) => assert_eq!((error.position.get(), error.schema_version), (2, 2)),
        other => panic!("{other:?}"),
    }
}

/// What a load of an order makes of it.
pub(crate) async fn totals(log: &Log, id: &str) -> String {
    let mut loaded = Loaded::default();
    for stream in log.load(missing(&[id])).await.expect("it loads").0 {
        loaded.insert(stream);
    }
    match decide(&[id], &loaded) {
        Outcome::Decided(Judgement::Rejected(seen), _) => seen.message,
        other => panic!("all is loaded: {other:?}"),
    }
}
