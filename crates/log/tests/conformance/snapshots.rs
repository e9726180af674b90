//! States kept beside the log.

use daybook_core::{Personal, Revision, Snapshot, StreamId};
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, EventFilter, Log};
use uuid::Uuid;

use crate::fixture::{commit, execute, nothing, open, order, read_all};
use crate::loading::{OrderEvent, OrderPlaced, missing, placed, totals};

on_both!(
    &[Schema::Log],
    a_long_stream_is_loaded_from_its_snapshot,
    a_snapshot_that_does_not_fit_means_a_full_replay,
    snapshots_that_cannot_be_read_mean_a_full_replay,
    a_snapshot_gives_way_to_a_newer_one_of_its_version_only,
    a_state_that_holds_what_is_not_sealed_is_not_kept,
    a_state_of_another_history_is_not_kept,
);

/// Places an order of 25 events.
async fn place(log: &Log, id: &str) {
    let events = (0..25).map(|total| placed(&order(id), total)).collect();
    commit(log, Append { events, ..nothing() }).await;
}

/// Places an order of 25 events and waits until its load has left a snapshot behind.
async fn place_with_snapshot(log: &Log, database: &Database, id: &str) {
    place(log, id).await;
    assert_eq!(totals(log, id).await, all());
    revisions(database, id, &[25]).await;
}

/// What the fold of an order's 25 events is.
fn all() -> String {
    format!("{:?}", [(0..25).collect::<Vec<_>>()])
}

/// Waits until the snapshots of an order are of these revisions.
pub(crate) async fn revisions(database: &Database, id: &str, expected: &[i64]) {
    let what = format!("the snapshots {expected:?} of `{id}`");
    wait_for(&what, || async { (rows(database, id).await == expected).then_some(()) }).await;
}

async fn rows(database: &Database, id: &str) -> Vec<i64> {
    let sql = "SELECT revision FROM snapshots WHERE stream = $1 ORDER BY revision";
    let stream = order(id).to_string();
    match database {
        Database::Postgres(pool) => sqlx::query_scalar(sql).bind(stream).fetch_all(pool).await,
        Database::Sqlite(file) => sqlx::query_scalar(sql).bind(stream).fetch_all(file.readers()).await,
    }
    .expect("numbers")
}

async fn a_long_stream_is_loaded_from_its_snapshot(_: Location, database: Database) {
    let log = open(&database).await;
    place_with_snapshot(&log, &database, "1").await;
    commit(&log, Append { events: vec![placed(&order(1), 25)], ..nothing() }).await;
    assert_eq!(totals(&log, "1").await, format!("{:?}", [(0..26).collect::<Vec<_>>()]));
    // Whoever forges a snapshot shows that it is read.
    execute(&database, r#"UPDATE snapshots SET state = '{"totals":[7]}'"#).await.expect("it is no event");
    assert_eq!(totals(&log, "1").await, "[[7, 25]]");
}

async fn a_snapshot_that_does_not_fit_means_a_full_replay(_: Location, database: Database) {
    let log = open(&database).await;
    let forged = r#"state = '{"totals":[7]}'"#;
    let misfits = [
        r#"state = '{"total":[7]}'"#.to_owned(),
        "state = '[]'".to_owned(),
        format!("{forged}, state_version = 2"),
        format!("{forged}, state_version = 4"),
        format!("{forged}, event_id = '00000000-0000-4000-8000-000000000000'"),
    ];
    for (id, misfit) in misfits.iter().enumerate() {
        let id = id.to_string();
        place_with_snapshot(&log, &database, &id).await;
        let update = format!("UPDATE snapshots SET {misfit} WHERE stream = '{}'", order(&id));
        execute(&database, &update).await.expect("it is no event");
        assert_eq!(totals(&log, &id).await, all(), "{misfit}");
    }
}

async fn snapshots_that_cannot_be_read_mean_a_full_replay(_: Location, database: Database) {
    let log = open(&database).await;
    place_with_snapshot(&log, &database, "1").await;
    execute(&database, "ALTER TABLE snapshots RENAME COLUMN state TO lost").await.expect("it is renamed");
    assert_eq!(totals(&log, "1").await, all());
}

/// A snapshot of an order as it was at a revision.
async fn snapshot_at(log: &Log, id: &str, revision: usize) -> Snapshot {
    let filter = EventFilter { stream: Some(order(id)), ..EventFilter::default() };
    let events = log.find(&filter, revision).await.expect("the log answers").events;
    let mut order = missing(&[id]).remove(0);
    for event in &events {
        order.apply(event).expect("an event of its own");
    }
    order.state().due_snapshot().expect("it is time for one")
}

/// The id of the event at a revision.
async fn event_at(log: &Log, stream: &StreamId, revision: Revision) -> Uuid {
    let filter = EventFilter { stream: Some(stream.clone()), ..EventFilter::default() };
    let events = log.find(&filter, 100).await.expect("the log answers").events;
    events.iter().find(|event| event.revision == revision).expect("it is there").id
}

/// Has a snapshot kept, and those that were to be kept before it.
async fn keep(log: &Log, database: &Database, stream: &StreamId, snapshot: Snapshot) {
    let after = log.reserve(nothing()).expect("there is room");
    let event_id = event_at(log, stream, snapshot.revision).await;
    log.keep(stream, snapshot, event_id, after.ticket());
    // They are kept in their order.
    let last = format!("last-{}", Uuid::now_v7());
    place(log, &last).await;
    let event_id = event_at(log, &order(&last), Revision::new(25)).await;
    log.keep(&order(&last), snapshot_at(log, &last, 25).await, event_id, after.ticket());
    after.submit().verdict().await.expect("a verdict");
    revisions(database, &last, &[25]).await;
}

async fn a_snapshot_gives_way_to_a_newer_one_of_its_version_only(_: Location, database: Database) {
    let log = open(&database).await;
    place(&log, "1").await;
    for (revision, expected) in [(21, &[21][..]), (25, &[25]), (22, &[25])] {
        keep(&log, &database, &order(1), snapshot_at(&log, "1", revision).await).await;
        assert_eq!(rows(&database, "1").await, expected);
    }
    // One that was made in another history gives way to any,
    let elsewhere = "UPDATE snapshots SET event_id = '00000000-0000-4000-8000-000000000000'";
    execute(&database, elsewhere).await.expect("it is no event");
    keep(&log, &database, &order(1), snapshot_at(&log, "1", 22).await).await;
    assert_eq!(rows(&database, "1").await, [22]);
    // and so does one that goes on where there is nothing.
    execute(&database, "UPDATE snapshots SET revision = 99").await.expect("it is no event");
    keep(&log, &database, &order(1), snapshot_at(&log, "1", 23).await).await;
    assert_eq!(rows(&database, "1").await, [23]);
    // One of another version stands beside it.
    execute(&database, "UPDATE snapshots SET state_version = 2").await.expect("it is no event");
    keep(&log, &database, &order(1), snapshot_at(&log, "1", 21).await).await;
    assert_eq!(rows(&database, "1").await, [21, 23]);
}

async fn a_state_that_holds_what_is_not_sealed_is_not_kept(_: Location, database: Database) {
    let log = open(&database).await;
    let sealed = r#"{"subject":"account-1","of":"7/note","sealed":"AQID"}"#;
    let sealed: Personal<String> = serde_json::from_str(sealed).expect("the stored form");
    let fresh = Personal::new("account-1", "for the rent".to_owned());
    for (id, note, expected) in [("sealed", sealed, &[25][..]), ("fresh", fresh, &[])] {
        place(&log, id).await;
        let mut order_of = missing(&[id]).remove(0);
        let state = order_of.state();
        for total in 0..25 {
            let placed = OrderPlaced { total, note: Some(note.clone()) };
            assert!(state.apply(&OrderEvent::from(placed)), "an event of its own");
        }
        let snapshot = state.due_snapshot().expect("it is time for one");
        keep(&log, &database, &order(id), snapshot).await;
        assert_eq!(rows(&database, id).await, expected, "{id}");
    }
}

async fn a_state_of_another_history_is_not_kept(_: Location, database: Database) {
    let log = open(&database).await;
    for id in ["1", "2"] {
        place(&log, id).await;
    }
    let mut states = missing(&["1", "2"]);
    let mut last = Uuid::nil();
    for event in read_all(&log).await {
        let own = states.iter_mut().find(|missing| *missing.stream() == event.stream).expect("one of the two");
        own.apply(&event).expect("an order's");
        last = event.id;
    }
    let after = log.reserve(nothing()).expect("there is room");
    // The first was folded when another event stood at its revision. They are kept one after the other.
    for (state, event_id) in states.iter_mut().zip([Uuid::from_u128(1), last]) {
        let snapshot = state.state().due_snapshot().expect("it is time for one");
        log.keep(state.stream(), snapshot, event_id, after.ticket());
    }
    after.submit().verdict().await.expect("a verdict");
    revisions(&database, "2", &[25]).await;
    assert!(rows(&database, "1").await.is_empty());
}
