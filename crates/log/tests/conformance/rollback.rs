//! L11 while at work: a log that is rolled back under a process, or swapped, is noticed by it, and not written to.

use std::time::Duration;

use daybook_core::{Position, Revision};
use daybook_database::testing::{Backend, run};
use daybook_database::{Database, Location, Schema, on_both};
use daybook_log::{Append, Expected, HistoryError, Log, LogError, Verdict};
use tokio::time::timeout;

use crate::fixture::{
    at, commit, event, execute, nothing, open, open_again, open_alone, order, read_all, restored, roll_back, to,
    to_at,
};
use crate::loading::missing;
use crate::snapshots::revisions;

on_both!(
    &[Schema::Log],
    a_log_that_was_rolled_back_is_not_appended_to,
    a_log_that_was_rolled_back_and_went_on_is_not_appended_to,
    a_log_that_was_restored_is_not_appended_to,
    nothing_is_answered_from_a_log_that_was_rolled_back,
    nothing_is_decided_over_what_was_loaded_from_a_log_that_was_rolled_back,
    nothing_is_decided_over_what_a_snapshot_held_in_a_log_that_was_rolled_back,
    the_first_append_is_not_built_on_a_log_that_was_rolled_back_since_it_was_opened,
    a_process_that_only_reads_notices_a_rollback,
    a_checkpoint_notices_a_rollback,
);

/// How long a process may take to notice what it follows.
const LIMIT: Duration = Duration::from_secs(10);

/// Loads the second order, as a command does that is decided over it.
async fn loaded(log: &Log) -> (Revision, Position) {
    let (loaded, read_at) = log.load(missing(&["2"])).await.expect("it loads");
    (loaded[0].revision(), read_at)
}

async fn history(log: &Log, append: Append) -> HistoryError {
    match log.append(append).await {
        Err(LogError::History(error)) => error,
        other => panic!("not noticed: {other:?}"),
    }
}

/// A log that ends: nothing more is appended, and whoever waits for its end is told.
async fn ends(log: &Log) {
    timeout(LIMIT, log.ended()).await.expect("it ends by itself");
    assert!(log.append(to(&[&order(9)])).await.is_err());
}

async fn a_log_that_was_rolled_back_is_not_appended_to(_: Location, database: Database) {
    let log = open_alone(&database).await;
    commit(&log, to(&[&order(1), &order(2), &order(3)])).await;
    roll_back(&database, 2).await;
    let (checkpoint, head) = (Position::new(3), Position::new(2));
    assert_eq!(history(&log, to(&[&order(3)])).await, HistoryError::Shorter { checkpoint, head });
    ends(&log).await;
    assert_eq!(read_all(&log).await.len(), 2);
}

async fn a_log_that_was_rolled_back_and_went_on_is_not_appended_to(location: Location, database: Database) {
    // To where it was, and further.
    for further in [1, 2] {
        let log = open_alone(&database).await;
        let last = commit(&log, to(&[&order(1), &order(2)])).await.position;
        roll_back(&database, last.get() - 1).await;
        let other = open_again(&location).await;
        for _ in 0..further {
            commit(&other, to(&[&order(2)])).await;
        }
        assert_eq!(history(&log, to(&[&order(3)])).await, HistoryError::OtherEvent(last));
        ends(&log).await;
        commit(&other, to(&[&order(2)])).await;
        other.close().await;
    }
}

async fn a_log_that_was_restored_is_not_appended_to(_: Location, database: Database) {
    let log = open_alone(&database).await;
    commit(&log, to(&[&order(1)])).await;
    restored(&database).await;
    // What goes the slow way: it gives a claim back.
    let release = daybook_log::Claim::Release { name: "sku".into(), key: "a".into(), holder: order(1) };
    let append = Append { claims: vec![release], ..to(&[&order(1)]) };
    assert!(matches!(history(&log, append).await, HistoryError::OtherEpoch { .. }));
    ends(&log).await;
}

/// An append of nothing is how an answer finds out whether what it was drawn from holds.
async fn nothing_is_answered_from_a_log_that_was_rolled_back(location: Location, database: Database) {
    let log = open_alone(&database).await;
    let stream = order(1);
    commit(&log, to(&[&stream])).await;
    commit(&log, to_at(&stream, 1)).await;
    roll_back(&database, 1).await;
    let other = open_again(&location).await;
    commit(&other, to_at(&stream, 1)).await;
    // The revision is the same again, and the event is another.
    let refusal = Append { expected: vec![at(&stream, 2)], ..nothing() };
    match log.append(refusal).await {
        Err(LogError::History(HistoryError::OtherEvent(position))) => assert_eq!(position, Position::new(2)),
        Ok(Verdict::Committed(receipt)) => panic!("answered from what is gone: {receipt:?}"),
        other => panic!("not noticed: {other:?}"),
    }
    ends(&log).await;
    other.close().await;
}

/// What others wrote and this process only loaded is newer than all that it appended itself.
async fn nothing_is_decided_over_what_was_loaded_from_a_log_that_was_rolled_back(
    location: Location,
    database: Database,
) {
    let (own, read) = (order(1), order(2));
    // To where this process has appended last, or further on; and the log goes on from there, or not.
    for (kept, further) in [(0, 0), (0, 3), (1, 2), (1, 5)] {
        let log = open_alone(&database).await;
        let last = commit(&log, to(&[&own])).await.position;
        let other = open_again(&location).await;
        let before = loaded(&other).await.0;
        for _ in 0..3 {
            commit(&other, to(&[&read])).await;
        }
        other.close().await;
        let (revision, read_at) = loaded(&log).await;
        assert_eq!(revision, before.plus(3));
        roll_back(&database, last.get() + kept).await;
        let other = open_again(&location).await;
        for _ in 0..further {
            commit(&other, to(&[&read])).await;
        }
        let written = read_all(&other).await.len();
        let expected = vec![Expected { stream: read.clone(), revision, read_at: Some(read_at) }];
        history(&log, Append { expected, ..to(&[&read]) }).await;
        ends(&log).await;
        assert_eq!(read_all(&other).await.len(), written);
        other.close().await;
    }
}

async fn nothing_is_decided_over_what_a_snapshot_held_in_a_log_that_was_rolled_back(
    location: Location,
    database: Database,
) {
    let read = order(2);
    let log = open_alone(&database).await;
    let last = commit(&log, to(&[&order(1)])).await.position;
    let other = open_again(&location).await;
    let events = (0..20).map(|_| event(&read)).collect();
    commit(&other, Append { events, ..nothing() }).await;
    loaded(&other).await;
    revisions(&database, "2", &[20]).await;
    // All of it is in the snapshot.
    let (revision, read_at) = loaded(&log).await;
    assert_eq!(revision.get(), 20);
    other.close().await;
    roll_back(&database, last.get() + 1).await;
    let other = open_again(&location).await;
    for _ in 0..19 {
        commit(&other, to(&[&read])).await;
    }
    let expected = vec![Expected { stream: read.clone(), revision, read_at: Some(read_at) }];
    history(&log, Append { expected, ..to(&[&read]) }).await;
    other.close().await;
}

async fn the_first_append_is_not_built_on_a_log_that_was_rolled_back_since_it_was_opened(
    location: Location,
    database: Database,
) {
    let other = open_alone(&database).await;
    commit(&other, to(&[&order(1), &order(2), &order(3)])).await;
    let log = open_alone(&database).await;
    roll_back(&database, 2).await;
    let other = open_again(&location).await;
    commit(&other, to(&[&order(3), &order(3)])).await;
    assert_eq!(history(&log, to(&[&order(3)])).await, HistoryError::OtherEvent(Position::new(3)));
    ends(&log).await;
    other.close().await;
}

async fn a_process_that_only_reads_notices_a_rollback(location: Location, database: Database) {
    let log = open(&database).await;
    let mut newest = log.watch();
    let other = open_again(&location).await;
    let last = commit(&other, to(&[&order(1), &order(2)])).await.position;
    newest.wait_for(|position| *position == last).await.expect("it follows");
    other.close().await;
    roll_back(&database, 1).await;
    ends(&log).await;
}

async fn a_checkpoint_notices_a_rollback(location: Location, database: Database) {
    let log = open(&database).await;
    let head = log.head().await.expect("a head");
    commit(&log, to(&[&order(1), &order(2)])).await;
    let checkpoint = log.checkpoint(&head, read_all(&log).await.last());
    roll_back(&database, 1).await;
    let other = open_again(&location).await;
    assert!(matches!(other.check(&checkpoint).await, Err(LogError::History(HistoryError::Shorter { .. }))));
    commit(&other, to(&[&order(2)])).await;
    assert!(matches!(other.check(&checkpoint).await, Err(LogError::History(HistoryError::OtherEvent(_)))));
    other.close().await;
}

/// What a restore does while a process was forgotten: the log is as this process knows it, and not the file that it has open.
#[tokio::test]
async fn a_file_that_was_moved_away_or_swapped_is_noticed() {
    for swapped in [false, true] {
        run(Backend::Sqlite, &[Schema::Log], async move |location, database| {
            let Location::Sqlite(path) = location else { panic!("a file was asked for") };
            let (log, following) = (open_alone(&database).await, open(&database).await);
            commit(&log, to(&[&order(1)])).await;
            if swapped {
                let copy = path.with_extension("copy");
                execute(&database, &format!("VACUUM INTO '{}'", copy.display())).await.expect("a copy");
                std::fs::rename(copy, path).expect("it takes its place");
            } else {
                std::fs::rename(&path, path.with_extension("away")).expect("it is moved");
            }
            assert_eq!(history(&log, to(&[&order(1)])).await, HistoryError::OtherFile, "swapped: {swapped}");
            ends(&log).await;
            ends(&following).await;
        })
        .await;
    }
}
