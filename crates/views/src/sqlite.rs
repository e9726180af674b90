//! Views in a SQLite file.

mod dead_letters;
mod ranges;
mod rebuilds;

use std::collections::HashMap;

use async_trait::async_trait;
use daybook_core::{Changed, Field, FieldKind, Revision};
use daybook_database::SqliteFile;
use sqlx::{AssertSqlSafe, SqliteConnection, SqlitePool};

use crate::criteria::FieldValue;
use crate::select::{self, Dialect, SelectedRow, select_sql};
use crate::store::{Commit, Progress, ProgressRow, Selected, Selection, Store};
use crate::table::{Index, Table};

pub(crate) struct Sqlite(pub(crate) SqliteFile);

/// The most documents that are written by one statement.
const DOCUMENTS: usize = 5_000;

impl Sqlite {
    pub(crate) fn reader(&self) -> &SqlitePool {
        self.0.readers()
    }

    pub(crate) fn writer(&self) -> &SqlitePool {
        self.0.writer()
    }
}

/// The statements that make a generation's table, or only that which a `bare` one needs to be filled. A document that was
/// removed has no body.
pub(crate) fn create_sql(table: &Table, bare: bool) -> Vec<String> {
    let Table { name, .. } = table;
    let columns: String = table.fields.iter().map(column).collect();
    let create = format!(
        "CREATE TABLE {name} (key TEXT NOT NULL PRIMARY KEY, body TEXT, position INTEGER NOT NULL, \
         revision INTEGER NOT NULL{columns}{}) STRICT",
        table.limits()
    );
    let indexes = if bare { Vec::new() } else { index_sql(table) };
    std::iter::once(create).chain(indexes).collect()
}

/// The statements that make the indexes of a generation's table.
fn index_sql(table: &Table) -> Vec<String> {
    let index = |index: &Index| {
        let columns: String = index.iter().map(|column| format!("\"{column}\", ")).collect();
        format!("CREATE INDEX IF NOT EXISTS {} ON {} ({columns}key)", table.index_name(index), table.name)
    };
    table.indexes.iter().map(index).collect()
}

/// A field's column. It takes no room beside its index. A value of another type than the declared one is refused, and
/// a time that would not sort as text.
fn column(field: &Field) -> String {
    let (name, path) = (field.name, field.path.join("."));
    let (sql_type, json_types) = match field.kind {
        FieldKind::Text | FieldKind::Time => ("TEXT", "'text'"),
        FieldKind::Integer => ("INTEGER", "'integer'"),
        FieldKind::Bool => ("INTEGER", "'true', 'false'"),
    };
    let form = match field.kind {
        FieldKind::Time => format!(" AND body ->> '$.{path}' LIKE '____-__-__T__:__:__.______Z'"),
        FieldKind::Text | FieldKind::Integer | FieldKind::Bool => String::new(),
    };
    format!(
        ", \"{name}\" {sql_type} GENERATED ALWAYS AS (body ->> '$.{path}') VIRTUAL \
         CHECK (json_type(body, '$.{path}') IN ({json_types}, 'null'){form})"
    )
}

#[async_trait]
impl Store for Sqlite {
    async fn stored(
        &self,
        table: &Table,
        keys: &[String],
    ) -> Result<HashMap<String, (String, Revision)>, sqlx::Error> {
        let sql = format!(
            "SELECT key, body, revision FROM {} WHERE key IN (SELECT value FROM json_each($1)) AND body IS NOT NULL",
            table.name
        );
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(json(keys)?).fetch_all(self.0.readers()).await?;
        Ok(rows.into_iter().map(|(key, body, at)| (key, (body, Revision::from_i64(at)))).collect())
    }

    async fn commit(&self, commit: &Commit<'_>) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let is_held = write_commit(&mut transaction, commit).await?;
        match is_held {
            true => {
                transaction.commit().await?;
                commit.log_parked();
            }
            false => transaction.rollback().await?,
        }
        Ok(is_held)
    }

    async fn probe(&self, table: &Table, document: &Changed) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let written = write(&mut transaction, table, std::slice::from_ref(document)).await;
        transaction.rollback().await?;
        written
    }

    async fn select(
        &self,
        generation: i64,
        table: &Table,
        version: u32,
        selection: &Selection,
    ) -> Result<Selected, sqlx::Error> {
        let (sql, parameters) = select_sql(Dialect::Sqlite, table, selection);
        let mut query = sqlx::query_as::<_, SelectedRow>(AssertSqlSafe(sql))
            .bind(generation)
            .bind(table.projection)
            .bind(i64::from(version));
        for parameter in parameters {
            query = match parameter {
                FieldValue::Text(text) => query.bind(text),
                FieldValue::Integer(integer) => query.bind(integer),
                FieldValue::Bool(yes) => query.bind(yes),
            };
        }
        Ok(select::selected(selection, query.fetch_all(self.0.readers()).await?))
    }

    async fn progress(&self, generations: &[i64]) -> Result<Vec<Progress>, sqlx::Error> {
        let rows: Vec<ProgressRow> = sqlx::query_as(
            "SELECT generation, position, \
                    CASE WHEN lease_until >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') THEN lease_owner END, \
                    stopped_reason, stopped_position \
             FROM view_ranges WHERE generation IN (SELECT value FROM json_each($1)) ORDER BY position, slice_from",
        )
        .bind(json(generations)?)
        .fetch_all(self.0.readers())
        .await?;
        Ok(rows.into_iter().map(Progress::from).collect())
    }
}

/// Writes a commit; `false` when that cannot be, and then nothing of it may stay.
async fn write_commit(connection: &mut SqliteConnection, commit: &Commit<'_>) -> Result<bool, sqlx::Error> {
    if !move_checkpoints(connection, commit).await? {
        return Ok(false);
    }
    write(connection, commit.table, commit.changed).await?;
    self::dead_letters::write(connection, commit).await?;
    if commit.announced && !commit.changed.is_empty() {
        let keys: Vec<_> = commit.changed.iter().map(|document| document.key.as_str()).collect();
        sqlx::query(
            "INSERT INTO view_changes (generation, position_to, slice_from, keys, committed_at) \
             VALUES ($1, $2, $3, $4, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
        )
        .bind(commit.generation)
        .bind(commit.to.position.to_i64())
        .bind(commit.ranges.first().map_or(0, |claim| i32::from(claim.slices.from)))
        .bind(json(&keys)?)
        .execute(connection)
        .await?;
    }
    Ok(true)
}

/// Moves the checkpoints of a commit's ranges and renews their leases; `false` when that cannot be.
async fn move_checkpoints(connection: &mut SqliteConnection, commit: &Commit<'_>) -> Result<bool, sqlx::Error> {
    let Commit { to, .. } = commit;
    for claim in commit.ranges {
        let moved = sqlx::query(
            "UPDATE view_ranges \
             SET log_id = $6, epoch = $7, position = $8, event_id = $9, \
                 lease_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || $10 || ' seconds'), \
                 updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
             WHERE generation = $1 AND slice_from = $2 AND slice_to = $3 AND lease_epoch = $4 AND position = $5 \
               AND EXISTS (SELECT 1 FROM view_generations WHERE generation = $1 AND NOT paused \
                 AND phase IN ('replay', 'catch_up', 'verify', 'held', 'live', 'retired'))",
        )
        .bind(commit.generation)
        .bind(i32::from(claim.slices.from))
        .bind(i32::from(claim.slices.to))
        .bind(claim.lease_epoch)
        .bind(commit.from.to_i64())
        .bind(to.log_id.hyphenated())
        .bind(to.epoch as i64)
        .bind(to.position.to_i64())
        .bind(to.event_id.hyphenated())
        .bind(commit.lease.as_secs_f64())
        .execute(&mut *connection)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes documents. One that was removed has no body.
async fn write(connection: &mut SqliteConnection, table: &Table, changed: &[Changed]) -> Result<(), sqlx::Error> {
    // In pieces: each is one parameter.
    for piece in changed.chunks(DOCUMENTS) {
        let rows: Vec<_> = piece
            .iter()
            .map(|Changed { key, body, position, revision }| {
                (key, body.as_deref(), position.to_i64(), revision.to_i64())
            })
            .collect();
        // `WHERE TRUE` tells the parser that ON CONFLICT is no join's ON.
        let sql = format!(
            "INSERT INTO {} (key, body, position, revision) \
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1) WHERE TRUE \
             ON CONFLICT (key) DO UPDATE \
             SET body = excluded.body, position = excluded.position, revision = excluded.revision",
            table.name
        );
        sqlx::query(AssertSqlSafe(sql)).bind(json(&rows)?).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Many values as one parameter.
fn json<T: serde::Serialize + ?Sized>(values: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
