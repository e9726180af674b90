//! Why a view could not answer.

use daybook_core::Position;
use daybook_database::{DatabaseError, Fault, fault};
use daybook_log::LogError;

/// Why a view could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No projection of this name is registered.
    #[error("there is no view `{0}`")]
    Unknown(String),
    /// The view did not reach the position that was asked for in time.
    #[error("the view has only reached position {reached}")]
    NotYet {
        /// How far it has come.
        reached: Position,
    },
    /// An older version of the view is served until this program's is built, and it has not this field.
    #[error("version {version} of the view is still served, which has no field `{field}`")]
    NotReady {
        /// The version that is served.
        version: u32,
        /// The field.
        field: &'static str,
    },
    /// What an operator asked for cannot be done as things are.
    #[error("{0}")]
    Refused(String),
    /// A document's history would have to be looked for in more of the log than can be gone through in time.
    #[error("the log is too long to look for all that happened to this document")]
    TooLong,
    /// Somebody else goes through the log already.
    #[error("the log is being gone through for somebody else")]
    Busy,
    /// The database is away or busy; the same may succeed later.
    #[error("the views are not available: {0}")]
    Unavailable(String),
    /// A projection's declaration cannot be made into a table: a mistake in the program, seen at its first start.
    #[error("the projection `{projection}` cannot be stored: {reason}")]
    Spec {
        /// The projection.
        projection: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A stored document is no JSON.
    #[error("the document `{key}` is damaged: {source}")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The log could not answer.
    #[error(transparent)]
    Log(LogError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(DatabaseError),
}

impl From<sqlx::Error> for ViewError {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Unavailable => Self::Unavailable(error.to_string()),
            Fault::Duplicate | Fault::Data | Fault::Other => Self::Database(DatabaseError::Sql(error)),
        }
    }
}

impl From<LogError> for ViewError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(reason) => Self::Unavailable(reason),
            LogError::Busy | LogError::Unknown | LogError::Closed => Self::Unavailable(error.to_string()),
            error => Self::Log(error),
        }
    }
}
