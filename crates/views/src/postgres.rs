//! Views on PostgreSQL.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use daybook_core::{Changed, Field, FieldKind, Position, Revision};
use daybook_log::Checkpoint;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::criteria::FieldValue;
use crate::select::{self, Dialect, SelectedRow, select_sql};
use crate::status::Stopped;
use crate::store::{Lease, Progress, ProgressRow, Selected, Selection, Store};
use crate::table::{Index, Table};

pub(crate) struct Postgres(pub(crate) PgPool);

/// Held while a view's table is made: two `CREATE TABLE IF NOT EXISTS` at once can both fail.
const CREATING: i64 = 0x6461_7962_6f6f_6b76;

/// The statements that make a view's table. Keys and texts sort by their bytes, as they do everywhere in Daybook.
fn create_sql(table: &Table) -> Vec<String> {
    let Table { name, .. } = table;
    let columns: String = table.fields.iter().map(column).collect();
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} (key text COLLATE \"C\" PRIMARY KEY, body jsonb NOT NULL, \
         position bigint NOT NULL, revision bigint NOT NULL{columns})"
    );
    std::iter::once(create).chain(table.indexes.iter().map(|index| index_sql(name, index))).collect()
}

/// An index. Nothing comes first in it, as it does on SQLite, so that lists are in the same order on both.
fn index_sql(table: &str, index: &Index) -> String {
    let columns: String = index.columns.iter().map(|column| format!("\"{column}\" NULLS FIRST, ")).collect();
    format!("CREATE INDEX IF NOT EXISTS {} ON {table} ({columns}key)", index.name)
}

/// A field's column. A value of another type than the declared one is refused, and a time that would not sort as text.
fn column(field: &Field) -> String {
    let (name, path) = (field.name, field.path.join(","));
    let (sql_type, json_type, cast) = match field.kind {
        FieldKind::Text | FieldKind::Time => ("text COLLATE \"C\"", "string", ""),
        FieldKind::Integer => ("bigint", "number", "::bigint"),
        FieldKind::Bool => ("boolean", "boolean", "::boolean"),
    };
    let form = match field.kind {
        FieldKind::Time => format!(" AND body #>> '{{{path}}}' LIKE '____-__-__T__:__:__.______Z'"),
        FieldKind::Text | FieldKind::Integer | FieldKind::Bool => String::new(),
    };
    format!(
        ", \"{name}\" {sql_type} GENERATED ALWAYS AS ((body #>> '{{{path}}}'){cast}) STORED \
         CHECK (jsonb_typeof(body #> '{{{path}}}') IN ('{json_type}', 'null'){form})"
    )
}

/// Checkpoint and documents in one statement, and so in one transaction and one round trip. Where the checkpoint does
/// not move, nothing is written.
///
/// The statement's snapshot may be older than the lock on the checkpoint that it waited for. If anybody had written
/// documents in between, the checkpoint would not be where it is required to be.
fn commit_sql(Table { name, .. }: &Table) -> String {
    format!(
        "WITH moved AS (\
             UPDATE projection_checkpoints \
             SET log_id = $5, epoch = $6, position = $7, event_id = $8, \
                 lease_until = clock_timestamp() + make_interval(secs => $9), updated_at = clock_timestamp() \
             WHERE projection = $1 AND version = $2 AND slice_from = 0 AND slice_to = 1024 \
               AND lease_epoch = $3 AND position = $4 \
             RETURNING position\
         ), written AS (\
             INSERT INTO {name} (key, body, position, revision) \
             SELECT key, body::jsonb, position, revision \
             FROM unnest($10::text[], $11::text[], $12::bigint[], $13::bigint[]) \
               AS new (key, body, position, revision) \
             WHERE EXISTS (SELECT FROM moved) \
             ON CONFLICT (key) DO UPDATE \
             SET body = excluded.body, position = excluded.position, revision = excluded.revision\
         ), removed AS (\
             DELETE FROM {name} WHERE key = ANY($14::text[]) AND EXISTS (SELECT FROM moved)\
         ) \
         SELECT count(*) FROM moved"
    )
}

/// Every write is a single statement: a future that is dropped while it awaits an explicit `BEGIN` would leave the
/// transaction open on a connection that goes back to the pool.
#[async_trait]
impl Store for Postgres {
    async fn columns(&self, table: &Table) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT attname::text FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        )
        .bind(&table.name)
        .fetch_all(&self.0)
        .await
    }

    async fn create(&self, table: &Table) -> Result<(), sqlx::Error> {
        // Sent as one, the statements are one transaction.
        let statements = create_sql(table).join("; ");
        let sql = format!("SELECT pg_advisory_xact_lock({CREATING}); {statements}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.0).await?;
        Ok(())
    }

    async fn acquire(
        &self,
        table: &Table,
        owner: &str,
        lease: Duration,
        start: &Checkpoint,
    ) -> Result<Option<Lease>, sqlx::Error> {
        let row: Option<(i64, Uuid, i64, i64, Uuid)> = sqlx::query_as(
            "INSERT INTO projection_checkpoints AS held \
             (projection, version, log_id, epoch, position, event_id, lease_owner, lease_epoch, lease_until, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, clock_timestamp() + make_interval(secs => $8), clock_timestamp()) \
             ON CONFLICT (projection, version, slice_from, slice_to) DO UPDATE \
             SET lease_owner = excluded.lease_owner, lease_epoch = held.lease_epoch + 1, \
                 lease_until = excluded.lease_until, stopped_reason = NULL, stopped_position = NULL \
             WHERE held.lease_until IS NULL OR held.lease_until < clock_timestamp() \
                OR held.lease_owner = excluded.lease_owner \
             RETURNING lease_epoch, log_id, epoch, position, event_id",
        )
        .bind(table.projection)
        .bind(i64::from(table.version))
        .bind(start.log_id)
        .bind(start.epoch as i64)
        .bind(start.position.to_i64())
        .bind(start.event_id)
        .bind(owner)
        .bind(lease.as_secs_f64())
        .fetch_optional(&self.0)
        .await?;
        Ok(row.map(|(lease_epoch, log_id, epoch, position, event_id)| Lease {
            epoch: lease_epoch,
            checkpoint: Checkpoint {
                log_id,
                epoch: epoch as u64,
                position: Position::from_i64(position),
                event_id,
            },
        }))
    }

    async fn renew(&self, owner: &str, lease: Duration) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE projection_checkpoints SET lease_until = clock_timestamp() + make_interval(secs => $2) \
             WHERE lease_owner = $1",
        )
        .bind(owner)
        .bind(lease.as_secs_f64())
        .execute(&self.0)
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
        .execute(&self.0)
        .await?;
        Ok(())
    }

    async fn stored(
        &self,
        table: &Table,
        keys: &[String],
    ) -> Result<HashMap<String, (String, Revision)>, sqlx::Error> {
        let sql = format!("SELECT key, body::text, revision FROM {} WHERE key = ANY($1)", table.name);
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(keys).fetch_all(&self.0).await?;
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
        let (mut keys, mut bodies, mut positions, mut revisions) = (vec![], vec![], vec![], vec![]);
        let mut gone = vec![];
        for document in changed {
            match &document.body {
                Some(body) => {
                    keys.push(document.key.as_str());
                    bodies.push(body.as_str());
                    positions.push(document.position.to_i64());
                    revisions.push(document.revision.to_i64());
                }
                None => gone.push(document.key.as_str()),
            }
        }
        let moved: i64 = sqlx::query_scalar(AssertSqlSafe(commit_sql(table)))
            .bind(table.projection)
            .bind(i64::from(table.version))
            .bind(epoch)
            .bind(from.to_i64())
            .bind(to.log_id)
            .bind(to.epoch as i64)
            .bind(to.position.to_i64())
            .bind(to.event_id)
            .bind(lease.as_secs_f64())
            .bind(keys)
            .bind(bodies)
            .bind(positions)
            .bind(revisions)
            .bind(gone)
            .fetch_one(&self.0)
            .await?;
        Ok(moved == 1)
    }

    async fn select(&self, table: &Table, selection: &Selection) -> Result<Selected, sqlx::Error> {
        let (sql, parameters) = select_sql(Dialect::Postgres, table, selection);
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
        Ok(select::selected(selection, query.fetch_all(&self.0).await?))
    }

    async fn progress(&self) -> Result<Vec<Progress>, sqlx::Error> {
        let rows: Vec<ProgressRow> = sqlx::query_as(
            "SELECT projection, version, position, \
                    CASE WHEN lease_until >= clock_timestamp() THEN lease_owner END, \
                    stopped_reason, stopped_position \
             FROM projection_checkpoints",
        )
        .fetch_all(&self.0)
        .await?;
        Ok(rows.into_iter().map(Progress::from).collect())
    }
}
