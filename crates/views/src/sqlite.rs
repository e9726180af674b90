//! Views in a SQLite file.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use daybook_core::{Changed, Field, FieldKind, Position, Revision};
use daybook_database::SqliteFile;
use daybook_log::Checkpoint;
use sqlx::AssertSqlSafe;
use uuid::fmt::Hyphenated;

use crate::criteria::FieldValue;
use crate::select::{self, Dialect, SelectedRow, select_sql};
use crate::status::Stopped;
use crate::store::{Lease, Progress, ProgressRow, Selected, Selection, Store};
use crate::table::{Index, Table};

pub(crate) struct Sqlite(pub(crate) SqliteFile);

/// The statements that make a view's table.
fn create_sql(table: &Table) -> Vec<String> {
    let Table { name, .. } = table;
    let columns: String = table.fields.iter().map(column).collect();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} (key TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, \
         position INTEGER NOT NULL, revision INTEGER NOT NULL{columns}) STRICT"
    );
    std::iter::once(create).chain(table.indexes.iter().map(|index| index_sql(name, index))).collect()
}

/// An index.
fn index_sql(table: &str, index: &Index) -> String {
    let columns: String = index.columns.iter().map(|column| format!("\"{column}\", ")).collect();
    format!("CREATE INDEX IF NOT EXISTS {} ON {table} ({columns}key)", index.name)
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

/// A lease's duration as SQLite adds it to a time.
fn seconds(lease: Duration) -> String {
    format!("+{:.3} seconds", lease.as_secs_f64())
}

#[async_trait]
impl Store for Sqlite {
    async fn columns(&self, table: &Table) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT name FROM pragma_table_xinfo($1)")
            .bind(&table.name)
            .fetch_all(self.0.readers())
            .await
    }

    async fn create(&self, table: &Table) -> Result<(), sqlx::Error> {
        let mut transaction = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        for statement in create_sql(table) {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    async fn acquire(
        &self,
        table: &Table,
        owner: &str,
        lease: Duration,
        start: &Checkpoint,
    ) -> Result<Option<Lease>, sqlx::Error> {
        let row: Option<(i64, Hyphenated, i64, i64, Hyphenated)> = sqlx::query_as(
            "INSERT INTO projection_checkpoints AS held \
             (projection, version, log_id, epoch, position, event_id, lease_owner, lease_epoch, lease_until, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', $8), \
                     strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) \
             ON CONFLICT (projection, version, slice_from, slice_to) DO UPDATE \
             SET lease_owner = excluded.lease_owner, lease_epoch = held.lease_epoch + 1, \
                 lease_until = excluded.lease_until, stopped_reason = NULL, stopped_position = NULL \
             WHERE held.lease_until IS NULL OR held.lease_until < strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
                OR held.lease_owner = excluded.lease_owner \
             RETURNING lease_epoch, log_id, epoch, position, event_id",
        )
        .bind(table.projection)
        .bind(i64::from(table.version))
        .bind(start.log_id.hyphenated())
        .bind(start.epoch as i64)
        .bind(start.position.to_i64())
        .bind(start.event_id.hyphenated())
        .bind(owner)
        .bind(seconds(lease))
        .fetch_optional(self.0.writer())
        .await?;
        Ok(row.map(|(lease_epoch, log_id, epoch, position, event_id)| Lease {
            epoch: lease_epoch,
            checkpoint: Checkpoint {
                log_id: log_id.into(),
                epoch: epoch as u64,
                position: Position::from_i64(position),
                event_id: event_id.into(),
            },
        }))
    }

    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE projection_checkpoints SET lease_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', $2) \
             WHERE lease_owner = $1",
        )
        .bind(owner)
        .bind(seconds(lease))
        .execute(self.0.writer())
        .await?;
        Ok(())
    }

    async fn release(&self, table: &Table, epoch: i64, stopped: Option<&Stopped>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE projection_checkpoints \
             SET lease_owner = NULL, lease_until = NULL, stopped_reason = $4, stopped_position = $5 \
             WHERE projection = $1 AND version = $2 AND slice_from = 0 AND slice_to = 1024 AND lease_epoch = $3",
        )
        .bind(table.projection)
        .bind(i64::from(table.version))
        .bind(epoch)
        .bind(stopped.map(|stopped| stopped.reason.as_str()))
        .bind(stopped.map(|stopped| stopped.position.to_i64()))
        .execute(self.0.writer())
        .await?;
        Ok(())
    }

    async fn stored(
        &self,
        table: &Table,
        keys: &[String],
    ) -> Result<HashMap<String, (String, Revision)>, sqlx::Error> {
        let sql = format!(
            "SELECT key, body, revision FROM {} WHERE key IN (SELECT value FROM json_each($1))",
            table.name
        );
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(json(keys)?).fetch_all(self.0.readers()).await?;
        Ok(rows.into_iter().map(|(key, body, at)| (key, (body, Revision::from_i64(at)))).collect())
    }

    async fn commit(
        &self,
        table: &Table,
        epoch: i64,
        from: Position,
        to: &Checkpoint,
        changed: &[Changed],
        lease: Duration,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let moved = sqlx::query(
            "UPDATE projection_checkpoints \
             SET log_id = $5, epoch = $6, position = $7, event_id = $8, \
                 lease_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', $9), \
                 updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
             WHERE projection = $1 AND version = $2 AND slice_from = 0 AND slice_to = 1024 \
               AND lease_epoch = $3 AND position = $4",
        )
        .bind(table.projection)
        .bind(i64::from(table.version))
        .bind(epoch)
        .bind(from.to_i64())
        .bind(to.log_id.hyphenated())
        .bind(to.epoch as i64)
        .bind(to.position.to_i64())
        .bind(to.event_id.hyphenated())
        .bind(seconds(lease))
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let (mut present, mut gone) = (vec![], vec![]);
        for document in changed {
            match &document.body {
                Some(body) => present.push((
                    document.key.as_str(),
                    body.as_str(),
                    document.position.to_i64(),
                    document.revision.to_i64(),
                )),
                None => gone.push(document.key.as_str()),
            }
        }
        if !present.is_empty() {
            // `WHERE TRUE` tells the parser that ON CONFLICT is no join's ON.
            let sql = format!(
                "INSERT INTO {} (key, body, position, revision) \
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1) WHERE TRUE \
                 ON CONFLICT (key) DO UPDATE \
                 SET body = excluded.body, position = excluded.position, revision = excluded.revision",
                table.name
            );
            sqlx::query(AssertSqlSafe(sql)).bind(json(&present)?).execute(&mut *transaction).await?;
        }
        if !gone.is_empty() {
            let sql = format!("DELETE FROM {} WHERE key IN (SELECT value FROM json_each($1))", table.name);
            sqlx::query(AssertSqlSafe(sql)).bind(json(&gone)?).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn select(&self, table: &Table, selection: &Selection) -> Result<Selected, sqlx::Error> {
        let (sql, parameters) = select_sql(Dialect::Sqlite, table, selection);
        let mut query = sqlx::query_as::<_, SelectedRow>(AssertSqlSafe(sql))
            .bind(table.projection)
            .bind(i64::from(table.version));
        for parameter in parameters {
            query = match parameter {
                FieldValue::Text(text) => query.bind(text),
                FieldValue::Integer(integer) => query.bind(integer),
                FieldValue::Bool(yes) => query.bind(yes),
            };
        }
        Ok(select::selected(selection, query.fetch_all(self.0.readers()).await?))
    }

    async fn progress(&self) -> Result<Vec<Progress>, sqlx::Error> {
        let rows: Vec<ProgressRow> = sqlx::query_as(
            "SELECT projection, version, position, \
                    CASE WHEN lease_until >= strftime('%Y-%m-%dT%H:%M:%fZ', 'now') THEN lease_owner END, \
                    stopped_reason, stopped_position \
             FROM projection_checkpoints",
        )
        .fetch_all(self.0.readers())
        .await?;
        Ok(rows.into_iter().map(Progress::from).collect())
    }
}

/// Many values as one parameter.
fn json<T: serde::Serialize + ?Sized>(values: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(values).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
