//! The PostgreSQL that is measured on, and what it does without us.

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::bench::plan::Pace;
use crate::bench::programs::json;
use crate::child;
use crate::postgres::Cluster;

/// Room for what is measured to be in memory, and for the log of a whole run between two checkpoints. Durability is
/// PostgreSQL's own.
const SETTINGS: &[(&str, &str)] = &[("shared_buffers", "1GB"), ("max_wal_size", "8GB")];

/// A table that holds what an event holds, and nothing that makes a log of it.
const BARE_TABLE: &str = "\
    CREATE TABLE bare (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream uuid, revision int, id uuid, \
    type text, payload jsonb, metadata jsonb, recorded_at timestamptz DEFAULT now(), UNIQUE (stream, revision))";

/// A server of our own.
pub(crate) struct Server {
    cluster: Cluster,
    /// pgbench's script.
    folder: TempDir,
}

/// A database on it, to be removed when nothing went wrong; else the whole server goes.
pub(crate) struct Database<'a> {
    server: &'a Server,
    name: String,
    pub(crate) url: String,
}

impl Server {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start(SETTINGS).await?;
        let folder = tempfile::Builder::new().prefix("daybook-bench-").tempdir()?;
        std::fs::write(folder.path().join("insert.sql"), insert())?;
        Ok(Self { cluster, folder })
    }

    /// Makes an empty database. What was written before is flushed first, so that no run pays for another.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<Database<'_>> {
        self.sql("postgres", "CHECKPOINT").await?;
        let name = format!("bench_{name}");
        self.sql("postgres", &format!("CREATE DATABASE {name}")).await?;
        let url = self.cluster.url_of(&name);
        Ok(Database { server: self, name, url })
    }

    /// Lets the server come to rest after a database was filled, as it does by itself in time.
    pub(crate) async fn settle(&self, database: &Database<'_>) -> anyhow::Result<()> {
        self.sql(&database.name, "VACUUM (ANALYZE)").await?;
        self.sql("postgres", "CHECKPOINT").await.map(drop)
    }

    /// Makes a measurement on a database of its own.
    pub(crate) async fn measure(&self, measurement: &mut Command) -> anyhow::Result<Value> {
        let database = self.database("one").await?;
        let measured = json(measurement.args(["--url", &database.url])).await?;
        database.remove().await?;
        Ok(measured)
    }

    /// Makes a measurement on a SQLite file of its own, on the same disk.
    pub(crate) async fn measure_file(&self, mut measurement: Command) -> anyhow::Result<Value> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        json(measurement.arg("--file").arg(folder.path().join("log.db"))).await
    }

    /// What PostgreSQL's own load generator reaches with one bare INSERT in a transaction: rows/s.
    pub(crate) async fn bare_insert(&self, clients: u32, pace: Pace) -> anyhow::Result<Value> {
        let database = self.database("bare").await?;
        self.sql(&database.name, BARE_TABLE).await?;
        // As long to warm up as what it stands beside.
        self.pgbench(&database, clients, pace.warm_up_s).await?;
        let rate = self.pgbench(&database, clients, pace.seconds).await?;
        database.remove().await?;
        Ok(serde_json::json!({"per_second": rate}))
    }

    async fn pgbench(&self, database: &Database<'_>, clients: u32, seconds: u64) -> anyhow::Result<f64> {
        let mut pgbench = self.cluster.client("pgbench");
        pgbench.args(["-n", "-M", "prepared", "-f"]).arg(self.folder.path().join("insert.sql"));
        pgbench.args(["-c", &clients.to_string(), "-T", &seconds.max(1).to_string(), &database.name]);
        let text = child::read(pgbench.stderr(std::process::Stdio::null())).await?;
        transactions_per_second(&text).with_context(|| format!("pgbench says no rate:\n{text}"))
    }

    /// The version of the server.
    pub(crate) async fn version(&self) -> anyhow::Result<String> {
        self.sql("postgres", "SHOW server_version").await
    }

    async fn sql(&self, database: &str, statement: &str) -> anyhow::Result<String> {
        let mut psql = self.cluster.client("psql");
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]);
        Ok(child::read(&mut psql).await?.trim().to_owned())
    }
}

impl Database<'_> {
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        self.server.sql("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await.map(drop)
    }
}

/// One row, its payload of 200 bytes and its metadata of 120.
fn insert() -> String {
    let payload = format!(r#"{{"count":100000,"note":"{}"}}"#, "n".repeat(174));
    let metadata = format!(r#"{{"command":"bench.count","correlation_id":"{}"}}"#, "c".repeat(75));
    format!(
        "INSERT INTO bare (stream, revision, id, type, payload, metadata) VALUES \
         (gen_random_uuid(), 1, gen_random_uuid(), 'bench.counted', '{payload}', '{metadata}');\n"
    )
}

/// The rate in what pgbench prints, without the time that connecting took.
fn transactions_per_second(text: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_prints() {
        let text = "latency average = 0.15 ms\ntps = 6543.21 (without initial connection time)\n";
        assert_eq!(transactions_per_second(text), Some(6543.21));
        assert_eq!(transactions_per_second("pgbench: error: connection failed"), None);
    }

    #[test]
    fn a_bare_row_has_as_many_bytes_as_the_goals_are_about() {
        let insert = insert();
        let strings: Vec<_> = insert.split('\'').collect();
        assert_eq!((strings[3].len(), strings[5].len()), (200, 120));
    }
}
