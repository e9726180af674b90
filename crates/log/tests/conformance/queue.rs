//! The appender: bounded, and orderly at its end.

use daybook_database::{Database, Location, on_both};
use daybook_log::{Log, LogError, Settings, Verdict};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use crate::fixture::{commit, connect_again, open, open_with, order, read_all, to};

on_both!(
    &[Schema::Log],
    an_append_that_finds_the_queue_full_is_refused_at_once,
    closing_commits_what_waits_and_nothing_later,
    a_caller_that_goes_away_disturbs_nothing,
    a_lost_connection_is_made_again_and_nothing_fails,
    a_database_without_a_log_is_not_opened,
);

/// Holds the log's head, as another process does while it commits.
pub(crate) async fn hold_head(database: &Database) -> Box<dyn Send> {
    match database {
        Database::Postgres(pool) => {
            let mut transaction = pool.begin().await.expect("a transaction");
            sqlx::query("SELECT FROM log_identity FOR UPDATE").execute(&mut *transaction).await.expect("the lock");
            Box::new(transaction)
        }
        Database::Sqlite(file) => {
            Box::new(file.writer().begin_with("BEGIN IMMEDIATE").await.expect("a transaction"))
        }
    }
}

async fn an_append_that_finds_the_queue_full_is_refused_at_once(location: Location, database: Database) {
    let settings = Settings { queue_appends_max: 2, group_appends_max: 1, ..Settings::default() };
    let log = open_with(&database, settings).await;
    let other_process = connect_again(&location).await;
    let held = hold_head(&other_process).await;
    // One is in the appender's hands, two wait: of four, one comes too much.
    let stream = order(1);
    let mut appends: FuturesUnordered<_> = (0..4).map(|_| log.append(to(&[&stream]))).collect();
    assert!(matches!(appends.next().await, Some(Err(LogError::Busy))));
    drop(held);
    let mut committed = 0;
    while let Some(verdict) = appends.next().await {
        match verdict {
            Ok(Verdict::Committed(_)) => committed += 1,
            Err(LogError::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(committed >= 2);
    assert_eq!(read_all(&log).await.len(), committed);
}

async fn closing_commits_what_waits_and_nothing_later(_: Location, database: Database) {
    let log = open(&database).await;
    let stream = order(1);
    let appended = join_all((0..100).map(|_| log.append(to(&[&stream]))));
    let (verdicts, (), (), ()) = tokio::join!(appended, log.ended(), log.close(), log.close());
    for verdict in verdicts {
        assert!(matches!(verdict, Ok(Verdict::Committed(_))), "{verdict:?}");
    }
    assert!(matches!(log.append(to(&[&stream])).await, Err(LogError::Closed)));
    assert_eq!(read_all(&log).await.len(), 100, "a closed log is still read");
}

async fn a_caller_that_goes_away_disturbs_nothing(_: Location, database: Database) {
    let log = open(&database).await;
    for _ in 0..20 {
        let gone = log.append(to(&[&order(1)]));
        let next = log.append(to(&[&order(2)]));
        let mut gone = std::pin::pin!(gone);
        // Queued, and most of the times not answered yet.
        let _ = futures_util::poll!(&mut gone);
        next.await.expect("a verdict");
    }
    commit(&log, to(&[&order(2)])).await;
    assert_eq!(read_all(&log).await.len(), 41);
}

async fn a_lost_connection_is_made_again_and_nothing_fails(_: Location, database: Database) {
    let Database::Postgres(pool) = &database else { return };
    let log = open(&database).await;
    commit(&log, to(&[&order(1)])).await;
    let appender =
        "FROM pg_stat_activity WHERE application_name = 'daybook appender' AND datname = current_database()";
    let killed: Vec<bool> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT pg_terminate_backend(pid, 10000) {appender}")))
            .fetch_all(pool)
            .await
            .expect("an answer");
    assert_eq!(killed, [true]);
    commit(&log, to(&[&order(1)])).await;
    assert_eq!(read_all(&log).await.len(), 2);
}

async fn a_database_without_a_log_is_not_opened(location: Location, _: Database) {
    let elsewhere = match location {
        Location::Sqlite(path) => Location::Sqlite(path.with_file_name("empty.db")),
        Location::Postgres(options) => Location::Postgres(Box::new((*options).database("postgres"))),
    };
    let empty = connect_again(&elsewhere).await;
    assert!(matches!(Log::open(empty, Settings::default()).await.err(), Some(LogError::Database(_))));
}
