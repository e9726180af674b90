//! What one process appends, the others get to know: soon when they are woken, and in any case.

use std::time::{Duration, Instant};

use daybook_database::{Database, Heard, Location, on_both};
use daybook_log::{Follow, Log, Settings};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::fixture::{commit, connect_again, open, open_again, open_with, order, to};

on_both!(
    &[Schema::Log],
    what_others_append_is_seen_by_whoever_is_woken_and_by_whoever_looks,
    whoever_appends_wakes_the_others,
    when_signals_are_lost_nothing_else_is,
    a_signal_reaches_the_others_and_nobody_else,
    a_process_that_ends_says_what_it_did,
);

/// How long something may take that has to happen.
const LIMIT: Duration = Duration::from_secs(10);
/// Less than the shortest time between two looks on PostgreSQL: whoever saw something, and then something else within this
/// time, did not look by itself.
const WOKEN: Duration = Duration::from_millis(50);

/// Appends, and waits until another process has seen it.
async fn follow(log: &Log, other: &Log) -> Duration {
    let mut newest = other.watch();
    let position = commit(log, to(&[&order(1)])).await.position;
    let begun = Instant::now();
    let seen = newest.wait_for(|newest| *newest >= position);
    timeout(LIMIT, seen).await.expect("it is seen").expect("it follows");
    begun.elapsed()
}

/// Waits until one process wakes another.
async fn wakes(log: &Log, other: &Log) {
    let woken = async { while follow(log, other).await > WOKEN {} };
    timeout(LIMIT, woken).await.expect("it is woken");
}

async fn what_others_append_is_seen_by_whoever_is_woken_and_by_whoever_looks(
    location: Location,
    database: Database,
) {
    let log = open(&database).await;
    let woken = open_again(&location).await;
    let settings = Settings { follow: Follow::Looking, ..Settings::default() };
    let looking = open_with(&connect_again(&location).await, settings).await;
    for _ in 0..10 {
        follow(&log, &woken).await;
        follow(&woken, &looking).await;
        follow(&looking, &log).await;
    }
}

async fn whoever_appends_wakes_the_others(location: Location, database: Database) {
    let Database::Postgres(_) = &database else { return };
    let log = open(&database).await;
    let others = join_all((0..2).map(|_| open_again(&location))).await;
    for other in &others {
        wakes(&log, other).await;
        wakes(other, &log).await;
    }
}

async fn when_signals_are_lost_nothing_else_is(location: Location, database: Database) {
    let Database::Postgres(pool) = &database else { return };
    let (log, other) = (open(&database).await, open_again(&location).await);
    wakes(&log, &other).await;
    for _ in 0..3 {
        let killed: Vec<bool> = sqlx::query_scalar(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE application_name = 'daybook signals' AND datname = current_database()",
        )
        .fetch_all(pool)
        .await
        .expect("an answer");
        assert!(!killed.contains(&false), "{killed:?}");
        follow(&log, &other).await;
        follow(&other, &log).await;
    }
    wakes(&log, &other).await;
    wakes(&other, &log).await;
}

async fn a_signal_reaches_the_others_and_nobody_else(location: Location, database: Database) {
    let Database::Postgres(_) = &database else { return };
    let (log, other) = (open(&database).await, open_again(&location).await);
    wakes(&log, &other).await;
    wakes(&other, &log).await;
    let (signal, name) = (log.signal("one"), "two");
    let (own, mut heard, mut another) = (signal.hear(), other.signal("one").hear(), other.signal(name).hear());
    for number in [7, 5] {
        signal.send(number);
        let told = heard.wait_for(|heard| *heard == Heard::Number(number));
        timeout(LIMIT, told).await.expect("it is heard").expect("it is not over");
    }
    // Sent later, and so heard later, than what would have been heard by mistake.
    log.signal(name).send(1);
    timeout(LIMIT, another.changed()).await.expect("it is heard").expect("it is not over");
    assert_eq!(*another.borrow_and_update(), Heard::Number(1));
    assert!(!own.has_changed().expect("it is not over"));
}

/// As a command line does that appends and ends.
async fn a_process_that_ends_says_what_it_did(location: Location, database: Database) {
    let Database::Postgres(_) = &database else { return };
    let (log, other) = (open(&database).await, open_again(&location).await);
    wakes(&other, &log).await;
    let said = async {
        loop {
            let brief = open_again(&location).await;
            let mut heard = log.signal("done").hear();
            brief.signal("done").send(1);
            brief.close().await;
            if let Ok(Ok(())) = timeout(WOKEN, heard.changed()).await {
                return *heard.borrow();
            }
        }
    };
    assert_eq!(timeout(LIMIT, said).await.expect("it is heard"), Heard::Number(1));
}
