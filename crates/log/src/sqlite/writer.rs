//! Committing groups.

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use daybook_core::{Position, Revision};
use daybook_database::SqliteFile;
use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::time;
use crate::append;
use crate::group::{Answers, Group, Plan, PlannedEvent};
use crate::store::{Committed, Failure, Writer};
use crate::stored::{self, misfit};
use crate::{LogError, sql::event_columns};

/// The most events of one statement: each number of rows is a statement of its own, which the connection remembers.
const ROWS_MAX: usize = 64;

/// The writer. Waits for other writers at BEGIN IMMEDIATE, and from there on sees all that they have committed.
pub(super) struct SqliteWriter {
    file: SqliteFile,
}

impl SqliteWriter {
    pub(super) fn new(file: SqliteFile) -> Self {
        Self { file }
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn commit(&mut self, group: &Group<'_>) -> Result<Committed, Failure> {
        let mut transaction = self.file.writer().begin_with("BEGIN IMMEDIATE").await?;
        let committed = decide_and_write(&mut transaction, group).await?;
        transaction.commit().await.map_err(Failure::of_commit)?;
        Ok(committed)
    }
}

/// Does all but the COMMIT.
async fn decide_and_write(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<Committed, Failure> {
    let (position, recorded_at): (i64, String) =
        sqlx::query_as("SELECT position, recorded_at FROM log_head").fetch_one(&mut *connection).await?;
    let recorded_at = time::from_text(&recorded_at).map_err(|error| misfit("recorded_at", error))?;
    let now = Utc::now().trunc_subsecs(6).max(recorded_at);
    let answers = Answers {
        revisions: revisions(connection, group).await?,
        holders: holders(connection, group).await?,
        kept: kept(connection, group, now).await?,
    };
    let plan = group.decide(Position::from_i64(position), &answers);
    write(connection, &plan, now).await?;
    Ok(Committed { verdicts: plan.verdicts, head: plan.head })
}

/// Lists go in as JSON, so that a statement is the same whatever their length.
fn list(items: &impl Serialize) -> Result<String, LogError> {
    serde_json::to_string(items).map_err(|error| misfit("list", error))
}

async fn revisions(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<Vec<Revision>, LogError> {
    let revisions: Vec<i64> = sqlx::query_scalar(
        "SELECT coalesce((SELECT max(revision) FROM events WHERE stream = value), 0) FROM json_each($1) ORDER BY key",
    )
    .bind(list(&group.streams)?)
    .fetch_all(connection)
    .await?;
    Ok(revisions.into_iter().map(Revision::from_i64).collect())
}

async fn holders(
    connection: &mut SqliteConnection,
    group: &Group<'_>,
) -> Result<Vec<Option<daybook_core::StreamId>>, LogError> {
    if group.claims.is_empty() {
        return Ok(Vec::new());
    }
    let holders: Vec<Option<String>> = sqlx::query_scalar(
        "SELECT (SELECT holder FROM claims WHERE name = asked.value->>0 AND key = asked.value->>1) \
         FROM json_each($1) AS asked ORDER BY asked.key",
    )
    .bind(list(&group.claims)?)
    .fetch_all(connection)
    .await?;
    holders.into_iter().map(|holder| holder.as_deref().map(stored::holder).transpose()).collect()
}

async fn kept(
    connection: &mut SqliteConnection,
    group: &Group<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<Option<crate::group::Kept>>, LogError> {
    if group.keys.is_empty() {
        return Ok(Vec::new());
    }
    let digests: Vec<String> = group.keys.iter().map(|digest| hex(digest.as_slice())).collect();
    let rows: Vec<(Option<Vec<u8>>, Option<String>)> = sqlx::query_as(
        "SELECT body, receipt FROM json_each($1) AS asked \
         LEFT JOIN idempotency ON digest = unhex(asked.value) AND (expires_at IS NULL OR expires_at > $2) \
         ORDER BY asked.key",
    )
    .bind(list(&digests)?)
    .bind(time::to_text(now))
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| match row {
            (Some(body), Some(receipt)) => stored::kept(&body, &receipt).map(Some),
            _ => Ok(None),
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn write(connection: &mut SqliteConnection, plan: &Plan<'_>, now: DateTime<Utc>) -> Result<(), LogError> {
    let recorded_at = time::to_text(now);
    for events in plan.events.chunks(ROWS_MAX) {
        insert(connection, events, &recorded_at).await?;
    }
    if !plan.events.is_empty() {
        sqlx::query("UPDATE log_head SET position = $1, recorded_at = $2")
            .bind(plan.head.to_i64())
            .bind(recorded_at)
            .execute(&mut *connection)
            .await?;
    }
    if !plan.taken.is_empty() {
        // WHERE true: without it, SQLite takes ON for the condition of a join.
        sqlx::query(
            "INSERT INTO claims (name, key, holder) \
             SELECT value->>0, value->>1, value->>2 FROM json_each($1) WHERE true \
             ON CONFLICT (name, key) DO UPDATE SET holder = excluded.holder",
        )
        .bind(list(&plan.taken)?)
        .execute(&mut *connection)
        .await?;
    }
    if !plan.released.is_empty() {
        sqlx::query("DELETE FROM claims WHERE (name, key) IN (SELECT value->>0, value->>1 FROM json_each($1))")
            .bind(list(&plan.released)?)
            .execute(&mut *connection)
            .await?;
    }
    let expires = time::to_text(now + TimeDelta::days(append::KEY_DAYS));
    for (key, receipt) in &plan.keys {
        sqlx::query(
            "INSERT INTO idempotency (digest, body, receipt, expires_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (digest) DO UPDATE \
             SET body = excluded.body, receipt = excluded.receipt, expires_at = excluded.expires_at",
        )
        .bind(key.digest.as_slice())
        .bind(key.body.as_slice())
        .bind(receipt)
        .bind(key.expires.then_some(&expires))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    events: &[PlannedEvent<'_>],
    recorded_at: &str,
) -> Result<(), sqlx::Error> {
    let mut sql = QueryBuilder::<Sqlite>::new(concat!("INSERT INTO events (", event_columns!(), ") "));
    sql.push_values(events, |mut row, event| {
        row.push_bind(event.position.to_i64())
            .push_bind(event.record.stream.as_str().to_owned())
            .push_bind(event.revision.to_i64())
            .push_bind(event.record.id.to_string())
            .push_bind(event.record.event_type.clone())
            .push_bind(event.record.schema_version)
            .push_bind(recorded_at.to_owned())
            .push_bind(event.metadata.to_owned())
            .push_bind(event.record.payload.clone());
    });
    sql.build().execute(connection).await?;
    Ok(())
}
