//! Committing groups.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use daybook_core::{Position, Revision};
use daybook_database::{Fault, SqliteFile, fault};
use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::{Connection, Executor, QueryBuilder, Sqlite, SqliteConnection, Transaction};
use uuid::Uuid;

use super::{check_place, time};
use crate::append;
use crate::checkpoint::check_log;
use crate::group::{Answers, Group, Plan};
use crate::known::{Change, Tip};
use crate::seen::{self, Mark, to_look_up};
use crate::sql::{self, event_columns};
use crate::store::{Failure, MISSED_MAX, Writer, Written};
use crate::stored::{self, misfit};
use crate::{Head, LogError};

/// The most events of one statement: each number of rows is a statement of its own, which the connection remembers.
pub(super) const ROWS_MAX: usize = 64;

/// Refuses to go on when the log does not end where it did: it has one identity, and is given a second one then.
const UNLESS_AT: &str = "\
    INSERT INTO log_identity SELECT * FROM log_identity \
    WHERE (SELECT id FROM events ORDER BY position DESC LIMIT 1) IS NOT ";

/// The writer: one connection of its own. Waits for other writers at BEGIN IMMEDIATE, and from there on sees all that
/// they have committed.
pub(super) struct SqliteWriter {
    file: SqliteFile,
    /// The log that it writes to.
    log: (Uuid, u64),
    /// Taken out while in use, and put back only when all went well: another one is made after whatever failed, and what
    /// had been begun ends with the one that is gone.
    connection: Option<SqliteConnection>,
}

impl SqliteWriter {
    pub(super) fn new(file: SqliteFile, log: &Head) -> Self {
        Self { file, log: (log.log_id, log.epoch), connection: None }
    }

    /// Nothing is begun in a file that nobody else finds.
    async fn take(&mut self) -> Result<SqliteConnection, LogError> {
        check_place(&self.file)?;
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.file.connect().await?),
        }
    }

    /// Begins to write, and reads where the log ends, which has to hold what was seen.
    async fn begin<'c>(
        &self,
        connection: &'c mut SqliteConnection,
        marks: &[Mark],
    ) -> Result<(Transaction<'c, Sqlite>, Tip), Failure> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
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
        let mut connection = self.take().await?;
        let (transaction, tip) = self.begin(&mut connection, seen).await?;
        transaction.rollback().await?;
        self.connection = Some(connection);
        Ok(tip)
    }

    /// All of it goes out at once: with whatever is waited for by itself, the connection's thread waits for a core again.
    async fn write_at(&mut self, tip: &Tip, plan: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure> {
        let mut script = Script::new();
        script.then("BEGIN IMMEDIATE");
        let (log_id, epoch) = self.log;
        let fits = script.then(UNLESS_AT);
        fits.push_bind(tip.id.map(|id| id.to_string()));
        fits.push(" OR log_id <> ").push_bind(log_id.to_string());
        fits.push(" OR epoch <> ").push_bind(epoch.cast_signed());
        let recorded_at = script.write(plan, tip.recorded_at)?;
        script.then("COMMIT");
        let mut connection = self.take().await?;
        let recorded_at = match script.run(&mut connection).await {
            Ok(()) => Some(recorded_at),
            Err(Broken { error, .. }) if matches!(fault(&error), Fault::Duplicate | Fault::Data) => {
                sqlx::query("ROLLBACK").execute(&mut connection).await?;
                None
            }
            Err(Broken { error, at_end: true }) => return Err(Failure::of_commit(error)),
            Err(Broken { error, at_end: false }) => return Err(error.into()),
        };
        self.connection = Some(connection);
        Ok(recorded_at)
    }

    async fn write_locked(&mut self, known: &Tip, seen: &[Mark], group: &Group<'_>) -> Result<Written, Failure> {
        let mut connection = self.take().await?;
        let (mut transaction, found) = self.begin(&mut connection, seen).await?;
        let missed = missed(&mut transaction, known, &found).await?;
        let now = Utc::now();
        let answers = Answers {
            revisions: revisions(&mut transaction, group).await?,
            holders: holders(&mut transaction, group).await?,
            kept: kept(&mut transaction, group, now).await?,
        };
        let plan = group.decide(found.position, &answers);
        remove(&mut transaction, &plan, now).await?;
        let mut script = Script::new();
        let recorded_at = script.write(&plan, found.recorded_at)?;
        script.run(&mut transaction).await.map_err(|broken| broken.error)?;
        let (tip, uncommitted, changes) = (plan.tip(&found, recorded_at), plan.uncommitted(), plan.changes());
        let changes = missed.map(|missed| missed.into_iter().chain(changes).collect());
        let commit = match transaction.commit().await.map_err(Failure::of_commit) {
            Ok(()) => {
                self.connection = Some(connection);
                Ok(())
            }
            Err(Failure::Unknown) => uncommitted,
            Err(failure) => return Err(failure),
        };
        Ok(Written { verdicts: plan.verdicts, tip, changes, commit })
    }

    async fn look_up(&mut self, (position, id): (Position, Uuid)) -> Result<Option<DateTime<Utc>>, Failure> {
        // Nothing is under way any more once another transaction has begun to write.
        let mut connection = self.take().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let recorded_at: Option<String> =
            sqlx::query_scalar("SELECT recorded_at FROM events WHERE position = $1 AND id = $2")
                .bind(position.to_i64())
                .bind(id.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
        transaction.rollback().await?;
        self.connection = Some(connection);
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

/// Statements that are sent together, and of which none is begun once one has failed.
struct Script {
    sql: QueryBuilder<Sqlite>,
    statements: usize,
}

/// Why a script was not done.
struct Broken {
    error: sqlx::Error,
    /// Whether all statements but the last one were done, as far as anybody knows.
    at_end: bool,
}

impl Script {
    fn new() -> Self {
        Self { sql: QueryBuilder::new(""), statements: 0 }
    }

    /// Begins the next statement.
    fn then(&mut self, sql: &str) -> &mut QueryBuilder<Sqlite> {
        if self.statements > 0 {
            self.sql.push("; ");
        }
        self.statements += 1;
        self.sql.push(sql)
    }

    /// Writes a plan, and answers the time of its events: the clock's, or that of the newest event when the clock was set
    /// back.
    fn write(&mut self, plan: &Plan<'_>, newest: DateTime<Utc>) -> Result<DateTime<Utc>, LogError> {
        let now = Utc::now().trunc_subsecs(6).max(newest);
        let recorded_at = time::to_text(now);
        for events in plan.events.chunks(ROWS_MAX) {
            let insert = self.then(concat!("INSERT INTO events (", event_columns!(), ") "));
            insert.push_values(events, |mut row, event| {
                row.push_bind(event.position.to_i64())
                    .push_bind(event.record.stream.as_str().to_owned())
                    .push_bind(event.revision.to_i64())
                    .push_bind(event.record.id.to_string())
                    .push_bind(event.record.event_type.clone())
                    .push_bind(event.record.schema_version)
                    .push_bind(recorded_at.clone())
                    .push_bind(event.metadata.to_owned())
                    .push_bind(event.record.payload.clone());
            });
        }
        let taken =
            "INSERT INTO claims (name, key, holder) SELECT value->>0, value->>1, value->>2 FROM json_each(";
        self.then(taken).push_bind(list(&plan.taken)?).push(")");
        let expires = time::to_text(now + TimeDelta::days(append::KEY_DAYS.into()));
        let keys: Vec<_> = plan
            .keys
            .iter()
            .map(|(key, receipt)| (hex(&key.digest), hex(&key.body), receipt, key.expires.then_some(&expires)))
            .collect();
        let kept = "INSERT INTO idempotency (digest, body, receipt, expires_at) \
            SELECT unhex(value->>0), unhex(value->>1), value->>2, value->>3 FROM json_each(";
        self.then(kept).push_bind(list(&keys)?).push(")");
        Ok(now)
    }

    async fn run(mut self, connection: &mut SqliteConnection) -> Result<(), Broken> {
        let mut results = connection.fetch_many(self.sql.build());
        // None of them answers rows: what is answered is that one is done.
        for done in 1..=self.statements {
            match results.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Err(Broken { error: sqlx::Error::WorkerCrashed, at_end: true }),
                Err(error) => return Err(Broken { error, at_end: done == self.statements }),
            }
        }
        Ok(())
    }
}
