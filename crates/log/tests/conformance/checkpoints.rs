//! L11: one history.

use daybook_core::Position;
use daybook_database::{Database, Location, on_both};
use daybook_log::{Checkpoint, HistoryError, Log, LogError};
use uuid::Uuid;

use crate::fixture::{commit, execute, insert, open, order, read_all, restored, to};

on_both!(
    &[Schema::Log],
    a_log_that_was_swapped_restored_or_rolled_back_is_noticed,
    a_reader_goes_on_only_in_the_same_history,
    a_scan_reads_all_that_there_is_in_the_same_history,
    nothing_is_appended_to_another_history,
    a_process_that_only_reads_notices_another_log,
);

async fn history(log: &Log, checkpoint: &Checkpoint) -> HistoryError {
    match log.check(checkpoint).await {
        Err(LogError::History(error)) => error,
        other => panic!("not noticed: {other:?}"),
    }
}

async fn a_log_that_was_swapped_restored_or_rolled_back_is_noticed(_: Location, database: Database) {
    let log = open(&database).await;
    let head = log.head().await.expect("a head");
    let fresh = log.checkpoint(&head, None);
    assert_eq!((fresh.position, fresh.event_id), (Position::START, Uuid::nil()));
    commit(&log, to(&[&order(1), &order(2)])).await;
    let events = read_all(&log).await;
    let checkpoint = log.checkpoint(&head, events.last());
    for good in [&fresh, &log.checkpoint(&head, events.first()), &checkpoint] {
        log.check(good).await.expect("the same log");
    }

    let other_log = Checkpoint { log_id: Uuid::nil(), ..checkpoint };
    assert!(matches!(history(&log, &other_log).await, HistoryError::OtherLog { .. }));
    let ahead = Checkpoint { position: Position::new(3), ..checkpoint };
    assert!(matches!(history(&log, &ahead).await, HistoryError::Shorter { .. }));
    let other_event = Checkpoint { event_id: events[0].id, ..checkpoint };
    assert_eq!(history(&log, &other_event).await, HistoryError::OtherEvent(Position::new(2)));
    restored(&database).await;
    assert!(matches!(history(&log, &checkpoint).await, HistoryError::OtherEpoch { .. }));
}

/// Makes the newest event another one, as a log does that was rolled back and went on.
async fn replace_newest(database: &Database, position: u64) {
    let allow = match database {
        Database::Postgres(_) => "ALTER TABLE events DISABLE TRIGGER ALL",
        Database::Sqlite(_) => "DROP TRIGGER events_never_delete",
    };
    for sql in [allow, &format!("DELETE FROM events WHERE position = {position}")] {
        execute(database, sql).await.expect("whoever owns the database can do anything");
    }
    insert(database, position, "order-9", 1, "2026-01-01T00:00:00.000000Z").await;
}

async fn a_reader_goes_on_only_in_the_same_history(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1), &order(2), &order(3)])).await;
    let events = read_all(&log).await;
    let head = log.head().await.expect("a head");
    for reached in [None, events.first(), events.get(1), events.last()] {
        let checkpoint = log.checkpoint(&head, reached);
        let rest = log.read_on(&checkpoint, 10).await.expect("a page");
        let positions: Vec<_> = rest.iter().map(|event| event.position.get()).collect();
        assert_eq!(positions, (checkpoint.position.get() + 1..=3).collect::<Vec<_>>());
    }
    replace_newest(&database, 3).await;
    let error = log.read_on(&log.checkpoint(&head, events.last()), 10).await.expect_err("another event is there");
    assert!(matches!(error, LogError::History(HistoryError::OtherEvent(_))), "{error}");
    assert_eq!(
        log.read_on(&log.checkpoint(&head, events.get(1)), 10).await.expect("it shares this much").len(),
        1
    );
}

async fn a_scan_reads_all_that_there_is_in_the_same_history(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1), &order(2), &order(3), &order(4), &order(5)])).await;
    let events = read_all(&log).await;
    let head = log.head().await.expect("a head");
    for page in [1, 2, 5, 7] {
        for reached in [None, events.get(1), events.last()] {
            let checkpoint = log.checkpoint(&head, reached);
            let mut scan = log.scan(&checkpoint, page);
            let mut positions = Vec::new();
            while let Some(events) = scan.next().await.expect("a page") {
                assert!((1..=page).contains(&events.len()));
                positions.extend(events.iter().map(|event| event.position.get()));
            }
            assert_eq!(positions, (checkpoint.position.get() + 1..=5).collect::<Vec<_>>());
        }
    }
    replace_newest(&database, 5).await;
    let mut scan = log.scan(&log.checkpoint(&head, events.last()), 2);
    let error = scan.next().await.expect_err("another event is there");
    assert!(matches!(error, LogError::History(HistoryError::OtherEvent(_))), "{error}");
    assert!(matches!(scan.next().await, Err(LogError::Closed)), "there is nothing more, which is not the end");
}

async fn nothing_is_appended_to_another_history(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1), &order(2)])).await;
    replace_newest(&database, 2).await;
    for _ in 0..2 {
        let error = log.append(to(&[&order(1)])).await.expect_err("it would be built on what is gone");
        assert!(matches!(error, LogError::History(_) | LogError::Closed), "{error}");
    }
    log.ended().await;
    assert_eq!(read_all(&log).await.len(), 2);
}

async fn a_process_that_only_reads_notices_another_log(_: Location, database: Database) {
    let log = open(&database).await;
    restored(&database).await;
    log.ended().await;
}
