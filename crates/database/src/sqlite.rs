//! A SQLite file: one writer, many readers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::Options;

/// A SQLite file in WAL mode. SQLite has one writer at a time, so this process has one connection that writes,
/// and waits for other processes at `BEGIN IMMEDIATE`; readers never wait.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteFile {
    /// How long a writer waits for another process's transaction.
    const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    pub(crate) async fn open(path: &Path, options: &Options) -> Result<Self, sqlx::Error> {
        make_private_file(path)?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Self::BUSY_TIMEOUT);
        let pool = |connections_max| {
            SqlitePoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(options.acquire_timeout.max(Self::BUSY_TIMEOUT))
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(connect.clone()).await?;
        let readers = pool(options.connections_max.max(2))
            .min_connections(1)
            .connect_with(connect.pragma("query_only", "1"))
            .await?;
        Ok(Self { path: path.to_owned(), writer, readers })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The one connection that writes. Start transactions with `begin_with("BEGIN IMMEDIATE")`: one that reads first
    /// and then writes fails when another process wrote in between, whatever the time-out.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections that can only read.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the file, readable for nobody else, unless it is there. SQLite gives the files beside it the same rights.
fn make_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}
