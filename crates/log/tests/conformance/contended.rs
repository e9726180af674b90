//! What becomes of an append while somebody else holds the log's head.

use std::time::{Duration, Instant};

use daybook_database::{Database, Location, on_both};
use daybook_log::{LogError, Settings};

use crate::fixture::{commit, connect_again, open_with, order, read_all, to};
use crate::queue::hold_head;

on_both!(&[Schema::Log], a_head_that_is_held_for_too_long_is_a_definite_no);

/// Nothing was written, and nobody has to look for it.
async fn a_head_that_is_held_for_too_long_is_a_definite_no(location: Location, database: Database) {
    let settings = Settings {
        lock_timeout: Duration::from_millis(200),
        look_up_timeout: Duration::from_secs(60),
        ..Settings::default()
    };
    let log = open_with(&database, settings).await;
    let stream = order(1);
    for _ in 0..2 {
        commit(&log, to(&[&stream])).await;
    }
    let other_process = connect_again(&location).await;
    let held = hold_head(&other_process).await;
    let asked = Instant::now();
    let answer = log.append(to(&[&stream])).await;
    assert!(matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    drop(held);
    commit(&log, to(&[&stream])).await;
    assert_eq!(read_all(&log).await.len(), 3);
}
