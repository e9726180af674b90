//! What the runtime asks of a database: the boundary between the logic here and the SQL of each backend.

pub(crate) mod dead_letters;
pub(crate) mod generations;
pub(crate) mod ranges;
pub(crate) mod rebuilds;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use daybook_core::{Changed, Position, Revision};
use daybook_database::Database;
use daybook_log::Checkpoint;

use crate::ranges::Claim;
use crate::status::Stopped;
use crate::table::Table;
use dead_letters::{DeadLetters, NewDeadLetter, Revived};
use generations::Generations;
use ranges::Ranges;
use rebuilds::Rebuilds;

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
pub(crate) trait Store: Ranges + Generations + DeadLetters + Rebuilds {
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

/// A selection's statement and its parameters behind the first three, which are the generation, the projection and the
/// program's version of it. One statement is one snapshot: documents, position and what is served always fit.
///
/// `body` is the expression for a document's JSON as text. The position is that of the slowest range of slices.
pub(crate) fn select_sql<'a>(table: &Table, selection: &'a Selection, body: &str) -> (String, Vec<&'a str>) {
    // What was removed is there without a body.
    let mut conditions = vec!["body IS NOT NULL".to_owned()];
    let mut parameters = Vec::new();
    let mut parameter = |value: &'a String| {
        parameters.push(value.as_str());
        parameters.len() + 3
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
        "SELECT reached.position, reached.served, d.key, d.body, d.position, d.revision \
         FROM (SELECT coalesce(min(position), 0) AS position, \
                      (SELECT generation FROM view_generations \
                       WHERE projection = $2 AND version <= $3 AND phase = 'live' \
                       ORDER BY version DESC LIMIT 1) AS served \
               FROM view_ranges WHERE generation = $1) AS reached \
         LEFT JOIN (SELECT key, {body} AS body, position, revision FROM {} \
                    WHERE {} ORDER BY key LIMIT {}) AS d ON TRUE \
         ORDER BY d.key",
        table.name,
        conditions.join(" AND "),
        selection.limit,
    );
    (sql, parameters)
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

/// A row of [`select_sql`]: where there is no document, only the position.
pub(crate) type SelectedRow = (i64, Option<i64>, Option<String>, Option<String>, Option<i64>, Option<i64>);

/// Puts the rows of [`select_sql`] together.
pub(crate) fn selected(rows: Vec<SelectedRow>) -> Selected {
    let position = Position::from_i64(rows.first().map_or(0, |row| row.0));
    let served = rows.first().and_then(|row| row.1);
    let rows = rows
        .into_iter()
        .filter_map(|(_, _, key, body, position, revision)| {
            Some(Row {
                key: key?,
                body: body?,
                position: Position::from_i64(position?),
                revision: Revision::from_i64(revision?),
            })
        })
        .collect();
    Selected { position, served, rows }
}
