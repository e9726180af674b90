//! Reading.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{JsonText, Missing, Position, RecordedEvent, Revision, StreamId};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::PostgresStore;
use super::writer::PostgresWriter;
use crate::group::Kept;
use crate::seen::Mark;
use crate::sql::{self, event_columns};
use crate::store::{Fed, KeptSnapshot, Page, Store, Writer};
use crate::stored::{self, Loading, damaged};
use crate::{Head, LogError};

/// The event in a row of [`event_columns`], whose types are known: that each value is of its own takes as long to check
/// as to read it. `json` comes as the text that was stored; asked for as JSON, it would be parsed.
fn event(row: &PgRow) -> Result<RecordedEvent, LogError> {
    let text = |column: usize| row.try_get_unchecked::<&str, _>(column);
    let position = row.try_get_unchecked(0)?;
    let schema_version: i32 = row.try_get_unchecked(5)?;
    Ok(RecordedEvent {
        position: Position::from_i64(position),
        stream: text(1)?.parse().map_err(|error| damaged(position, error))?,
        revision: Revision::from_i64(row.try_get_unchecked(2)?),
        id: row.try_get_unchecked(3)?,
        event_type: text(4)?.to_owned(),
        schema_version: schema_version.try_into().map_err(|error| damaged(position, error))?,
        recorded_at: row.try_get_unchecked(6)?,
        metadata: JsonText::new(text(7)?),
        payload: JsonText::new(text(8)?),
    })
}

#[async_trait]
impl Store for PostgresStore {
    async fn head(&self) -> Result<Head, LogError> {
        let (log_id, epoch, position, event_id): (Uuid, i64, i64, Option<Uuid>) =
            sqlx::query_as(sql::HEAD).fetch_one(&self.pool).await?;
        Ok(Head {
            log_id,
            epoch: epoch.unsigned_abs(),
            position: Position::from_i64(position),
            event_id: event_id.unwrap_or_default(),
        })
    }

    async fn event_id(&self, position: Position) -> Result<Option<Uuid>, LogError> {
        Ok(sqlx::query_scalar(sql::EVENT_ID).bind(position.to_i64()).fetch_optional(&self.pool).await?)
    }

    async fn events_at(&self, positions: &[Position]) -> Result<Vec<RecordedEvent>, LogError> {
        let positions: Vec<i64> = positions.iter().map(|position| position.to_i64()).collect();
        let sql = concat!("SELECT ", event_columns!(), " FROM events WHERE position = ANY($1) ORDER BY position");
        sqlx::query(sql).bind(positions).fetch_all(&self.pool).await?.iter().map(event).collect()
    }

    async fn page(&self, page: Page<'_>) -> Result<Vec<RecordedEvent>, LogError> {
        let [after, through, limit] = page.bounds();
        let mut query = sqlx::query(AssertSqlSafe(sql::page(page.filter))).bind(after).bind(through).bind(limit);
        for text in sql::page_texts(&page) {
            query = query.bind(text);
        }
        let mut connection = self.pool.acquire().await?;
        let mut rows = query.fetch(&mut *connection);
        let mut events = Vec::new();
        while let Some(row) = rows.try_next().await? {
            events.push(event(&row)?);
        }
        Ok(events)
    }

    async fn last_before(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        let position: i64 = sqlx::query_scalar(sql::LAST_BEFORE).bind(time).fetch_one(&self.pool).await?;
        Ok(Position::from_i64(position))
    }

    async fn load(&self, streams: Vec<Missing>) -> Result<Vec<Fed>, LogError> {
        let names: Vec<String> = streams.iter().map(|missing| missing.stream().to_string()).collect();
        let reached: Vec<i64> = streams.iter().map(|missing| missing.revision().to_i64()).collect();
        // OFFSET 0 makes each stream a look-up of its own. As a join, PostgreSQL would read the whole table while it
        // has no statistics of it.
        let query = sqlx::query(concat!(
            "SELECT ",
            event_columns!(),
            " FROM unnest($1::text[], $2::bigint[]) AS asked (name, reached) \
             CROSS JOIN LATERAL (SELECT * FROM events WHERE stream = name AND revision > reached OFFSET 0) AS found \
             ORDER BY stream, revision"
        ))
        .bind(&names)
        .bind(&reached);
        let mut rows = query.fetch(&self.pool);
        let mut loading = Loading::new(streams);
        while let Some(row) = rows.try_next().await? {
            loading.take(&event(&row)?)?;
        }
        Ok(loading.finish())
    }

    async fn snapshots(&self, wanted: &[(String, i64)]) -> Result<Vec<(KeptSnapshot, Mark)>, LogError> {
        let (streams, versions): (Vec<_>, Vec<_>) = wanted.iter().cloned().unzip();
        let query = sql::snapshots!("SELECT * FROM unnest($1::text[], $2::bigint[])");
        let rows = sqlx::query_as(query).bind(streams).bind(versions);
        Ok(rows.fetch_all(&self.pool).await?.into_iter().map(stored::snapshot).collect())
    }

    async fn keep_snapshot(&self, snapshot: &KeptSnapshot, event_id: Uuid) -> Result<(), LogError> {
        sqlx::query(sql::keep_snapshot!("$4::json"))
            .bind(&snapshot.stream)
            .bind(snapshot.revision)
            .bind(snapshot.version)
            .bind(&snapshot.state)
            .bind(event_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn claim_holder(&self, name: &str, key: &str) -> Result<Option<StreamId>, LogError> {
        let holder: Option<String> =
            sqlx::query_scalar(sql::CLAIM_HOLDER).bind(name).bind(key).fetch_optional(&self.pool).await?;
        holder.as_deref().map(stored::holder).transpose()
    }

    async fn kept(&self, digest: &[u8; 32]) -> Result<Option<Kept>, LogError> {
        let row: Option<(Vec<u8>, String)> = sqlx::query_as(
            "SELECT body, receipt::text FROM idempotency \
             WHERE digest = $1 AND (expires_at IS NULL OR expires_at > now())",
        )
        .bind(digest)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|(body, receipt)| stored::kept(&body, &receipt)).transpose()
    }

    async fn remove_expired(&self, limit: u32) -> Result<u64, LogError> {
        // A key that an append replaces at this moment is locked, and left alone.
        let removed = sqlx::query(
            "DELETE FROM idempotency WHERE digest IN (\
                SELECT digest FROM idempotency WHERE expires_at <= now() \
                ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
        )
        .bind(i64::from(limit))
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected())
    }

    fn writer(&self, log: &Head) -> Box<dyn Writer> {
        Box::new(PostgresWriter::new(&self.pool, log, self.lock_timeout))
    }
}
