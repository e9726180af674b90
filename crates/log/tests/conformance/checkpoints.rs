//! L11: one history.

use daybook_core::Position;
use daybook_database::{Database, Location, on_both};
use daybook_log::{Checkpoint, HistoryError, Log, LogError};
use uuid::Uuid;

use crate::fixture::{commit, execute, open, order, read_all, to};

on_both!(&[Schema::Log], a_log_that_was_swapped_restored_or_rolled_back_is_noticed);

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
    execute(&database, "UPDATE log_identity SET epoch = epoch + 1").await.expect("a restore");
    assert!(matches!(history(&log, &checkpoint).await, HistoryError::OtherEpoch { .. }));
}
