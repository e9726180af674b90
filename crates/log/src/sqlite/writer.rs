//! Committing groups.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use daybook_core::{Position, Revision};
use daybook_database::{DatabaseError, Fault, SqliteFile, fault};
use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, Transaction};
use uuid::Uuid;

use super::time;
use crate::append;
use crate::checkpoint::check_log;
use crate::group::{Answers, Group, Plan, PlannedEvent};
use crate::known::{Change, Tip};
use crate::seen::{self, Mark, to_look_up};
use crate::sql::{self, event_columns};
use crate::store::{Failure, MISSED_MAX, Writer, Written};
use crate::stored::{self, misfit};
use crate::{Head, LogError};

/// The most events of one statement: each number of rows is a statement of its own, which the connection remembers.
pub(super) const ROWS_MAX: usize = 64;

/// The writer. Waits for other writers at BEGIN IMMEDIATE, and from there on sees all that they have committed.
pub(super) struct SqliteWriter {
    file: SqliteFile,
    /// The log that it writes to.
    log: (Uuid, u64),
}

impl SqliteWriter {
    pub(super) fn new(file: SqliteFile, log: &Head) -> Self {
        Self { file, log: (log.log_id, log.epoch) }
    }

    /// Begins to write, and reads where the log ends, which has to hold what was seen.
    async fn begin(&self, marks: &[Mark]) -> Result<(Transaction<'static, Sqlite>, Tip), Failure> {
        let mut transaction = self.file.writer().begin_with("BEGIN IMMEDIATE").await?;
        let tip = self.read_tip(&mut transaction).await?;
        let mut ids = HashMap::new();
        for position in to_look_up(marks, tip.mark()) {
            if let Some(id) = id_at(&mut transaction, position).await? {
                ids.insert(position, id);
            }
        }
        seen::check(marks, tip.mark(), &ids).map_err(Failure::History)?;
        Ok((transaction, tip))
    }

    async fn read_tip(&self, connection: &mut SqliteConnection) -> Result<Tip, Failure> {
        type Row = (String, i64, Option<i64>, Option<String>, Option<String>);
        let (log_id, epoch, position, id, recorded_at): Row = sqlx::query_as(
            "SELECT log_id, epoch, position, id, recorded_at \
             FROM log_identity LEFT JOIN (SELECT * FROM events ORDER BY position DESC LIMIT 1) ON true",
        )
        .fetch_one(connection)
        .await?;
        check_log(self.log, (uuid(&log_id)?, epoch.unsigned_abs())).map_err(Failure::History)?;
        let recorded_at = match recorded_at {
            Some(text) => time::from_text(&text).map_err(|error| misfit("recorded_at", error))?,
            None => DateTime::UNIX_EPOCH,
        };
        let position = position.map_or(Position::START, Position::from_i64);
        Ok(Tip { position, id: id.as_deref().map(uuid).transpose()?, recorded_at })
    }
}

pub(super) fn uuid(text: &str) -> Result<Uuid, LogError> {
    text.parse().map_err(|error| misfit("id", error))
}

async fn id_at(connection: &mut SqliteConnection, position: Position) -> Result<Option<Uuid>, Failure> {
    let id: Option<String> =
        sqlx::query_scalar(sql::EVENT_ID).bind(position.to_i64()).fetch_optional(connection).await?;
    Ok(id.as_deref().map(uuid).transpose()?)
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn tip(&mut self, seen: &[Mark]) -> Result<Tip, Failure> {
        Ok(self.begin(seen).await?.1)
    }

    async fn write_at(&mut self, tip: &Tip, plan: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure> {
        let (mut transaction, found) = self.begin(&[tip.mark()]).await?;
        if found.id != tip.id {
            return Ok(None);
        }
        match write(&mut transaction, plan, found.recorded_at).await {
            Ok(recorded_at) => {
                transaction.commit().await.map_err(Failure::of_commit)?;
                Ok(Some(recorded_at))
            }
            Err(LogError::Database(DatabaseError::Sql(error)))
                if matches!(fault(&error), Fault::Duplicate | Fault::Data) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn write_locked(&mut self, known: &Tip, seen: &[Mark], group: &Group<'_>) -> Result<Written, Failure> {
        let (mut transaction, found) = self.begin(seen).await?;
        let missed = missed(&mut transaction, known, &found).await?;
        let now = Utc::now();
        let answers = Answers {
            revisions: revisions(&mut transaction, group).await?,
            holders: holders(&mut transaction, group).await?,
            kept: kept(&mut transaction, group, now).await?,
        };
        let plan = group.decide(found.position, &answers);
        remove(&mut transaction, &plan, now).await?;
        let recorded_at = write(&mut transaction, &plan, found.recorded_at).await?;
        let (tip, uncommitted, changes) = (plan.tip(&found, recorded_at), plan.uncommitted(), plan.changes());
        let changes = missed.map(|missed| missed.into_iter().chain(changes).collect());
        let commit = match transaction.commit().await.map_err(Failure::of_commit) {
            Ok(()) => Ok(()),
            Err(Failure::Unknown) => uncommitted,
            Err(failure) => return Err(failure),
        };
        Ok(Written { verdicts: plan.verdicts, tip, changes, commit })
    }

    async fn look_up(&mut self, (position, id): (Position, Uuid)) -> Result<Option<DateTime<Utc>>, Failure> {
        // Nothing is under way any more once another transaction has begun to write.
        let mut transaction = self.file.writer().begin_with("BEGIN IMMEDIATE").await?;
        let recorded_at: Option<String> =
            sqlx::query_scalar("SELECT recorded_at FROM events WHERE position = $1 AND id = $2")
                .bind(position.to_i64())
                .bind(id.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
        let time = |text: String| time::from_text(&text).map_err(|error| misfit("recorded_at", error));
        Ok(recorded_at.map(time).transpose()?)
    }
}

/// The streams that others have written to since `known`; `None` when there are too many.
async fn missed(
    connection: &mut SqliteConnection,
    known: &Tip,
    tip: &Tip,
) -> Result<Option<Vec<Change>>, LogError> {
    if tip.position == known.position {
        return Ok(Some(Vec::new()));
    }
    if tip.position.get() - known.position.get() > MISSED_MAX {
        return Ok(None);
    }
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT stream, max(revision) FROM events WHERE position > $1 GROUP BY stream")
            .bind(known.position.to_i64())
            .fetch_all(connection)
            .await?;
    let change = |(stream, revision): (String, i64)| {
        Ok(Change { stream: stored::holder(&stream)?, revision: Revision::from_i64(revision) })
    };
    rows.into_iter().map(change).collect::<Result<_, _>>().map(Some)
}

/// Lists go in as JSON, so that a statement is the same whatever their length.
fn list(items: &impl Serialize) -> Result<String, LogError> {
    serde_json::to_string(items).map_err(|error| misfit("list", error))
}

async fn revisions(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<Vec<Revision>, LogError> {
    let revisions: Vec<i64> = sqlx::query_scalar(
        "SELECT coalesce((SELECT max(revision) FROM events WHERE stream = value), 0) FROM json_each($1) ORDER BY key",
    )
    .bind(list(&group.streams.iter().map(|asked| asked.stream).collect::<Vec<_>>())?)
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

/// Makes room for what a plan takes over: claims whose holder changes, and keys that have expired.
async fn remove(connection: &mut SqliteConnection, plan: &Plan<'_>, now: DateTime<Utc>) -> Result<(), LogError> {
    if !plan.released.is_empty() {
        sqlx::query("DELETE FROM claims WHERE (name, key) IN (SELECT value->>0, value->>1 FROM json_each($1))")
            .bind(list(&plan.released)?)
            .execute(&mut *connection)
            .await?;
    }
    if !plan.keys.is_empty() {
        let digests: Vec<String> = plan.keys.iter().map(|(key, _)| hex(&key.digest)).collect();
        sqlx::query(
            "DELETE FROM idempotency \
             WHERE digest IN (SELECT unhex(value) FROM json_each($1)) AND expires_at <= $2",
        )
        .bind(list(&digests)?)
        .bind(time::to_text(now))
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Writes a plan, and answers the time of its events: the clock's, or that of the newest event when the clock was set
/// back.
async fn write(
    connection: &mut SqliteConnection,
    plan: &Plan<'_>,
    newest: DateTime<Utc>,
) -> Result<DateTime<Utc>, LogError> {
    let now = Utc::now().trunc_subsecs(6).max(newest);
    let recorded_at = time::to_text(now);
    for events in plan.events.chunks(ROWS_MAX) {
        insert(connection, events, &recorded_at).await?;
    }
    if !plan.taken.is_empty() {
        sqlx::query(
            "INSERT INTO claims (name, key, holder) \
             SELECT value->>0, value->>1, value->>2 FROM json_each($1)",
        )
        .bind(list(&plan.taken)?)
        .execute(&mut *connection)
        .await?;
    }
    let expires = time::to_text(now + TimeDelta::days(append::KEY_DAYS.into()));
    for (key, receipt) in &plan.keys {
        sqlx::query("INSERT INTO idempotency (digest, body, receipt, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(key.digest.as_slice())
            .bind(key.body.as_slice())
            .bind(receipt)
            .bind(key.expires.then_some(&expires))
            .execute(&mut *connection)
            .await?;
    }
    Ok(now)
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
