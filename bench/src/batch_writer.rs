//! The least that a writer of groups has to do on SQLite: one connection, a transaction for each group, the same
//! columns, the same two indexes, and the rows that as many callers of `append` write. What `append` on SQLite is compared
//! with.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use clap::{Arg, ArgMatches, Command};
use daybook_core::EventSet;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use uuid::Uuid;

use crate::append::Streams;
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
    let mut rows =
        Rows { callers: (0..group as u64).map(|call| (Streams::default(), call)).collect(), written: 0 };
    write_for(&mut connection, &mut rows, &metadata, window.warm_up).await?;
    let (before, begun) = (rows.written, Instant::now());
    write_for(&mut connection, &mut rows, &metadata, window.measured).await?;
    let per_second = (rows.written - before) as f64 / begun.elapsed().as_secs_f64();
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut connection).await?;
    anyhow::ensure!(found == rows.written, "{} rows were written, and {found} are there", rows.written);
    connection.close().await?;
    Ok(json!({"per_second": per_second}))
}

/// What is written.
struct Rows {
    /// Each of those whose rows a group holds, and how many calls it made.
    callers: Vec<(Streams, u64)>,
    written: i64,
}

async fn write_for(
    connection: &mut SqliteConnection,
    rows: &mut Rows,
    metadata: &str,
    time: Duration,
) -> anyhow::Result<()> {
    let row = "(?, ?, ?, ?, 'bench.counted', 1, ?, ?, ?)";
    let insert = format!(
        "INSERT INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload) \
         VALUES {}",
        vec![row; rows.callers.len()].join(", ")
    );
    let until = Instant::now() + time;
    while Instant::now() < until {
        let recorded_at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
        for (streams, calls) in &mut rows.callers {
            let (place, stream, revision) = streams.next(*calls);
            let revision = revision.plus(1);
            let payload = CounterEvent::from(Counted::new(100_000 + *calls)).encode()?.payload;
            rows.written += 1;
            query = query.bind(rows.written).bind(stream.to_string()).bind(revision.to_i64());
            query = query.bind(Uuid::now_v7().to_string()).bind(recorded_at.clone());
            query = query.bind(metadata.to_owned()).bind(payload);
            streams.went_on(*calls, place, stream, revision);
            *calls += 1;
        }
        let mut transaction = connection.begin().await?;
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}
