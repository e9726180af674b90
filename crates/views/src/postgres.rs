//! Views on PostgreSQL.

mod ranges;
mod rebuilds;

use std::collections::HashMap;

use async_trait::async_trait;
use daybook_core::{Changed, Field, FieldKind, Revision};
use sqlx::{AssertSqlSafe, PgPool};

use crate::criteria::FieldValue;
use crate::ranges::Claim;
use crate::select::{self, Dialect, SelectedRow, select_sql};
use crate::store::{Commit, Progress, ProgressRow, Selected, Selection, Store};
use crate::table::{Index, Table};

pub(crate) struct Postgres(pub(crate) PgPool);

impl Postgres {
    pub(crate) fn reader(&self) -> &PgPool {
        &self.0
    }

    pub(crate) fn writer(&self) -> &PgPool {
        &self.0
    }
}

/// The statements that make a generation's table, or only that which a `bare` one needs to be filled. Keys and texts sort
/// by their bytes, as they do everywhere in Daybook. A document that was removed has no body.
pub(crate) fn create_sql(table: &Table, bare: bool) -> Vec<String> {
    let Table { name, .. } = table;
    let columns: String = table.fields.iter().map(column).collect();
    let create = format!(
        "CREATE TABLE {name} (key text COLLATE \"C\" NOT NULL, body jsonb, position bigint NOT NULL, \
         revision bigint NOT NULL{columns}{})",
        table.limits()
    );
    let indexes = if bare { Vec::new() } else { index_sql(table) };
    std::iter::once(create).chain(indexes).collect()
}

/// The statements that make the key and the indexes of a generation's table.
fn index_sql(table: &Table) -> Vec<String> {
    let Table { name, .. } = table;
    let key = format!("ALTER TABLE {name} ADD PRIMARY KEY (key)");
    let index = |index: &Index| {
        // Nothing comes first in it, as it does on SQLite, so that lists are in the same order on both.
        let columns: String = index.iter().map(|column| format!("\"{column}\" NULLS FIRST, ")).collect();
        format!("CREATE INDEX IF NOT EXISTS {} ON {name} ({columns}key)", table.index_name(index))
    };
    std::iter::once(key).chain(table.indexes.iter().map(index)).collect()
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

/// The part of [`commit_sql`] that writes documents: the table has to have a key.
fn upsert_sql(name: &str) -> String {
    format!(
        ", written AS (\
             INSERT INTO {name} (key, body, position, revision) \
             SELECT key, body::jsonb, position, revision \
             FROM unnest($11::text[], $12::text[], $13::bigint[], $14::bigint[]) \
               AS new (key, body, position, revision) \
             WHERE (SELECT is_held FROM every) \
             ON CONFLICT (key) DO UPDATE \
             SET body = excluded.body, position = excluded.position, revision = excluded.revision\
         )"
    )
}

/// Checkpoints, documents and dead letters in one statement, and so in one transaction and one round trip. Where not all
/// checkpoints can move, nothing is written.
///
/// The statement's snapshot may be older than the locks on the checkpoints that it waited for. If anybody had written
/// documents in between, they would not be where they are required to be.
fn commit_sql(Table { name, .. }: &Table, written: bool) -> String {
    let written = match written {
        true => upsert_sql(name),
        false => String::new(),
    };
    format!(
        "WITH held AS (\
             SELECT FROM view_ranges AS range \
             JOIN unnest($2::int[], $3::int[], $4::bigint[]) AS mine (slice_from, slice_to, lease_epoch) \
               ON range.slice_from = mine.slice_from AND range.slice_to = mine.slice_to \
                 AND range.lease_epoch = mine.lease_epoch \
             WHERE range.generation = $1 AND range.position = $5 \
               AND EXISTS (SELECT FROM view_generations WHERE generation = $1 AND NOT paused \
                 AND phase IN ('replay', 'catch_up', 'verify', 'held', 'live', 'retired')) \
             ORDER BY range.slice_from FOR UPDATE OF range\
         ), every AS MATERIALIZED (\
             SELECT count(*) = cardinality($2::int[]) AS is_held FROM held\
         ), moved AS (\
             UPDATE view_ranges \
             SET log_id = $6, epoch = $7, position = $8, event_id = $9, \
                 lease_until = clock_timestamp() + make_interval(secs => $10), updated_at = clock_timestamp() \
             WHERE generation = $1 AND slice_from = ANY($2) AND (SELECT is_held FROM every)\
         ){written}, revived AS (\
             DELETE FROM view_dead_letters \
             WHERE generation = $1 AND key = $20 AND position <= $21 AND (SELECT is_held FROM every)\
         ), parked AS (\
             INSERT INTO view_dead_letters (generation, key, position, event_id, event_type, error, created_at) \
             SELECT $1, key, position, event_id, event_type, error, clock_timestamp() \
             FROM unnest($15::text[], $16::bigint[], $17::uuid[], $18::text[], $19::text[]) \
               AS new (key, position, event_id, event_type, error) \
             WHERE (SELECT is_held FROM every) \
             ON CONFLICT (generation, key, position) DO UPDATE SET error = excluded.error\
         ), announced AS (\
             INSERT INTO view_changes (generation, position_to, slice_from, keys, committed_at) \
             SELECT $1, $8, $2[1], $11, clock_timestamp() WHERE $22 AND (SELECT is_held FROM every)\
         ) \
         SELECT is_held FROM every"
    )
}

/// Runs [`commit_sql`]; whether all was as it has to be.
async fn execute_commit<'e>(
    executor: impl sqlx::PgExecutor<'e>,
    sql: String,
    commit: &Commit<'_>,
) -> Result<bool, sqlx::Error> {
    let Commit { ranges, changed, parked, to, .. } = commit;
    let of_ranges = |value: fn(&Claim) -> i32| ranges.iter().map(value).collect::<Vec<_>>();
    let fit: bool = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(commit.generation)
        .bind(of_ranges(|claim| claim.slices.from.into()))
        .bind(of_ranges(|claim| claim.slices.to.into()))
        .bind(ranges.iter().map(|claim| claim.lease_epoch).collect::<Vec<_>>())
        .bind(commit.from.to_i64())
        .bind(to.log_id)
        .bind(to.epoch as i64)
        .bind(to.position.to_i64())
        .bind(to.event_id)
        .bind(commit.lease.as_secs_f64())
        .bind(changed.iter().map(|document| document.key.as_str()).collect::<Vec<_>>())
        .bind(changed.iter().map(|document| document.body.as_deref()).collect::<Vec<_>>())
        .bind(changed.iter().map(|document| document.position.to_i64()).collect::<Vec<_>>())
        .bind(changed.iter().map(|document| document.revision.to_i64()).collect::<Vec<_>>())
        .bind(parked.iter().map(|letter| letter.key.as_str()).collect::<Vec<_>>())
        .bind(parked.iter().map(|letter| letter.position.to_i64()).collect::<Vec<_>>())
        .bind(parked.iter().map(|letter| letter.event_id).collect::<Vec<_>>())
        .bind(parked.iter().map(|letter| letter.event_type.as_str()).collect::<Vec<_>>())
        .bind(parked.iter().map(|letter| letter.error.as_deref()).collect::<Vec<_>>())
        .bind(commit.revived.map(|revived| revived.key.as_str()))
        .bind(commit.revived.map(|revived| revived.through.to_i64()))
        .bind(commit.announced && !changed.is_empty())
        .fetch_one(executor)
        .await?;
    Ok(fit)
}

/// Every write is a single statement: a future that is dropped while it awaits an explicit `BEGIN` would leave the
/// transaction open on a connection that goes back to the pool.
#[async_trait]
impl Store for Postgres {
    async fn stored(
        &self,
        table: &Table,
        keys: &[String],
    ) -> Result<HashMap<String, (String, Revision)>, sqlx::Error> {
        let sql = format!(
            "SELECT key, body::text, revision FROM {} WHERE key = ANY($1) AND body IS NOT NULL",
            table.name
        );
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(keys).fetch_all(&self.0).await?;
        Ok(rows.into_iter().map(|(key, body, at)| (key, (body, Revision::from_i64(at)))).collect())
    }

    async fn commit(&self, commit: &Commit<'_>) -> Result<bool, sqlx::Error> {
        let is_written = execute_commit(&self.0, commit_sql(commit.table, true), commit).await?;
        if is_written {
            commit.log_parked();
        }
        Ok(is_written)
    }

    async fn probe(&self, table: &Table, document: &Changed) -> Result<(), sqlx::Error> {
        let sql =
            format!("INSERT INTO {} (key, body, position, revision) VALUES ($1, $2::jsonb, 0, 0)", table.name);
        let sql = format!("{sql} ON CONFLICT (key) DO UPDATE SET body = excluded.body");
        let document = document.clone();
        self.in_transaction(move |mut transaction| {
            Box::pin(async move {
                let written = sqlx::query(AssertSqlSafe(sql))
                    .bind(&document.key)
                    .bind(&document.body)
                    .execute(&mut *transaction)
                    .await;
                transaction.rollback().await?;
                written.map(drop)
            })
        })
        .await
    }

    async fn select(
        &self,
        generation: i64,
        table: &Table,
        version: u32,
        selection: &Selection,
    ) -> Result<Selected, sqlx::Error> {
        let (sql, parameters) = select_sql(Dialect::Postgres, table, selection);
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
        Ok(select::selected(selection, query.fetch_all(&self.0).await?))
    }

    async fn progress(&self, generations: &[i64]) -> Result<Vec<Progress>, sqlx::Error> {
        let rows: Vec<ProgressRow> = sqlx::query_as(
            "SELECT generation, position, CASE WHEN lease_until >= clock_timestamp() THEN lease_owner END, \
                    stopped_reason, stopped_position \
             FROM view_ranges WHERE generation = ANY($1) ORDER BY position, slice_from",
        )
        .bind(generations)
        .fetch_all(&self.0)
        .await?;
        Ok(rows.into_iter().map(Progress::from).collect())
    }
}
