//! Committing groups.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use daybook_core::{Position, Revision, StreamId};
use daybook_database::{Fault, SqliteFile, fault, sqlite_error};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::{check_place, time};
use crate::append;
use crate::checkpoint::check_log;
use crate::group::{Answers, Group, Kept, Plan};
use crate::known::{Change, Tip};
use crate::seen::{self, Mark, to_look_up};
use crate::sql::{self, event_columns};
use crate::store::{Failure, MISSED_MAX, Writer, Written};
use crate::stored::{self, misfit};
use crate::{Head, LogError};

/// The writer: one connection of its own, on the appender's thread, which it blocks. Waits for other writers at BEGIN
/// IMMEDIATE, and from there on sees all that they have committed.
pub(super) struct SqliteWriter {
    file: SqliteFile,
    /// The log that it writes to.
    log: (Uuid, u64),
    /// Taken out while in use, and put back only when all went well: another one is made after whatever failed, and what
    /// had been begun ends with the one that is gone.
    connection: Option<Connection>,
}

impl SqliteWriter {
    pub(super) fn new(file: SqliteFile, log: &Head) -> Self {
        Self { file, log: (log.log_id, log.epoch), connection: None }
    }

    /// Nothing is begun in a file that nobody else finds.
    fn take(&mut self) -> Result<Connection, LogError> {
        check_place(&self.file)?;
        Ok(self.connection.take().map_or_else(|| self.file.connect(), Ok)?)
    }

    /// Begins to write, and reads where the log ends.
    fn begin<'c>(&self, connection: &'c mut Connection) -> Result<(Transaction<'c>, Tip), Failure> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tip = self.read_tip(&transaction)?;
        Ok((transaction, tip))
    }

    fn read_tip(&self, transaction: &Transaction<'_>) -> Result<Tip, Failure> {
        type Row = (String, i64, Option<i64>, Option<String>, Option<String>);
        let (log_id, epoch, position, id, recorded_at): Row = transaction
            .prepare_cached(
                "SELECT log_id, epoch, position, id, recorded_at \
                 FROM log_identity LEFT JOIN (SELECT * FROM events ORDER BY position DESC LIMIT 1) ON true",
            )?
            .query_row([], |row| row.try_into())?;
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

/// The log, which ends at `tip`, has to hold what was seen.
fn check_seen(transaction: &Transaction<'_>, marks: &[Mark], tip: Mark) -> Result<(), Failure> {
    let mut ids = HashMap::new();
    for position in to_look_up(marks, tip) {
        let id: Option<String> =
            transaction.query_row(sql::EVENT_ID, [position.to_i64()], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            ids.insert(position, uuid(&id)?);
        }
    }
    seen::check(marks, tip, &ids).map_err(Failure::History)
}

#[async_trait]
impl Writer for SqliteWriter {
    fn blocks(&self) -> bool {
        true
    }

    async fn tip(&mut self, seen: &[Mark]) -> Result<Tip, Failure> {
        let mut connection = self.take()?;
        let (transaction, tip) = self.begin(&mut connection)?;
        check_seen(&transaction, seen, tip.mark())?;
        transaction.rollback()?;
        self.connection = Some(connection);
        Ok(tip)
    }

    async fn write_at(&mut self, tip: &Tip, plan: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure> {
        let mut connection = self.take()?;
        let (transaction, found) = self.begin(&mut connection)?;
        let written = match found.id == tip.id {
            true => write(&transaction, plan, tip.recorded_at).map(Some).map_err(sqlite_error),
            false => Ok(None),
        };
        let recorded_at = match written {
            Ok(Some(recorded_at)) => {
                transaction.commit().map_err(|error| Failure::of_commit(sqlite_error(error)))?;
                Some(recorded_at)
            }
            Err(error) if !matches!(fault(&error), Fault::Duplicate | Fault::Data) => return Err(error.into()),
            Ok(None) | Err(_) => {
                transaction.rollback()?;
                None
            }
        };
        self.connection = Some(connection);
        Ok(recorded_at)
    }

    async fn write_locked(&mut self, known: &Tip, seen: &[Mark], group: &Group<'_>) -> Result<Written, Failure> {
        let mut connection = self.take()?;
        let (transaction, found) = self.begin(&mut connection)?;
        check_seen(&transaction, seen, found.mark())?;
        let missed = missed(&transaction, known, &found)?;
        let now = Utc::now();
        let answers = Answers {
            revisions: revisions(&transaction, group)?,
            holders: holders(&transaction, group)?,
            kept: kept(&transaction, group, now)?,
        };
        let plan = group.decide(found.position, &answers);
        remove(&transaction, &plan, now)?;
        let recorded_at = write(&transaction, &plan, found.recorded_at)?;
        let (tip, uncommitted, changes) = (plan.tip(&found, recorded_at), plan.uncommitted(), plan.changes());
        let changes = missed.map(|missed| missed.into_iter().chain(changes).collect());
        let commit = match transaction.commit().map_err(|error| Failure::of_commit(sqlite_error(error))) {
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
        let mut connection = self.take()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let recorded_at: Option<String> = transaction
            .query_row(
                "SELECT recorded_at FROM events WHERE position = ? AND id = ?",
                params![position.to_i64(), id.to_string()],
                |row| row.get(0),
            )
            .optional()?;
        transaction.rollback()?;
        self.connection = Some(connection);
        let time = |text: String| time::from_text(&text).map_err(|error| misfit("recorded_at", error));
        Ok(recorded_at.map(time).transpose()?)
    }
}

/// The streams that others have written to since `known`; `None` when there are too many.
fn missed(transaction: &Transaction<'_>, known: &Tip, tip: &Tip) -> Result<Option<Vec<Change>>, LogError> {
    if tip.position == known.position {
        return Ok(Some(Vec::new()));
    }
    if tip.position.get() - known.position.get() > MISSED_MAX {
        return Ok(None);
    }
    let mut select = transaction
        .prepare_cached("SELECT stream, max(revision) FROM events WHERE position > ? GROUP BY stream")?;
    let rows = select.query_map([known.position.to_i64()], |row| row.try_into())?;
    let change = |row: Result<(String, i64), rusqlite::Error>| {
        let (stream, revision) = row?;
        Ok(Change { stream: stored::holder(&stream)?, revision: Revision::from_i64(revision) })
    };
    rows.map(change).collect::<Result<_, _>>().map(Some)
}

fn revisions(transaction: &Transaction<'_>, group: &Group<'_>) -> Result<Vec<Revision>, LogError> {
    let mut select =
        transaction.prepare_cached("SELECT coalesce(max(revision), 0) FROM events WHERE stream = ?")?;
    let mut revision =
        |stream: &StreamId| Ok(Revision::from_i64(select.query_row([stream.as_str()], |row| row.get(0))?));
    group.streams.iter().map(|asked| revision(asked.stream)).collect()
}

fn holders(transaction: &Transaction<'_>, group: &Group<'_>) -> Result<Vec<Option<StreamId>>, LogError> {
    let mut select = transaction.prepare_cached(sql::CLAIM_HOLDER)?;
    let mut holder = |claim: &(&str, &str)| {
        let holder: Option<String> = select.query_row(*claim, |row| row.get(0)).optional()?;
        holder.as_deref().map(stored::holder).transpose()
    };
    group.claims.iter().map(&mut holder).collect()
}

fn kept(
    transaction: &Transaction<'_>,
    group: &Group<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<Option<Kept>>, LogError> {
    let now = time::to_text(now);
    let mut select = transaction.prepare_cached(
        "SELECT body, receipt FROM idempotency WHERE digest = ? AND (expires_at IS NULL OR expires_at > ?)",
    )?;
    let mut kept = |digest: &[u8; 32]| {
        let row: Option<(Vec<u8>, String)> =
            select.query_row(params![digest, now], |row| row.try_into()).optional()?;
        row.map(|(body, receipt)| stored::kept(&body, &receipt)).transpose()
    };
    group.keys.iter().map(|digest| kept(digest)).collect()
}

/// Makes room for what a plan takes over: claims whose holder changes, and keys that have expired.
fn remove(transaction: &Transaction<'_>, plan: &Plan<'_>, now: DateTime<Utc>) -> Result<(), rusqlite::Error> {
    let now = time::to_text(now);
    let mut released = transaction.prepare_cached("DELETE FROM claims WHERE name = ? AND key = ?")?;
    for claim in &plan.released {
        released.execute(*claim)?;
    }
    let mut expired =
        transaction.prepare_cached("DELETE FROM idempotency WHERE digest = ? AND expires_at <= ?")?;
    for (key, _) in &plan.keys {
        expired.execute(params![key.digest, now])?;
    }
    Ok(())
}

/// Writes a plan, and answers the time of its events: the clock's, or that of the newest event when the clock was set
/// back. Each event is a statement: one that has many rows is first copied as a whole, because of the triggers.
fn write(
    transaction: &Transaction<'_>,
    plan: &Plan<'_>,
    newest: DateTime<Utc>,
) -> Result<DateTime<Utc>, rusqlite::Error> {
    let now = Utc::now().trunc_subsecs(6).max(newest);
    let recorded_at = time::to_text(now);
    let mut insert = transaction.prepare_cached(concat!(
        "INSERT INTO events (",
        event_columns!(),
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))?;
    for event in &plan.events {
        let record = event.record;
        insert.execute(params![
            event.position.to_i64(),
            record.stream.as_str(),
            event.revision.to_i64(),
            record.id.to_string(),
            record.event_type,
            record.schema_version,
            recorded_at,
            event.metadata,
            record.payload,
        ])?;
    }
    let mut take = transaction.prepare_cached("INSERT INTO claims (name, key, holder) VALUES (?, ?, ?)")?;
    for (name, key, holder) in &plan.taken {
        take.execute((name, key, holder.as_str()))?;
    }
    let expires = time::to_text(now + TimeDelta::days(append::KEY_DAYS.into()));
    let mut keep = transaction
        .prepare_cached("INSERT INTO idempotency (digest, body, receipt, expires_at) VALUES (?, ?, ?, ?)")?;
    for (key, receipt) in &plan.keys {
        keep.execute(params![key.digest, key.body, receipt, key.expires.then_some(&expires)])?;
    }
    Ok(now)
}
