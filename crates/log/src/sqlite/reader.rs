//! Reading.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{JsonText, Missing, Position, RecordedEvent, StreamId};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::writer::{SqliteWriter, uuid};
use super::{SqliteStore, check_place, time};
use crate::group::Kept;
use crate::seen::Mark;
use crate::sql::{self, event_columns};
use crate::store::{Fed, KeptSnapshot, Page, Store, Writer};
use crate::stored::{self, Loading, damaged, misfit};
use crate::{Head, LogError};

/// The characters between two columns and between two events of a page. Neither can be in them: names are visible
/// ASCII, and in JSON they would be escaped.
const BETWEEN_COLUMNS: char = '\u{1f}';
const BETWEEN_EVENTS: char = '\u{1e}';

/// An event as one text, of which a page is made: for each value that SQLite hands out, some memory is allocated, and
/// each row goes from its thread to ours by itself. That takes longer than to find it.
macro_rules! line {
    () => {
        concat!("concat_ws(char(31), ", event_columns!(), ")")
    };
}

/// The event in a [`line`].
fn event(line: &str) -> Result<RecordedEvent, LogError> {
    let mut columns = line.split(BETWEEN_COLUMNS);
    let position = columns.next().unwrap_or_default().parse().map_err(|error| misfit("position", error))?;
    let damaged = |error: &dyn std::fmt::Display| damaged(position, error);
    let mut next = || columns.next().ok_or_else(|| damaged(&"a column is missing"));
    let event = RecordedEvent {
        position: Position::from_i64(position),
        stream: next()?.parse().map_err(|error| damaged(&error))?,
        revision: next()?.parse().map_err(|error| damaged(&error))?,
        id: next()?.parse().map_err(|error| damaged(&error))?,
        event_type: next()?.to_owned(),
        schema_version: next()?.parse().map_err(|error| damaged(&error))?,
        recorded_at: time::from_text(next()?).map_err(|error| damaged(&error))?,
        metadata: JsonText::new(next()?),
        payload: JsonText::new(next()?),
    };
    match columns.next() {
        None => Ok(event),
        Some(_) => Err(damaged(&"a column holds what stands between columns")),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn head(&self) -> Result<Head, LogError> {
        check_place(&self.file)?;
        let (log_id, epoch, position, event_id): (String, i64, i64, Option<String>) =
            sqlx::query_as(sql::HEAD).fetch_one(self.file.readers()).await?;
        Ok(Head {
            log_id: uuid(&log_id)?,
            epoch: epoch.unsigned_abs(),
            position: Position::from_i64(position),
            event_id: event_id.as_deref().map(uuid).transpose()?.unwrap_or_default(),
        })
    }

    async fn event_id(&self, position: Position) -> Result<Option<Uuid>, LogError> {
        let query = sqlx::query_scalar(sql::EVENT_ID).bind(position.to_i64());
        let id: Option<String> = query.fetch_optional(self.file.readers()).await?;
        id.as_deref().map(uuid).transpose()
    }

    async fn events_at(&self, positions: &[Position]) -> Result<Vec<RecordedEvent>, LogError> {
        let positions = serde_json::to_string(positions).map_err(|error| misfit("position", error))?;
        let sql = concat!(
            "SELECT ",
            line!(),
            " FROM events WHERE position IN (SELECT value FROM json_each($1)) ORDER BY position"
        );
        let rows = sqlx::query(sql).bind(positions).fetch_all(self.file.readers()).await?;
        rows.iter().map(|row| event(row.try_get(0)?)).collect()
    }

    async fn page(&self, page: Page<'_>) -> Result<Vec<RecordedEvent>, LogError> {
        let [after, through, limit] = page.bounds();
        let page_sql = sql::page(page.filter);
        let sql = format!(concat!("SELECT group_concat(", line!(), ", char(30)) FROM ({})"), page_sql);
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(through).bind(limit);
        for text in sql::page_texts(&page) {
            query = query.bind(text);
        }
        let row = query.fetch_one(self.file.readers()).await?;
        let lines: Option<&str> = row.try_get(0)?;
        lines.map_or(Ok(Vec::new()), |lines| lines.split(BETWEEN_EVENTS).map(event).collect())
    }

    async fn last_before(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        let position: i64 =
            sqlx::query_scalar(sql::LAST_BEFORE).bind(time::to_text(time)).fetch_one(self.file.readers()).await?;
        Ok(Position::from_i64(position))
    }

    async fn load(&self, streams: Vec<Missing>) -> Result<Vec<Fed>, LogError> {
        let asked: Vec<_> =
            streams.iter().map(|missing| (missing.stream().as_str(), missing.revision().get())).collect();
        let asked = serde_json::to_string(&asked).map_err(|error| misfit("stream", error))?;
        // CROSS JOIN: SQLite takes the tables in this order.
        let query = sqlx::query(concat!(
            "SELECT ",
            line!(),
            " FROM (SELECT value->>0 AS name, value->>1 AS reached FROM json_each($1)) \
             CROSS JOIN events ON stream = name AND revision > reached ORDER BY stream, revision"
        ))
        .bind(asked);
        let mut rows = query.fetch(self.file.readers());
        let mut loading = Loading::new(streams);
        while let Some(row) = rows.try_next().await? {
            loading.take(&event(row.try_get(0)?)?)?;
        }
        Ok(loading.finish())
    }

    async fn snapshots(&self, wanted: &[(String, i64)]) -> Result<Vec<(KeptSnapshot, Mark)>, LogError> {
        let wanted = serde_json::to_string(wanted).map_err(|error| misfit("stream", error))?;
        let query = sql::snapshots!("SELECT value->>0, value->>1 FROM json_each($1)");
        let rows = sqlx::query_as(query).bind(wanted);
        let rows: Vec<(String, i64, i64, String, String, i64)> = rows.fetch_all(self.file.readers()).await?;
        let row = |(stream, revision, version, state, id, position): (_, _, _, _, String, _)| {
            Ok(stored::snapshot((stream, revision, version, state, uuid(&id)?, position)))
        };
        rows.into_iter().map(row).collect()
    }

    async fn keep_snapshot(&self, snapshot: &KeptSnapshot, event_id: Uuid) -> Result<(), LogError> {
        sqlx::query(sql::keep_snapshot!("$4"))
            .bind(&snapshot.stream)
            .bind(snapshot.revision)
            .bind(snapshot.version)
            .bind(&snapshot.state)
            .bind(event_id.to_string())
            .execute(self.file.writer())
            .await?;
        Ok(())
    }

    async fn claim_holder(&self, name: &str, key: &str) -> Result<Option<StreamId>, LogError> {
        let holder: Option<String> =
            sqlx::query_scalar(sql::CLAIM_HOLDER).bind(name).bind(key).fetch_optional(self.file.readers()).await?;
        holder.as_deref().map(stored::holder).transpose()
    }

    async fn kept(&self, digest: &[u8; 32]) -> Result<Option<Kept>, LogError> {
        let row: Option<(Vec<u8>, String)> = sqlx::query_as(
            "SELECT body, receipt FROM idempotency \
             WHERE digest = $1 AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(digest.as_slice())
        .bind(time::to_text(Utc::now()))
        .fetch_optional(self.file.readers())
        .await?;
        row.map(|(body, receipt)| stored::kept(&body, &receipt)).transpose()
    }

    async fn remove_expired(&self, limit: u32) -> Result<u64, LogError> {
        let removed = sqlx::query(
            "DELETE FROM idempotency WHERE digest IN (\
                SELECT digest FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
        )
        .bind(time::to_text(Utc::now()))
        .bind(limit)
        .execute(self.file.writer())
        .await?;
        Ok(removed.rows_affected())
    }

    fn writer(&self, log: &Head) -> Box<dyn Writer> {
        Box::new(SqliteWriter::new(self.file.clone(), log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_has_not_its_columns_is_damage() {
        let columns = [
            "7",
            "order-1",
            "2",
            "018f0000-0000-7000-8000-0000000000ab",
            "order.placed",
            "1",
            "2026-01-31T09:15:00.000000Z",
            "null",
            "{}",
        ];
        let line = |columns: &[&str]| columns.join(&BETWEEN_COLUMNS.to_string());
        let read = event(&line(&columns)).expect("an event");
        assert_eq!((read.position.get(), read.revision.get(), read.payload.get()), (7, 2, "{}"));
        for damaged in [line(&columns[..8]), line(&[&columns[..], &["{}"]].concat())] {
            let error = event(&damaged).expect_err("not an event's columns");
            assert!(matches!(error, LogError::Damaged { position, .. } if position.get() == 7), "{error}");
        }
    }
}
