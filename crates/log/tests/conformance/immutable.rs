//! L5: what is in the log stays as it is, whoever asks.

use daybook_core::Position;
use daybook_database::{Database, Fault, Location, fault, on_both};
use daybook_log::LogError;

use crate::fixture::{change, commit, execute, open, order, read_all, to};

on_both!(
    &[Schema::Log],
    the_database_refuses_to_change_or_remove_events,
    the_database_refuses_events_out_of_order,
    a_log_with_a_hole_is_read_up_to_it,
    damage_is_told_with_its_position,
);

/// An INSERT that goes around the log.
fn insert(how: &str, position: u64, stream: &str, revision: u64) -> String {
    format!(
        "{how} INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload) \
         VALUES ({position}, '{stream}', {revision}, '00000000-0000-4000-8000-000000000000', 'forged', 1, \
         '2026-01-01T00:00:00.000000Z', '{{}}', '{{}}')"
    )
}

async fn refused(database: &Database, sql: &str) {
    let error = execute(database, sql).await.expect_err(sql);
    assert!(matches!(fault(&error), Fault::Data | Fault::Duplicate), "{sql}: {error}");
}

async fn the_database_refuses_to_change_or_remove_events(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1), &order(2)])).await;
    let before = serde_json::to_string(&read_all(&log).await).expect("JSON");
    let mut statements = vec![
        "UPDATE events SET payload = '{}'".to_owned(),
        "UPDATE events SET position = 7 WHERE position = 2".to_owned(),
        "DELETE FROM events WHERE position = 2".to_owned(),
        "DELETE FROM events".to_owned(),
    ];
    match &database {
        Database::Postgres(_) => {
            statements.push("TRUNCATE events".to_owned());
            statements.push(format!(
                "{} ON CONFLICT (position) DO UPDATE SET payload = '{{}}'",
                insert("INSERT", 2, "order-2", 1)
            ));
        }
        Database::Sqlite(_) => {
            for how in ["REPLACE", "INSERT OR REPLACE", "INSERT OR IGNORE", "INSERT OR FAIL", "INSERT"] {
                statements.push(insert(how, 2, "order-2", 1));
                statements.push(insert(how, 3, "order-2", 1));
            }
            statements.push("UPDATE OR REPLACE events SET position = 1 WHERE position = 2".to_owned());
        }
    }
    for statement in statements {
        refused(&database, &statement).await;
    }
    assert_eq!(serde_json::to_string(&read_all(&log).await).expect("JSON"), before);
}

async fn the_database_refuses_events_out_of_order(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1)])).await;
    refused(&database, &insert("INSERT", 1, "order-9", 1)).await;
    refused(&database, &insert("INSERT", 3, "order-9", 1)).await;
    refused(&database, &insert("INSERT", 0, "order-9", 1)).await;
    refused(&database, &insert("INSERT", 2, "order-1", 1)).await;
    commit(&log, to(&[&order(1)])).await;
}

async fn a_log_with_a_hole_is_read_up_to_it(_: Location, database: Database) {
    let log = open(&database).await;
    for _ in 0..4 {
        commit(&log, to(&[&order(1)])).await;
    }
    let start = log.checkpoint(&log.head().await.expect("the log answers"), None);
    let read = async |limit| log.read_on(&start, limit).await;
    assert_eq!(read(10).await.expect("whole").len(), 4);
    change(&database, "DELETE FROM events WHERE position = 3").await;
    let error = read(10).await.expect_err("one is missing");
    assert!(matches!(error, LogError::Damaged { position, .. } if position.get() == 3), "{error}");
    assert_eq!(read(2).await.expect("what is before it").len(), 2);
}

async fn damage_is_told_with_its_position(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1)])).await;
    execute(&database, &insert("INSERT", 2, "no stream", 1)).await.expect("the last check is in the program");
    let error = log.read(Position::START, 10).await.expect_err("not a stream id");
    assert!(matches!(error, LogError::Damaged { position, .. } if position.get() == 2), "{error}");
    assert_eq!(log.read(Position::START, 1).await.expect("what is not damaged").len(), 1);
}
