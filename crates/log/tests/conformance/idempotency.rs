//! L6: a repeated command gets its first receipt.

use std::time::Duration;

use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, IdempotencyKey, Verdict};
use futures_util::future::join_all;

use crate::fixture::{commit, execute, nothing, open, open_again, order, read_all, to, to_at};

on_both!(
    &[Schema::Log],
    a_repeated_key_gets_the_first_receipt_in_any_process,
    twins_in_one_group_are_committed_once,
    a_key_of_an_append_that_failed_is_not_kept,
    an_expired_key_counts_as_not_there_and_is_removed,
);

fn key(digest: u8, body: u8) -> IdempotencyKey {
    IdempotencyKey { digest: [digest; 32], body: [body; 32], expires: true }
}

fn with_key(append: Append, digest: u8, body: u8) -> Append {
    Append { key: Some(key(digest, body)), ..append }
}

async fn a_repeated_key_gets_the_first_receipt_in_any_process(location: Location, database: Database) {
    let (here, there) = (open(&database).await, open_again(&location).await);
    let append = with_key(to_at(&order(1), 0), 1, 1);
    let receipt = commit(&here, append.clone()).await;
    let empty = commit(&here, with_key(nothing(), 2, 1)).await;
    for log in [&here, &there] {
        let again = log.append(append.clone()).await.expect("a verdict");
        assert_eq!(again, Verdict::Repeated(receipt.clone()));
        assert_eq!(log.append(with_key(to(&[&order(1)]), 1, 2)).await.expect("a verdict"), Verdict::KeyReused);
        assert_eq!(log.repeated(&key(1, 1)).await.expect("an answer"), Some(again));
        assert_eq!(log.repeated(&key(2, 1)).await.expect("an answer"), Some(Verdict::Repeated(empty.clone())));
        assert_eq!(log.repeated(&key(1, 2)).await.expect("an answer"), Some(Verdict::KeyReused));
        assert_eq!(log.repeated(&key(3, 1)).await.expect("an answer"), None);
    }
    assert_eq!(read_all(&here).await.len(), 1);
}

async fn twins_in_one_group_are_committed_once(location: Location, database: Database) {
    let logs = [open(&database).await, open_again(&location).await];
    let append = with_key(to(&[&order(1)]), 1, 1);
    let verdicts = join_all((0..16).map(|caller| logs[caller % 2].append(append.clone()))).await;
    let mut committed = 0;
    let mut receipts = Vec::new();
    for verdict in verdicts {
        match verdict.expect("a verdict") {
            Verdict::Committed(receipt) => {
                committed += 1;
                receipts.push(receipt);
            }
            Verdict::Repeated(receipt) => receipts.push(receipt),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(committed, 1);
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
}

async fn a_key_of_an_append_that_failed_is_not_kept(_: Location, database: Database) {
    let log = open(&database).await;
    let conflict = log.append(with_key(to_at(&order(1), 7), 1, 1)).await.expect("a verdict");
    assert!(matches!(conflict, Verdict::Conflict(_)));
    commit(&log, with_key(to_at(&order(1), 0), 1, 2)).await;
}

async fn an_expired_key_counts_as_not_there_and_is_removed(location: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, with_key(to(&[&order(1)]), 1, 1)).await;
    commit(&log, with_key(to(&[&order(1)]), 2, 1)).await;
    let never = IdempotencyKey { expires: false, ..key(3, 1) };
    commit(&log, Append { key: Some(never), ..nothing() }).await;
    let age = "UPDATE idempotency SET expires_at = '2000-01-01T00:00:00.000000Z' WHERE expires_at IS NOT NULL";
    execute(&database, age).await.expect("the keys get old");

    assert_eq!(log.repeated(&key(1, 1)).await.expect("an answer"), None);
    let receipt = commit(&log, with_key(to(&[&order(2)]), 1, 9)).await;
    assert_eq!(log.repeated(&key(1, 9)).await.expect("an answer"), Some(Verdict::Repeated(receipt)));

    // They are removed when a process starts.
    let _started = open_again(&location).await;
    let removed = async {
        while count_keys(&database).await > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), removed).await.expect("the expired key goes");
    assert_eq!(count_keys(&database).await, 2);
    assert!(log.repeated(&never).await.expect("an answer").is_some());
}

async fn count_keys(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM idempotency";
    match database {
        Database::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        Database::Sqlite(file) => sqlx::query_scalar(sql).fetch_one(file.readers()).await,
    }
    .expect("a count")
}
