//! What a database error means. Told apart by SQLSTATE or SQLite's result code, never by a message.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// What a database error means for whoever ran the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database is away, shutting down, full, or busy: the same may succeed later. After a COMMIT nothing is
    /// known of its outcome.
    Unavailable,
    /// A unique constraint refused a row.
    Duplicate,
    /// The statement's data was refused: the same will fail again.
    Data,
    /// Anything else: a mistake in the program or a schema that does not fit.
    Other,
}

/// An error of a connection to SQLite that is not one of `sqlx`, as one of its errors.
pub fn sqlite_error(error: rusqlite::Error) -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(error))
}

/// Tells what an error means.
pub fn fault(error: &sqlx::Error) -> Fault {
    if let sqlx::Error::AnyDriverError(error) = error {
        let error = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error);
        return error.map_or(Fault::Other, |error| fault_of_sqlite(error.extended_code));
    }
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Fault::Unavailable,
            _ => Fault::Other,
        };
    };
    if database.is_unique_violation() {
        return Fault::Duplicate;
    }
    let code = database.code().unwrap_or_default();
    if database.try_downcast_ref::<PgDatabaseError>().is_some() {
        return match code.get(..2) {
            // Connection, rollback (deadlock, serialization), resources, operator intervention, I/O.
            Some("08" | "40" | "53" | "57" | "58") => Fault::Unavailable,
            // Closed to connections, lock not available, read-only (a standby), idle in a transaction for too long (the
            // process was frozen).
            _ if matches!(code.as_ref(), "55000" | "55P03" | "25006" | "25P03") => Fault::Unavailable,
            // Data, constraints, and what is too large for PostgreSQL, as a text is for an index.
            Some("22" | "23" | "54") => Fault::Data,
            _ => Fault::Other,
        };
    }
    code.parse().map_or(Fault::Other, fault_of_sqlite)
}

/// What an extended result code of SQLite means. It holds the primary one in its low byte.
fn fault_of_sqlite(code: i32) -> Fault {
    match (code, code & 0xff) {
        // CONSTRAINT_PRIMARYKEY, CONSTRAINT_UNIQUE
        (1555 | 2067, _) => Fault::Duplicate,
        // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
        (_, 5 | 6 | 8 | 10 | 13 | 14) => Fault::Unavailable,
        // TOOBIG, CONSTRAINT, MISMATCH
        (_, 18..=20) => Fault::Data,
        _ => Fault::Other,
    }
}

/// Whether a statement named a table that is not there (any more).
pub fn is_missing_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => error.code() == "42P01",
        // SQLite has no code of its own for it.
        None => error.message().starts_with("no such table"),
    }
}

/// Whether the database says that it has undone the statement, so that the outcome is known even of one that commits.
/// What ends the session does not say so; nor does what is about the connection, which a proxy may have said.
pub fn was_undone(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
    else {
        return false;
    };
    matches!(error.severity(), PgSeverity::Error) && !error.code().starts_with("08")
}
