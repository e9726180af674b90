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

/// Which documents to read; every condition that is given must hold. In the order of their keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The document with this key.
    pub(crate) key: Option<String>,
    /// Those of this owner; none when the view has no owners.
    pub(crate) owner: Option<String>,
    /// Those with a later key.
    pub(crate) after: Option<String>,
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

/// A selection's statement and its parameters behind the first two, which are the projection and its version. One
/// statement is one snapshot: documents and position always fit.
///
/// `body` is the expression for a document's JSON as text. The position is that of the slowest range of slices.
pub(crate) fn select_sql<'a>(table: &Table, selection: &'a Selection, body: &str) -> (String, Vec<&'a str>) {
    let mut conditions = vec!["TRUE".to_owned()];
    let mut parameters = Vec::new();
    let mut parameter = |value: &'a String| {
        parameters.push(value.as_str());
        parameters.len() + 2
    };
    if let Some(key) = &selection.key {
        conditions.push(format!("key = ${}", parameter(key)));
    }
    if let Some(after) = &selection.after {
        conditions.push(format!("key > ${}", parameter(after)));
    }
    match (&selection.owner, table.owner) {
        (Some(owner), Some(column)) => conditions.push(format!("\"{column}\" = ${}", parameter(owner))),
        (Some(_), None) => conditions.push("FALSE".to_owned()),
        (None, _) => {}
    }
    let sql = format!(
        "SELECT reached.position, d.key, d.body, d.position, d.revision \
         FROM (SELECT coalesce(min(position), 0) AS position FROM projection_checkpoints \
               WHERE projection = $1 AND version = $2) AS reached \
         LEFT JOIN (SELECT key, {body} AS body, position, revision FROM {} \
                    WHERE {} ORDER BY key LIMIT {}) AS d ON TRUE \
         ORDER BY d.key",
        table.name,
        conditions.join(" AND "),
        selection.limit,
    );
    (sql, parameters)
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

/// A row of [`select_sql`]: where there is no document, only the position.
pub(crate) type SelectedRow = (i64, Option<String>, Option<String>, Option<i64>, Option<i64>);

/// Puts the rows of [`select_sql`] together.
pub(crate) fn selected(rows: Vec<SelectedRow>) -> Selected {
    let position = Position::from_i64(rows.first().map_or(0, |row| row.0));
    let rows = rows
        .into_iter()
        .filter_map(|(_, key, body, position, revision)| {
            Some(Row {
                key: key?,
                body: body?,
                position: Position::from_i64(position?),
                revision: Revision::from_i64(revision?),
            })
        })
        .collect();
    Selected { position, rows }
}
