//! The log on SQLite.

mod reader;
pub(crate) mod restore;
mod time;
mod writer;

use std::time::Duration;

use daybook_database::SqliteFile;

use crate::follow::Pace;
use crate::{HistoryError, LogError};

/// A look takes 0.1 ms, and is all that there is between processes.
pub(crate) const PACE: Pace = Pace { shortest: Duration::from_millis(5), longest: Duration::from_millis(250) };

/// The log on SQLite.
pub(crate) struct SqliteStore {
    file: SqliteFile,
}

impl SqliteStore {
    /// The log in `file`.
    pub(crate) fn new(file: SqliteFile) -> Self {
        Self { file }
    }
}

/// Checks that whoever opens the log's path now finds the file that is read and written here (invariant L11).
fn check_place(file: &SqliteFile) -> Result<(), LogError> {
    match file.is_in_place() {
        Ok(true) => Ok(()),
        Ok(false) => Err(HistoryError::OtherFile.into()),
        Err(error) => Err(sqlx::Error::Io(error).into()),
    }
}
