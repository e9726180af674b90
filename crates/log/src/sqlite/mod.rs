//! The log on SQLite.

mod reader;
pub(crate) mod restore;
mod time;
mod writer;

use daybook_database::SqliteFile;

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
