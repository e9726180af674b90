//! A SQLite file: one writer, many readers.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::OpenFlags;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection, SqlitePool};

use crate::Options;

/// What holds for every connection, beyond durability.
const PRAGMAS: [(&str, &str); 2] = [
    // From the beginning: what is moved to another page leaves no copy behind either.
    ("secure_delete", "ON"),
    // What a statement needs to take itself back fits in memory; a file for it would be made for each one.
    ("temp_store", "MEMORY"),
];

/// What a connection that writes keeps in memory, in KiB: the upper pages of all indexes, and what one transaction changes.
const WRITING_CACHE: &str = "-16384";

/// A SQLite file in WAL mode, in which what is removed is overwritten. SQLite has one writer at a time: what writes now and
/// then shares one connection, and whoever writes all the time has one of its own. Both wait for others at
/// `BEGIN IMMEDIATE`; readers never wait.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    path: PathBuf,
    /// The device that it is on, and its number there.
    id: (u64, u64),
    busy_timeout: Duration,
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteFile {
    pub(crate) async fn open(path: &Path, options: &Options) -> Result<Self, sqlx::Error> {
        let id = file_id(&make_private_file(path)?);
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(options.busy_timeout);
        let connect = PRAGMAS.into_iter().fold(connect, |connect, (name, value)| connect.pragma(name, value));
        let pool = |connections_max| {
            SqlitePoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(options.acquire_timeout.max(options.busy_timeout))
                .test_before_acquire(false)
                .before_acquire(|connection, _| Box::pin(is_clean(connection)))
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(connect.clone().pragma("cache_size", WRITING_CACHE)).await?;
        let readers = pool(options.connections_max.max(2))
            .min_connections(1)
            .connect_with(connect.pragma("query_only", "1"))
            .await?;
        Ok(Self { path: path.to_owned(), id, busy_timeout: options.busy_timeout, writer, readers })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file at the path is still the one that was opened: connections stay with that one when it is moved away
    /// or another takes its place.
    ///
    /// # Errors
    ///
    /// When that cannot be seen.
    pub fn is_in_place(&self) -> io::Result<bool> {
        match self.path.metadata() {
            Ok(there) => Ok(file_id(&there) == self.id),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The connection that writes now and then. Start transactions with `begin_with("BEGIN IMMEDIATE")`: one that reads first
    /// and then writes fails when another process wrote in between, whatever the time-out.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// A connection of one's own that writes, for whoever writes all the time and has a thread for it: it blocks. The
    /// others live on threads of their own, and what goes back and forth between two threads takes as long as the
    /// statements of a small transaction. It waits for others as for another process.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn connect(&self) -> Result<rusqlite::Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        // That there is a write-ahead log, the file itself says.
        let durable = [("synchronous", "FULL"), ("foreign_keys", "ON"), ("cache_size", WRITING_CACHE)];
        for (name, value) in durable.into_iter().chain(PRAGMAS) {
            connection.pragma_update(None, name, value)?;
        }
        Ok(connection)
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

/// Whether a connection is out of any transaction. One that failed to commit (a full disk) can be stuck in it; it is
/// closed, and another one takes its place.
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may still be under way, and is over once the connection answers.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Makes the file, readable for nobody else, unless it is there. SQLite gives the files beside it the same rights.
fn make_private_file(path: &Path) -> io::Result<Metadata> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.metadata()
}

/// What tells a file from every other one that there is.
fn file_id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SQLite rolls a transaction back by itself when, say, the disk is full; then there is none left to roll back.
    #[tokio::test]
    async fn a_transaction_that_ended_by_itself_does_not_poison_the_writer() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = SqliteFile::open(&folder.path().join("full.db"), &Options::default()).await.expect("opens");
        let mut transaction = file.writer().begin_with("BEGIN IMMEDIATE").await.expect("begins");
        sqlx::query("ROLLBACK").execute(&mut *transaction).await.expect("as SQLite does by itself");
        transaction.commit().await.expect_err("there is nothing to commit");
        let transaction = file.writer().begin_with("BEGIN IMMEDIATE").await.expect("another connection begins");
        transaction.commit().await.expect("and commits");
        file.close().await;
    }
}
