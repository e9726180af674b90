//! L11 where it is hard to see: a log that was rolled back and has gone on as far as it was, or was restored with
//! nothing lost.

use std::time::Duration;

use daybook_database::{Database, Location, on_both};
use daybook_log::LogError;
use tokio::time::timeout;

use crate::fixture::{change, commit, open, open_again, open_alone, order, restored, to};

on_both!(
    &[Schema::Log],
    a_process_that_only_reads_notices_that_a_rolled_back_log_went_on,
    a_log_that_was_restored_is_not_appended_to_in_one_statement_either,
);

async fn a_process_that_only_reads_notices_that_a_rolled_back_log_went_on(location: Location, database: Database) {
    let log = open(&database).await;
    let mut newest = log.watch();
    let other = open_again(&location).await;
    let last = commit(&other, to(&[&order(1), &order(2)])).await.position;
    newest.wait_for(|position| *position == last).await.expect("it follows");
    other.close().await;
    // In one step, as it looks to whoever looks now and then.
    let another = match &database {
        Database::Postgres(_) => "gen_random_uuid()",
        Database::Sqlite(_) => "'00000000-0000-4000-8000-000000000000'",
    };
    change(&database, &format!("UPDATE events SET id = {another} WHERE position = {last}")).await;
    timeout(Duration::from_secs(10), log.ended()).await.expect("it ends by itself");
}

async fn a_log_that_was_restored_is_not_appended_to_in_one_statement_either(_: Location, database: Database) {
    let log = open_alone(&database).await;
    // Twice: from then on it knows the stream, and writes to it in one statement.
    for _ in 0..2 {
        commit(&log, to(&[&order(1)])).await;
    }
    restored(&database).await;
    match log.append(to(&[&order(1)])).await {
        Err(LogError::History(_)) => {}
        other => panic!("not noticed: {other:?}"),
    }
}
