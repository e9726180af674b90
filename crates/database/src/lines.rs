//! A table's rows as lines of JSON, which both databases write and read alike: what backups are made of.
//!
//! What is written is one state of a database, while others go on writing to it; what is read is there whole or not at
//! all.

use std::borrow::Cow;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Sqlite, Transaction};

use crate::Database;

/// How a table's rows become lines, and lines rows.
#[derive(Debug, Clone)]
pub struct Lines {
    /// On PostgreSQL.
    pub postgres: Statements,
    /// On SQLite.
    pub sqlite: Statements,
}

/// The two statements of a database.
#[derive(Debug, Clone)]
pub struct Statements {
    /// Answers each row as one JSON text.
    pub write: Cow<'static, str>,
    /// Takes a JSON array of such texts, and inserts their rows.
    pub read: Cow<'static, str>,
}

impl Statements {
    /// Both of them.
    pub const fn new(write: &'static str, read: &'static str) -> Self {
        Self { write: Cow::Borrowed(write), read: Cow::Borrowed(read) }
    }
}

/// One state of a database. Others go on writing meanwhile, and none of that is seen.
pub enum Snapshot {
    /// A connection of its own: its statements may take as long as they take.
    Postgres(PgConnection),
    /// A reader.
    Sqlite(PoolConnection<Sqlite>),
}

/// A transaction that nobody sees anything of before [`commit`](Self::commit).
///
/// To be awaited to its end: a future that is dropped while a transaction begins leaves it open.
pub enum Loading {
    /// A connection of its own: its statements may take as long as they take.
    Postgres(PgConnection),
    /// The writer.
    Sqlite(Transaction<'static, Sqlite>),
}

/// Whatever the server or the role says: a backup takes as long as it takes.
macro_rules! unhurried {
    () => {
        "SET jit = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; "
    };
}

impl Database {
    /// Begins to read one state of it.
    ///
    /// # Errors
    ///
    /// When it is away.
    pub async fn snapshot(&self) -> Result<Snapshot, sqlx::Error> {
        match self {
            Self::Postgres(pool) => {
                let mut connection = PgConnection::connect_with(pool.connect_options().as_ref()).await?;
                let begin = concat!(unhurried!(), "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                sqlx::raw_sql(begin).execute(&mut connection).await?;
                Ok(Snapshot::Postgres(connection))
            }
            Self::Sqlite(file) => {
                let mut connection = file.readers().acquire().await?;
                // The state is the one at the first statement that reads.
                sqlx::raw_sql("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1").execute(&mut *connection).await?;
                Ok(Snapshot::Sqlite(connection))
            }
        }
    }

    /// Begins a transaction to read lines back in.
    ///
    /// # Errors
    ///
    /// When it is away.
    pub async fn load(&self) -> Result<Loading, sqlx::Error> {
        match self {
            Self::Postgres(pool) => {
                let mut connection = PgConnection::connect_with(pool.connect_options().as_ref()).await?;
                let begin = concat!(unhurried!(), "BEGIN ISOLATION LEVEL READ COMMITTED");
                sqlx::raw_sql(begin).execute(&mut connection).await?;
                Ok(Loading::Postgres(connection))
            }
            Self::Sqlite(file) => Ok(Loading::Sqlite(file.writer().begin_with("BEGIN IMMEDIATE").await?)),
        }
    }
}

impl Snapshot {
    /// The rows of a table, each as a line.
    pub fn write<'a>(&'a mut self, lines: &'a Lines) -> BoxStream<'a, Result<String, sqlx::Error>> {
        match self {
            Self::Postgres(connection) => {
                sqlx::query_scalar(AssertSqlSafe(lines.postgres.write.as_ref())).fetch(connection)
            }
            Self::Sqlite(connection) => {
                sqlx::query_scalar(AssertSqlSafe(lines.sqlite.write.as_ref())).fetch(&mut **connection)
            }
        }
    }

    /// All rows of a table that has few of them.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn write_all(&mut self, lines: &Lines) -> Result<Vec<String>, sqlx::Error> {
        self.write(lines).try_collect().await
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection) => connection.close().await,
            Self::Sqlite(mut connection) => sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.map(drop),
        }
    }
}

impl Loading {
    /// Reads lines back in.
    ///
    /// # Errors
    ///
    /// When a line is none of this table's, or its row cannot be there.
    pub async fn read(&mut self, lines: &Lines, rows: &[String]) -> Result<(), sqlx::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = format!("[{}]", rows.join(","));
        match self {
            Self::Postgres(connection) => {
                let sql = AssertSqlSafe(lines.postgres.read.as_ref());
                sqlx::query(sql).bind(rows).execute(connection).await?;
            }
            Self::Sqlite(transaction) => {
                let sql = AssertSqlSafe(lines.sqlite.read.as_ref());
                sqlx::query(sql).bind(rows).execute(&mut **transaction).await?;
            }
        }
        Ok(())
    }

    /// Runs a statement that both databases understand.
    ///
    /// # Errors
    ///
    /// When the database refuses it.
    pub async fn execute(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection) => sqlx::query(AssertSqlSafe(sql)).execute(connection).await.map(drop),
            Self::Sqlite(transaction) => {
                sqlx::query(AssertSqlSafe(sql)).execute(&mut **transaction).await.map(drop)
            }
        }
    }

    /// Makes all of it visible, at once and for ever.
    ///
    /// # Errors
    ///
    /// When the database is away, or has no room for it: then nothing of it is there.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(mut connection) => {
                sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
                connection.close().await
            }
            Self::Sqlite(transaction) => transaction.commit().await,
        }
    }
}
