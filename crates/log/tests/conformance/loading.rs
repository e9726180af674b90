//! Loading what a decision reads.

use std::time::Duration;

use daybook_core::{
    Access, Actor, Aggregate, AnyCommand, Command, Context, Decision, Entity, Event, Judgement, Loaded, Missing,
    NotLoaded, Outcome, Reads, Rejection, Snapshots, States, StreamId, event_set,
};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Log, LogError, NewRecord};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fixture::{commit, event, execute, nothing, open, order, to};

on_both!(
    &[Schema::Log],
    streams_are_loaded_in_the_order_of_their_events,
    several_streams_are_loaded_from_one_state_of_the_log,
    an_event_that_cannot_be_read_stops_the_load,
    a_long_stream_is_loaded_from_its_snapshot,
    a_snapshot_that_does_not_fit_means_a_full_replay,
    a_state_of_another_history_is_not_kept,
);

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
struct Order {
    totals: Vec<i64>,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(20, 3));

    fn apply(&mut self, event: &OrderEvent) {
        let OrderEvent::OrderPlaced(placed) = event;
        self.totals.push(placed.total);
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

fn placed(stream: &StreamId, total: i64) -> NewRecord {
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

/// What a load of the first order makes of it.
async fn totals(log: &Log) -> String {
    let mut loaded = Loaded::default();
    for stream in log.load(missing(&["1"])).await.expect("it loads").0 {
        loaded.insert(stream);
    }
    match decide(&["1"], &loaded) {
        Outcome::Decided(Judgement::Rejected(seen), _) => seen.message,
        other => panic!("all is loaded: {other:?}"),
    }
}

/// Places an order of 25 events and waits until its load has left a snapshot behind.
async fn with_snapshot(database: &Database) -> Log {
    let log = open(database).await;
    let events = (0..25).map(|total| placed(&order(1), total)).collect();
    commit(&log, Append { events, ..nothing() }).await;
    assert_eq!(totals(&log).await, format!("{:?}", [(0..25).collect::<Vec<_>>()]));
    snapshot_kept(database).await;
    log
}

/// Waits until there is a snapshot.
pub(crate) async fn snapshot_kept(database: &Database) {
    let kept = async {
        while count(database).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), kept).await.expect("a snapshot");
}

async fn count(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM snapshots";
    match database {
        Database::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        Database::Sqlite(file) => sqlx::query_scalar(sql).fetch_one(file.readers()).await,
    }
    .expect("a number")
}

async fn a_long_stream_is_loaded_from_its_snapshot(_: Location, database: Database) {
    let log = with_snapshot(&database).await;
    commit(&log, Append { events: vec![placed(&order(1), 25)], ..nothing() }).await;
    assert_eq!(totals(&log).await, format!("{:?}", [(0..26).collect::<Vec<_>>()]));
    // Whoever forges a snapshot shows that it is read.
    execute(&database, r#"UPDATE snapshots SET state = '{"totals":[7]}'"#).await.expect("it is no event");
    assert_eq!(totals(&log).await, "[[7, 25]]");
}

async fn a_snapshot_that_does_not_fit_means_a_full_replay(_: Location, database: Database) {
    let log = with_snapshot(&database).await;
    let forged = r#"UPDATE snapshots SET state = '{"totals":[7]}'"#;
    for misfit in [
        r#"UPDATE snapshots SET state = '{"total":[7]}'"#.to_owned(),
        "UPDATE snapshots SET state = '[]'".to_owned(),
        format!("{forged}, state_version = 2"),
        format!("{forged}, state_version = 4"),
        format!("{forged}, state_version = 3, event_id = '00000000-0000-4000-8000-000000000000'"),
    ] {
        execute(&database, &misfit).await.expect("it is no event");
        assert_eq!(totals(&log).await, format!("{:?}", [(0..25).collect::<Vec<_>>()]), "{misfit}");
    }
}

async fn a_state_of_another_history_is_not_kept(_: Location, database: Database) {
    let log = open(&database).await;
    let events = |id| (0..20).map(|total| placed(&order(id), total)).collect();
    for id in [1, 2] {
        commit(&log, Append { events: events(id), ..nothing() }).await;
    }
    let mut states = missing(&["1", "2"]);
    let mut last = Uuid::nil();
    for event in crate::fixture::read_all(&log).await {
        let own = states.iter_mut().find(|missing| *missing.stream() == event.stream).expect("one of the two");
        own.apply(&event).expect("an order's");
        last = event.id;
    }
    let committed = log.submit(nothing()).expect("there is room");
    // The first was folded when another event stood at its revision. They are kept one after the other.
    for (state, event_id) in states.iter_mut().zip([Uuid::from_u128(1), last]) {
        let snapshot = state.state().due_snapshot().expect("it is time for one");
        log.keep(state.stream(), snapshot, event_id, committed.ticket());
    }
    snapshot_kept(&database).await;
    assert_eq!(count(&database).await, 1);
    execute(&database, "DELETE FROM snapshots WHERE stream = 'order-2'").await.expect("it is no event");
    assert_eq!(count(&database).await, 0, "that of the second order was kept");
}
