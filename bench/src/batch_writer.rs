//! The least that a writer of groups has to do on SQLite: one connection, a transaction for each group, the same
//! columns and the same two indexes. What `append` on SQLite is compared with.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use clap::{Arg, ArgMatches, Command};
use daybook_core::{EventSet, StreamId};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use uuid::Uuid;

use crate::arguments;
use crate::workload::{Counted, CounterEvent, sealed_metadata};

const TABLE: &str = "\
    CREATE TABLE events (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, revision INTEGER NOT NULL, \
    id TEXT NOT NULL, type TEXT NOT NULL, schema_version INTEGER NOT NULL, recorded_at TEXT NOT NULL, \
    metadata TEXT NOT NULL, payload TEXT NOT NULL, UNIQUE (stream, revision)) STRICT";

pub(crate) fn command() -> Command {
    Command::new("batch-writer").about("Writes rows to SQLite in groups").args(arguments::load()).args([
        Arg::new("file").long("file").value_name("PATH").required(true).help("The SQLite file"),
        arguments::with_default("group", "64", "How many rows a transaction has"),
    ])
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let group: usize = arguments::parse(arguments, "group")?;
    let window = arguments::window(arguments)?;
    let options = SqliteConnectOptions::new()
        .filename(arguments::text(arguments, "file")?)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let metadata = sealed_metadata().await?;
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::query(TABLE).execute(&mut connection).await?;
    let mut position = 0;
    write_for(&mut connection, group, &metadata, window.warm_up, &mut position).await?;
    let (before, begun) = (position, Instant::now());
    write_for(&mut connection, group, &metadata, window.measured, &mut position).await?;
    let per_second = (position - before) as f64 / begun.elapsed().as_secs_f64();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut connection).await?;
    anyhow::ensure!(rows == position, "{position} rows were written, and {rows} are there");
    connection.close().await?;
    Ok(json!({"per_second": per_second}))
}

async fn write_for(
    connection: &mut SqliteConnection,
    group: usize,
    metadata: &str,
    time: Duration,
    position: &mut i64,
) -> anyhow::Result<()> {
    let row = "(?, ?, ?, ?, 'bench.counted', 1, ?, ?, ?)";
    let insert = format!(
        "INSERT INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload) \
         VALUES {}",
        vec![row; group].join(", ")
    );
    let until = Instant::now() + time;
    while Instant::now() < until {
        let recorded_at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
        let mut stream = String::new();
        for index in 0..group {
            // Every other row begins a stream, and the next one goes on with it.
            let revision = 1 + index as i64 % 2;
            if revision == 1 {
                stream = StreamId::new("bench.counter", Uuid::now_v7()).to_string();
            }
            let payload = CounterEvent::from(Counted::new(100_000)).encode()?.payload;
            *position += 1;
            query = query.bind(*position).bind(stream.clone()).bind(revision).bind(Uuid::now_v7().to_string());
            query = query.bind(recorded_at.clone()).bind(metadata.to_owned()).bind(payload);
        }
        let mut transaction = connection.begin().await?;
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}
