//! The log on SQLite.

mod reader;
pub(crate) mod restore;
mod time;
mod writer;

use std::time::Duration;

use daybook_database::SqliteFile;

use crate::follow::Pace;

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
