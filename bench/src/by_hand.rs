//! The least that a writer of groups has to do on PostgreSQL, with as many callers: the same columns and indexes, a
//! statement for whatever waits, and each caller told. No verdicts, no claims, no keys, nothing sealed for each append.
//! What this machine allows, beside `append`.

use anyhow::ensure;
use clap::{ArgMatches, Command};
use daybook_core::EventSet;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::append::Streams;
use crate::arguments;
use crate::calls::{Caller, closed_loop};
use crate::workload::{Counted, CounterEvent, sealed_metadata};

const TABLES: &str = "\
    CREATE TABLE head (position bigint NOT NULL); INSERT INTO head VALUES (0); \
    CREATE TABLE events (position bigint PRIMARY KEY, stream text COLLATE \"C\" NOT NULL, revision bigint NOT NULL, \
        id uuid NOT NULL, type text NOT NULL, schema_version integer NOT NULL, recorded_at timestamptz NOT NULL, \
        metadata json NOT NULL, payload json NOT NULL, UNIQUE (stream, revision))";

/// Locks the row that says where the log ends, and writes behind it.
const WRITE: &str = "\
    WITH head AS (UPDATE head SET position = position + cardinality($2::text[]) \
        RETURNING position - cardinality($2::text[]) AS before) \
    INSERT INTO events SELECT before + place, stream, revision, id, 'bench.counted', 1, now(), $1::json, payload::json \
    FROM head, unnest($2::text[], $3::bigint[], $4::uuid[], $5::text[]) \
        WITH ORDINALITY AS new (stream, revision, id, payload, place)";

pub(crate) fn command() -> Command {
    Command::new("append-by-hand")
        .about("Appends what `append` does in groups, with nothing but the work")
        .args(arguments::store())
        .args(arguments::load())
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let mut connection = PgConnection::connect(arguments::text(arguments, "url")?).await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    let (queue, waiting) = mpsc::channel(1_000);
    let writer = tokio::spawn(write(connection, sealed_metadata().await?, waiting));
    let count: u64 = arguments::parse(arguments, "callers")?;
    let caller = |index| ByHand { queue: queue.clone(), streams: Streams::default(), calls: index };
    let callers = (0..count).map(caller).collect();
    let measured = closed_loop(callers, arguments::window(arguments)?).await?;
    drop(queue);
    let rows = writer.await??;
    ensure!(
        rows.unsigned_abs() == measured.calls,
        "{} rows were acknowledged, and {rows} are there",
        measured.calls
    );
    Ok(measured.to_json())
}

/// A row that waits, and who waits for it.
struct Waiting {
    stream: String,
    revision: i64,
    payload: String,
    written: oneshot::Sender<()>,
}

/// Writes all that waits, one group after the other; answers how many rows there are in the end.
async fn write(
    mut connection: PgConnection,
    metadata: String,
    mut waiting: mpsc::Receiver<Waiting>,
) -> anyhow::Result<i64> {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, 1_000).await > 0 {
        // Those that were woken together come in together.
        tokio::task::yield_now().await;
        while let Ok(more) = waiting.try_recv() {
            group.push(more);
        }
        let ids: Vec<Uuid> = group.iter().map(|_| Uuid::now_v7()).collect();
        sqlx::query(WRITE)
            .bind(metadata.as_str())
            .bind(group.iter().map(|row| row.stream.as_str()).collect::<Vec<_>>())
            .bind(group.iter().map(|row| row.revision).collect::<Vec<_>>())
            .bind(ids)
            .bind(group.iter().map(|row| row.payload.as_str()).collect::<Vec<_>>())
            .execute(&mut connection)
            .await?;
        for row in group.drain(..) {
            let _ = row.written.send(());
        }
    }
    Ok(sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut connection).await?)
}

/// Somebody who appends one row after the other.
struct ByHand {
    queue: mpsc::Sender<Waiting>,
    streams: Streams,
    calls: u64,
}

impl Caller for ByHand {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (place, stream, revision) = self.streams.next(self.calls);
        let revision = revision.plus(1);
        let payload = CounterEvent::from(Counted::new(100_000 + self.calls)).encode()?.payload;
        let (written, done) = oneshot::channel();
        let row = Waiting { stream: stream.to_string(), revision: revision.to_i64(), payload, written };
        self.queue.send(row).await?;
        done.await?;
        self.streams.went_on(self.calls, place, stream, revision);
        self.calls += 1;
        Ok(())
    }
}
