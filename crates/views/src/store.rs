//! What the runtime asks of a database: the boundary between the logic here and the SQL of each backend.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use daybook_core::{Changed, Position, Revision};
use daybook_database::Database;
use daybook_log::Checkpoint;

use crate::criteria::{FieldValue, Filter, Sort};
use crate::query::Cursor;
use crate::status::Stopped;
use crate::table::Table;

/// The right to write a view, until somebody else is given a later epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// Raised with each new holder; every write requires it.
    pub(crate) epoch: i64,
    /// How far the view had come when the lease was given.
    pub(crate) checkpoint: Checkpoint,
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

/// A checkpoint as others see it.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) projection: String,
    pub(crate) version: i64,
    pub(crate) position: Position,
    /// Who holds the lease, unless it ran out.
    pub(crate) owner: Option<String>,
    /// Why it stands still, if it does.
    pub(crate) stopped: Option<Stopped>,
}

/// A database that holds views. Times are the database's own, never the process's.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// The columns of the view's table; none when there is no table yet.
    async fn columns(&self, table: &Table) -> Result<Vec<String>, sqlx::Error>;

    /// Makes the view's table, unless it is there. Safe when several processes do so at once.
    async fn create(&self, table: &Table) -> Result<(), sqlx::Error>;

    /// Takes the lease for `owner`, with the next epoch, when it is free, ran out, or is the owner's own. A view that
    /// was never written begins at `start`. What stopped it before is forgotten: it is tried anew.
    async fn acquire(
        &self,
        table: &Table,
        owner: &str,
        lease: Duration,
        start: &Checkpoint,
    ) -> Result<Option<Lease>, sqlx::Error>;

    /// Renews all leases that `owner` holds.
    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), sqlx::Error>;

    /// Gives the lease back, if it is still held. `stopped` says why the view does not go on.
    async fn release(&self, table: &Table, epoch: i64, stopped: Option<&Stopped>) -> Result<(), sqlx::Error>;

    /// The documents with these keys that exist, with their revision.
    async fn stored(
        &self,
        table: &Table,
        keys: &[String],
    ) -> Result<HashMap<String, (String, Revision)>, sqlx::Error>;

    /// Writes the changed documents, moves the checkpoint from position `from` to `to` and renews the lease, in one
    /// transaction. `false`, and nothing is written, when the lease was lost.
    async fn commit(
        &self,
        table: &Table,
        epoch: i64,
        from: Position,
        to: &Checkpoint,
        changed: &[Changed],
        lease: Duration,
    ) -> Result<bool, sqlx::Error>;

    /// Reads documents and the position that they correspond to.
    async fn select(&self, table: &Table, selection: &Selection) -> Result<Selected, sqlx::Error>;

    /// All checkpoints.
    async fn progress(&self) -> Result<Vec<Progress>, sqlx::Error>;
}

/// The store of a database.
pub(crate) fn store(database: Database) -> Arc<dyn Store> {
    match database {
        Database::Postgres(pool) => Arc::new(crate::postgres::Postgres(pool)),
        Database::Sqlite(file) => Arc::new(crate::sqlite::Sqlite(file)),
    }
}

/// What [`Store::progress`] reads: projection, version, position, owner, and why and where it stands still.
pub(crate) type ProgressRow = (String, i64, i64, Option<String>, Option<String>, Option<i64>);

impl From<ProgressRow> for Progress {
    fn from((projection, version, position, owner, reason, stopped): ProgressRow) -> Self {
        let stopped = reason
            .zip(stopped)
            .map(|(reason, position)| Stopped { position: Position::from_i64(position), reason });
        Self { projection, version, position: Position::from_i64(position), owner, stopped }
    }
}
