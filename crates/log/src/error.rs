//! Why the log could not answer.

use daybook_core::{DecodeError, Position};
use daybook_database::{DatabaseError, Fault, fault, sqlite_error};

use crate::HistoryError;

/// Why the log could not answer. None of these is a verdict on an append.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database is away or busy. Reading again later may succeed; nothing was appended.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// More appends wait than the queue holds; nothing was appended.
    #[error("too many appends are waiting")]
    Busy,
    /// The connection broke while an append was committed: whether it was is not known. Retrying with the same
    /// idempotency key is safe.
    #[error("the connection to the log broke while committing: the outcome is unknown")]
    Unknown,
    /// This process is shutting down; nothing was appended.
    #[error("the log is closed")]
    Closed,
    /// An event cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What is stored at a position is not what Daybook writes there.
    #[error("the log is damaged at position {position}: {reason}")]
    Damaged {
        /// Where.
        position: Position,
        /// What is wrong.
        reason: String,
    },
    /// The log is not the one that a checkpoint was written for.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(DatabaseError),
}

impl From<sqlx::Error> for LogError {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Unavailable => Self::Unavailable(error.to_string()),
            Fault::Duplicate | Fault::Data | Fault::Other => Self::Database(DatabaseError::Sql(error)),
        }
    }
}

impl From<rusqlite::Error> for LogError {
    fn from(error: rusqlite::Error) -> Self {
        sqlite_error(error).into()
    }
}

impl From<DatabaseError> for LogError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Sql(error) => error.into(),
            error @ DatabaseError::Unreachable { .. } => Self::Unavailable(error.to_string()),
            error => Self::Database(error),
        }
    }
}
