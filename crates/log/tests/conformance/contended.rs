//! What becomes of an append while somebody else holds the log's head.

use std::time::{Duration, Instant};

use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Claim, LogError, Settings, Verdict};

use crate::fixture::{at, commit, connect_again, nothing, open_alone, open_with, order, read_all, to};
use crate::queue::hold_head;

on_both!(
    &[Schema::Log],
    a_head_that_is_held_for_too_long_is_a_definite_no,
    a_claim_alone_is_not_taken_over_what_has_changed_while_it_waited,
    whoever_lost_and_does_not_come_again_keeps_nobody_waiting,
    the_fence_is_found_by_its_index,
);

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

async fn a_claim_alone_is_not_taken_over_what_has_changed_while_it_waited(_: Location, database: Database) {
    // On SQLite nothing is read before the lock is held.
    let Database::Postgres(pool) = &database else { return };
    let log = open_alone(&database).await;
    let stream = order(1);
    commit(&log, to(&[&stream])).await;
    let mut other = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM log_identity FOR UPDATE").execute(&mut *other).await.expect("the lock");
    sqlx::query(
        "INSERT INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload) \
         VALUES (2, 'order-1', 2, gen_random_uuid(), 'order.placed', 1, now(), '{}', '{}')",
    )
    .execute(&mut *other)
    .await
    .expect("the next event");
    let claim = Claim::Take { name: "sku".into(), key: "a".into(), holder: stream.clone() };
    let append = Append { claims: vec![claim], expected: vec![at(&stream, 1)], ..nothing() };
    let submitted = log.submit(append).expect("there is room");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'daybook appender' \
                 AND datname = current_database() AND wait_event_type = 'Lock'";
    wait_for("it to wait for the lock", || async {
        let waiting: i64 = sqlx::query_scalar(waits).fetch_one(pool).await.expect("a number");
        (waiting > 0).then_some(())
    })
    .await;
    other.commit().await.expect("committed");
    let verdict = submitted.verdict().await.expect("a verdict");
    assert!(matches!(verdict, Verdict::Conflict(_)), "{verdict:?}");
}

/// While a snapshot of the database is open, no old version of the fence's row can be removed, and turns leave many of them.
async fn the_fence_is_found_by_its_index(_: Location, database: Database) {
    // SQLite has no fence.
    let Database::Postgres(pool) = &database else { return };
    let log = open_alone(&database).await;
    let scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'log_identity_fence'";
    // A connection tells what it has done only now and then.
    wait_for("an append to look there", || async {
        commit(&log, to(&[&order(1)])).await;
        let scans: i64 = sqlx::query_scalar(scans).fetch_one(pool).await.expect("a number");
        (scans > 0).then_some(())
    })
    .await;
}

/// Who lost against others is next; but not when there is nothing more to be written for it.
async fn whoever_lost_and_does_not_come_again_keeps_nobody_waiting(location: Location, database: Database) {
    let (log, elsewhere) = (open_alone(&database).await, open_alone(&connect_again(&location).await).await);
    let stream = order(1);
    let mut shortest = Duration::MAX;
    for revision in 1..=5 {
        commit(&elsewhere, to(&[&stream])).await;
        let late = Append { expected: vec![at(&stream, revision - 1)], ..to(&[&stream]) };
        let verdict = log.append(late).await.expect("a verdict");
        assert!(matches!(verdict, Verdict::Conflict(_)), "{verdict:?}");
        let asked = Instant::now();
        commit(&elsewhere, to(&[&order(2)])).await;
        shortest = shortest.min(asked.elapsed());
    }
    assert!(shortest < Duration::from_millis(150), "{shortest:?}");
}
