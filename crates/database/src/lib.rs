//! The two databases that Daybook runs on: how to reach them, how to know that they are durable, and how their
//! schemas come to be.
//!
//! **Architecture invariant:** no statement about events, views or accounts is here. Those belong to the crates
//! that own the tables.

mod fault;
mod lines;
mod location;
mod migrate;
mod signals;
mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;
use tokio::try_join;

pub use fault::{Fault, fault, is_missing_table, sqlite_error, was_undone};
pub use lines::{Lines, Loading, Snapshot, Statements};
pub use location::{Location, LocationError};
pub use migrate::Schema;
pub use signals::{Heard, Signal, Signals};
pub use sqlite::SqliteFile;

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most connections that this process holds to it (for SQLite: the most readers).
    pub connections_max: u32,
    /// How long to wait for one before the database counts as unavailable.
    pub acquire_timeout: Duration,
    /// How long a writer waits for another process's transaction on the same SQLite file.
    pub busy_timeout: Duration,
    /// Whether to run on a database that may forget what it has committed.
    pub unsafe_durability: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 8,
            acquire_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(5),
            unsafe_durability: false,
        }
    }
}

/// A database that is connected. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Database {
    /// A PostgreSQL server, version 15 or later.
    Postgres(PgPool),
    /// An embedded SQLite file.
    Sqlite(SqliteFile),
}

/// What holds for every connection to PostgreSQL. Compiling a statement takes 0.3 s, and it does so for short look-ups
/// too as long as it has no statistics of a young table. No statement here is a long one: what takes longer than the
/// limit is stuck.
const SESSION: &str = "SET jit = off; SET statement_timeout = '30s'";

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It did not answer, or refused.
    #[error("cannot reach the database at {location}: {source}")]
    Unreachable {
        /// Where it should be; without the password.
        location: String,
        /// What happened.
        source: sqlx::Error,
    },
    /// It could lose what it has acknowledged.
    #[error(
        "the database would forget acknowledged events in a crash: {0}. Mend that, or accept the loss with `unsafe_durability`"
    )]
    NotDurable(String),
    /// It is older than Daybook can use.
    #[error("PostgreSQL {0} is too old: Daybook needs version 15 or later")]
    TooOld(String),
    /// A migration failed.
    #[error("the migration of the {schema} schema failed: {source}")]
    Migration {
        /// Which schema.
        schema: &'static str,
        /// What happened.
        source: sqlx::migrate::MigrateError,
    },
    /// Migrations are waiting.
    #[error("the {0} schema is not up to date: run `daybook migrate` first")]
    NotMigrated(&'static str),
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl Database {
    /// Connects, and checks that what is committed there stays (invariant L1).
    ///
    /// # Errors
    ///
    /// When it cannot be reached, is too old, or is not durable.
    pub async fn connect(location: &Location, options: &Options) -> Result<Self, DatabaseError> {
        let database = match location {
            Location::Postgres(connect) => {
                let unreachable = |source| DatabaseError::Unreachable { location: location.to_string(), source };
                // The pool tries again until its time is up, and then no longer knows why.
                let probe = async {
                    let probe = timeout(options.acquire_timeout, PgConnection::connect_with(connect)).await;
                    let probe = probe.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
                    // Nothing was asked of it; that it cannot say goodbye would show again at once.
                    let _ = probe.close().await;
                    Ok(())
                };
                let pool = PgPoolOptions::new()
                    .max_connections(options.connections_max)
                    .acquire_timeout(options.acquire_timeout)
                    .test_before_acquire(false)
                    .after_connect(|connection, _| {
                        Box::pin(async move { sqlx::raw_sql(SESSION).execute(connection).await.map(drop) })
                    })
                    .connect_with((**connect).clone());
                let ((), pool) = try_join!(probe, pool).map_err(unreachable)?;
                Self::Postgres(pool)
            }
            Location::Sqlite(path) => Self::Sqlite(
                SqliteFile::open(path, options)
                    .await
                    .map_err(|source| DatabaseError::Unreachable { location: location.to_string(), source })?,
            ),
        };
        database.check(options).await?;
        Ok(database)
    }

    async fn check(&self, options: &Options) -> Result<(), DatabaseError> {
        let lacking = match self {
            Self::Postgres(pool) => {
                let (number, version, fsync, commit, pages): (i32, String, String, String, String) =
                    sqlx::query_as(
                        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
                     current_setting('fsync'), current_setting('synchronous_commit'), \
                     current_setting('full_page_writes')",
                    )
                    .fetch_one(pool)
                    .await?;
                if number < 150_000 {
                    return Err(DatabaseError::TooOld(version));
                }
                lacking_on_postgres([&fsync, &commit, &pages])
            }
            Self::Sqlite(file) => {
                let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(file.writer()).await?;
                let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(file.writer()).await?;
                lacking_on_sqlite(synchronous, &journal)
            }
        };
        match lacking {
            Some(reason) if options.unsafe_durability => {
                tracing::warn!(reason, "running without durability, as asked");
                Ok(())
            }
            Some(reason) => Err(DatabaseError::NotDurable(reason)),
            None => Ok(()),
        }
    }

    /// Closes its connections.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(file) => file.close().await,
        }
    }
}

/// What PostgreSQL lacks to be durable, by the values of `fsync`, `synchronous_commit` and `full_page_writes`.
fn lacking_on_postgres(values: [&str; 3]) -> Option<String> {
    let names = ["fsync", "synchronous_commit", "full_page_writes"];
    let (name, _) = names.into_iter().zip(values).find(|(_, value)| *value == "off")?;
    Some(format!("`{name}` is off"))
}

/// What SQLite lacks to be durable.
fn lacking_on_sqlite(synchronous: i64, journal: &str) -> Option<String> {
    match (synchronous, journal) {
        (..2, _) => Some(format!("`synchronous` is {synchronous} and not FULL")),
        (_, "wal") => None,
        _ => Some(format!("`journal_mode` is {journal} and not wal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lets_postgresql_forget_is_named() {
        for (index, name) in ["fsync", "synchronous_commit", "full_page_writes"].into_iter().enumerate() {
            let mut values = ["on"; 3];
            assert_eq!(lacking_on_postgres(values), None);
            values[index] = "off";
            assert_eq!(lacking_on_postgres(values), Some(format!("`{name}` is off")));
        }
    }

    #[test]
    fn sqlite_has_to_flush_a_write_ahead_log_with_each_commit() {
        assert_eq!(lacking_on_sqlite(2, "wal"), None);
        assert_eq!(lacking_on_sqlite(3, "wal"), None);
        for (synchronous, journal, named) in
            [(1, "wal", "`synchronous`"), (0, "wal", "`synchronous`"), (2, "delete", "`journal_mode`")]
        {
            let lacking = lacking_on_sqlite(synchronous, journal).unwrap_or_default();
            assert!(lacking.starts_with(named), "{synchronous} {journal}: {lacking}");
        }
    }
}
