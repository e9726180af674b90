//! What the runtime asks of a database: the boundary between the logic here and the SQL of each backend.

pub(crate) mod changes;
pub(crate) mod dead_letters;
pub(crate) mod generations;
pub(crate) mod pieces;
pub(crate) mod ranges;
pub(crate) mod rebuilds;
#[cfg(test)]
mod tests;
pub(crate) mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use daybook_core::{Changed, Position, Revision};
use daybook_database::Database;
use daybook_log::Checkpoint;

use crate::criteria::{FieldValue, Filter, Sort};
use crate::query::Cursor;
use crate::ranges::Claim;
use crate::status::Stopped;
use crate::table::Table;
use changes::Changes;
use dead_letters::{DeadLetters, NewDeadLetter, Revived};
use generations::Generations;
use ranges::Ranges;
use rebuilds::Rebuilds;
use upkeep::Upkeep;

/// What a page made of a generation's documents: all of it is written, in one transaction, or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit<'a> {
    pub(crate) generation: i64,
    pub(crate) table: &'a Table,
    /// The ranges that the page was folded for: each must still be held, and stand where the page begins.
    pub(crate) ranges: &'a [Claim],
    pub(crate) from: Position,
    /// Where they stand afterwards.
    pub(crate) to: Checkpoint,
    pub(crate) changed: &'a [Changed],
    /// Dead letters that are there afterwards; one that was there has another error now.
    pub(crate) parked: &'a [NewDeadLetter],
    /// Dead letters that are there no more.
    pub(crate) revived: Option<&'a Revived>,
    /// Whether others are told which documents changed.
    pub(crate) announced: bool,
    pub(crate) lease: Duration,
}

/// The most dead letters of a commit that are logged one by one.
const LOGGED_MAX: usize = 10;

impl Commit<'_> {
    /// Logs what could not be applied to documents, once that is written.
    pub(crate) fn log_parked(&self) {
        let mut failed = self.parked.iter().filter_map(|letter| Some((letter, letter.error.as_deref()?)));
        let (projection, version) = (self.table.projection, self.table.version);
        for (NewDeadLetter { key, position, event_type, .. }, error) in failed.by_ref().take(LOGGED_MAX) {
            tracing::warn!(
                projection,
                version,
                key,
                position = position.get(),
                event_type,
                error,
                "an event could not be applied to a document, and is a dead letter"
            );
        }
        let more = failed.count();
        if more > 0 {
            tracing::warn!(projection, version, more, "as many events more are dead letters");
        }
    }
}

/// Which documents to read; every condition that is given must hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The document with this key.
    pub(crate) key: Option<String>,
    /// Those of this owner; none when the view has no owners.
    pub(crate) owner: Option<String>,
    /// Those whose fields are so.
    pub(crate) filters: Vec<Filter>,
    /// In the order of this field and then of their keys; else of their keys alone.
    pub(crate) sort: Option<Sort>,
    /// Those behind this place in that order.
    pub(crate) after: Option<Cursor>,
    /// The most documents.
    pub(crate) limit: u32,
}

/// Documents, and the position that they correspond to, read as one state.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    pub(crate) position: Position,
    /// The generation that is to be served, read as part of the same state.
    pub(crate) served: Option<i64>,
    pub(crate) rows: Vec<Row>,
}

/// A document as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) body: String,
    pub(crate) position: Position,
    pub(crate) revision: Revision,
    /// The value that it is sorted by, unless there is none.
    pub(crate) sorted: Option<FieldValue>,
}

/// A range as others see it.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) generation: i64,
    pub(crate) position: Position,
    /// Who holds the lease, unless it ran out.
    pub(crate) owner: Option<String>,
    /// Why it stands still, if it does.
    pub(crate) stopped: Option<Stopped>,
}

/// A database that holds views. Times are the database's own, never the process's.
#[async_trait]
pub(crate) trait Store: Ranges + Generations + DeadLetters + Rebuilds + Upkeep + Changes {
    /// The documents with these keys that exist, with their revision.
    async fn stored(
        &self,
        table: &Table,
        keys: &[String],
    ) -> Result<HashMap<String, (String, Revision)>, sqlx::Error>;

    /// Writes a page and renews the leases of its ranges. `false`, and nothing is written, when one of them was lost or
    /// the generation is not to go on.
    async fn commit(&self, commit: &Commit<'_>) -> Result<bool, sqlx::Error>;

    /// Whether a document could be written; nothing is.
    async fn probe(&self, table: &Table, document: &Changed) -> Result<(), sqlx::Error>;

    /// Reads documents of a generation, the position that they correspond to, and which generation a program is to serve
    /// that has the projection in `version`.
    async fn select(
        &self,
        generation: i64,
        table: &Table,
        version: u32,
        selection: &Selection,
    ) -> Result<Selected, sqlx::Error>;

    /// How far the ranges of these generations are.
    async fn progress(&self, generations: &[i64]) -> Result<Vec<Progress>, sqlx::Error>;
}

/// The store of a database.
pub(crate) fn store(database: Database) -> Arc<dyn Store> {
    match database {
        Database::Postgres(pool) => Arc::new(crate::postgres::Postgres(pool)),
        Database::Sqlite(file) => Arc::new(crate::sqlite::Sqlite(file)),
    }
}

/// What [`Store::progress`] reads: generation, position, owner, and why and where it stands still.
pub(crate) type ProgressRow = (i64, i64, Option<String>, Option<String>, Option<i64>);

impl From<ProgressRow> for Progress {
    fn from((generation, position, owner, reason, stopped): ProgressRow) -> Self {
        let stopped = reason
            .zip(stopped)
            .map(|(reason, position)| Stopped { position: Position::from_i64(position), reason });
        Self { generation, position: Position::from_i64(position), owner, stopped }
    }
}
