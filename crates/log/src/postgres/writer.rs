//! Writing groups: one statement and one round trip where what the appender knows still holds, and else a transaction
//! that keeps everybody else out.
//!
//! Order needs no lock. The one statement inserts the positions behind the event that it takes for the newest, and
//! nothing when that is not the newest any more; of two that are under way at once, one is refused by the primary key.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{Position, Revision};
use daybook_database::{Fault, fault};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, PgPool, Row};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::checkpoint::check_log;
use crate::group::{Answers, Group, Plan};
use crate::known::{Change, Tip};
use crate::seen::{self, Mark, to_look_up};
use crate::store::{Failure, MISSED_MAX, Writer, Written};
use crate::{Head, LogError, append, stored};

/// How long the database may take over anything but waiting for other writers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// [`TURN`] in milliseconds, where a statement can name it.
macro_rules! turn_ms {
    () => {
        200
    };
}

/// How long others wait for a writer whose turn it is, unless it gives it back. Once it has begun to write, 12 ms of it, or
/// 256 events ([`TIP`]), so that changing over does not cost more than what is written.
const TURN: Duration = Duration::from_millis(turn_ms!());
/// How often they look whether it was used.
const TURN_INTERVAL: Duration = Duration::from_millis(1);

/// The statements below are look-ups by key, whatever their parameters and however few rows there are yet. They are
/// planned once, since planning takes longer than executing, and never as a scan, which would be kept while the table
/// grows. A scan of a one-row table then looks so dear that it would be compiled: that takes 0.3 s and is off.
const PLANS: &str = "\
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";

/// Which log it is and where it ends.
macro_rules! tip {
    () => {
        concat!(
            "SELECT log_id, epoch, fence, coalesce(position, 0), id, coalesce(recorded_at, 'epoch'), \
                CASE WHEN turn_until > clock_timestamp() AND (turn_at = coalesce(position, 0) \
                    OR position - turn_at < 256 \
                    AND turn_until > clock_timestamp() + interval '",
            turn_ms!(),
            " ms' - interval '12 ms') THEN turn_of END \
             FROM log_identity LEFT JOIN (SELECT * FROM events ORDER BY position DESC LIMIT 1) AS newest ON true"
        )
    };
}
const TIP: &str = tip!();

/// The advisory lock that makes writers queue. A row's lock alone does not: whoever takes it in share again and again
/// leaves nobody else a chance. The row's lock tells the truth, though, since the fence is read again once it is given.
macro_rules! queue {
    () => {
        "7234308650000"
    };
}

/// Begins to write alone: those who write in one statement hold the row of the log's identity in share. Then reads which
/// log it is and where it ends. All of it goes out at once, as simple queries do; the last sees what was committed before
/// the locks were given.
const LOCK: &str = concat!(
    "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(",
    queue!(),
    "); SELECT FROM log_identity FOR UPDATE; ",
    tip!()
);

/// Answers a group's questions, in their order. A statement of its own, since one that waited for the lock still sees
/// the log as it was when it began to wait.
const ANSWER: &str = "\
    SELECT
        ARRAY (SELECT coalesce((SELECT max(revision) FROM events WHERE stream = asked.stream), 0)
            FROM unnest($1::text[]) WITH ORDINALITY AS asked (stream, place) ORDER BY place),
        ARRAY (SELECT (SELECT holder FROM claims WHERE name = asked.name AND key = asked.key)
            FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS asked (name, key, place) ORDER BY place),
        ARRAY (SELECT (SELECT body FROM idempotency
                WHERE digest = asked.digest AND (expires_at IS NULL OR expires_at > clock_timestamp()))
            FROM unnest($4::bytea[]) WITH ORDINALITY AS asked (digest, place) ORDER BY place),
        ARRAY (SELECT (SELECT receipt::text FROM idempotency
                WHERE digest = asked.digest AND (expires_at IS NULL OR expires_at > clock_timestamp()))
            FROM unnest($4::bytea[]) WITH ORDINALITY AS asked (digest, place) ORDER BY place)";

/// Makes room for what a plan takes over: claims whose holder changes, and keys that have expired.
const REMOVE: &str = "\
    WITH released AS (
        DELETE FROM claims USING unnest($1::text[], $2::text[]) AS gone (name, key)
        WHERE claims.name = gone.name AND claims.key = gone.key
    )
    DELETE FROM idempotency WHERE digest = ANY ($3::bytea[]) AND expires_at <= clock_timestamp()";

/// Writes a plan if the log still ends where it did, and answers the time of its events: the clock's, or the newest
/// event's when the clock was set back.
macro_rules! write {
    ($also:literal) => {
        concat!(
            "WITH fits AS MATERIALIZED (
                SELECT greatest(clock_timestamp(), $3) AS now FROM log_identity
                WHERE (SELECT pg_advisory_xact_lock_shared(",
            queue!(),
            ")) IS NOT NULL AND fence = $1 AND (SELECT id FROM events ORDER BY position DESC LIMIT 1) IS NOT DISTINCT FROM $2
                FOR SHARE
            ), written AS (
                INSERT INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload)
                SELECT $4 + place, stream, revision, id, type, schema_version, now, metadata::json, payload::json
                FROM fits, unnest($5::text[], $6::bigint[], $7::uuid[], $8::text[], $9::int[], $10::text[], $11::text[])
                    WITH ORDINALITY AS new (stream, revision, id, type, schema_version, metadata, payload, place)
            )",
            $also,
            "SELECT now FROM fits"
        )
    };
}
const WRITE_EVENTS: &str = write!(" ");
const WRITE_ALL: &str = write!(
    ", taken AS (
        INSERT INTO claims (name, key, holder)
        SELECT name, key, holder FROM fits, unnest($12::text[], $13::text[], $14::text[]) AS new (name, key, holder)
    ), kept AS (
        INSERT INTO idempotency (digest, body, receipt, expires_at)
        SELECT digest, body, receipt::json, CASE WHEN expires THEN now + make_interval(days => $19) END
        FROM fits, unnest($15::bytea[], $16::bytea[], $17::text[], $18::bool[]) AS new (digest, body, receipt, expires)
    ) "
);

/// The writer: one connection of its own, made in the runtime that it is used in.
pub(super) struct PostgresWriter {
    options: PgConnectOptions,
    lock_timeout: Duration,
    /// The log that it writes to.
    log: (Uuid, u64),
    /// Which writer it is.
    id: Uuid,
    /// Where its last own event stands.
    own: Position,
    /// Whether others wait for it to use its turn.
    has_turn: bool,
    /// Taken out while in use, and put back only when all went well: another one is made after whatever failed.
    connection: Option<Writing>,
}

/// A connection, and the fence that the log was seen to have.
struct Writing {
    connection: PgConnection,
    fence: Uuid,
}

impl PostgresWriter {
    pub(super) fn new(pool: &PgPool, log: &Head, lock_timeout: Duration) -> Self {
        let options = pool.connect_options().as_ref().clone().application_name("daybook appender");
        Self {
            options,
            lock_timeout,
            log: (log.log_id, log.epoch),
            id: Uuid::new_v4(),
            own: Position::START,
            has_turn: false,
            connection: None,
        }
    }

    /// A process that freezes while it writes alone is cut off before the others stop waiting.
    async fn connect(&self) -> Result<Writing, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let lock_ms = self.lock_timeout.as_millis().max(2);
        let settings = format!(
            "SET lock_timeout = {lock_ms}; SET idle_in_transaction_session_timeout = {}; {PLANS}",
            lock_ms / 2
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
        let fence = sqlx::query_scalar("SELECT fence FROM log_identity").fetch_one(&mut connection).await?;
        Ok(Writing { connection, fence })
    }

    async fn take(&mut self) -> Result<Writing, Failure> {
        match self.connection.take() {
            Some(writing) => Ok(writing),
            None => Ok(timeout(ANSWER_TIMEOUT, self.connect()).await.map_err(late)??),
        }
    }

    /// Checks that a log is the one written to, and that it holds what was seen.
    async fn check(&self, writing: &mut Writing, found: &Found, marks: &[Mark]) -> Result<(), Failure> {
        check_log(self.log, found.log).map_err(Failure::History)?;
        let head = found.tip.mark();
        let positions: Vec<i64> = to_look_up(marks, head).into_iter().map(Position::to_i64).collect();
        let ids: Vec<(i64, Uuid)> = match positions.is_empty() {
            true => Vec::new(),
            false => {
                sqlx::query_as("SELECT position, id FROM events WHERE position = ANY ($1)")
                    .bind(positions)
                    .fetch_all(&mut writing.connection)
                    .await?
            }
        };
        let ids = ids.into_iter().map(|(position, id)| (Position::from_i64(position), id)).collect();
        seen::check(marks, head, &ids).map_err(Failure::History)
    }
}

fn late<T>(_: T) -> Failure {
    Failure::Unavailable("the database did not answer in time".into())
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn tip(&mut self, seen: &[Mark]) -> Result<Tip, Failure> {
        let mut writing = self.take().await?;
        let found = timeout(ANSWER_TIMEOUT, async {
            let found = Found::read(sqlx::raw_sql(TIP).fetch_one(&mut writing.connection).await?)?;
            self.check(&mut writing, &found, seen).await?;
            Ok::<_, Failure>(found)
        });
        let found = found.await.map_err(late)??;
        self.connection = Some(writing);
        Ok(found.tip)
    }

    async fn write_at(&mut self, tip: &Tip, plan: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure> {
        let mut writing = self.take().await?;
        match timeout(self.lock_timeout + ANSWER_TIMEOUT, write(&mut writing, tip, plan)).await {
            Ok(Ok(recorded_at)) => {
                self.connection = Some(writing);
                if recorded_at.is_some() {
                    self.own = tip.position.plus(plan.events.len() as u64);
                    self.has_turn &= plan.events.is_empty();
                }
                Ok(recorded_at)
            }
            Ok(Err(error)) if matches!(fault(&error), Fault::Duplicate | Fault::Data) => {
                self.connection = Some(writing);
                Ok(None)
            }
            Ok(Err(error)) => Err(Failure::of_commit(error)),
            Err(_) => Err(Failure::Unknown),
        }
    }

    async fn write_locked(&mut self, known: &Tip, seen: &[Mark], group: &Group<'_>) -> Result<Written, Failure> {
        let mut writing = self.take().await?;
        let written =
            timeout(self.lock_timeout + ANSWER_TIMEOUT, self.decide_and_write(&mut writing, known, seen, group));
        let mut written = written.await.map_err(late)??;
        match timeout(ANSWER_TIMEOUT, sqlx::raw_sql("COMMIT").execute(&mut writing.connection)).await {
            Ok(Ok(_)) => {
                written.commit = Ok(());
                self.connection = Some(writing);
            }
            Ok(Err(error)) => match Failure::of_commit(error) {
                Failure::Unknown => {}
                failure => return Err(failure),
            },
            Err(_) => {}
        }
        Ok(written)
    }

    async fn look_up(&mut self, (position, id): (Position, Uuid)) -> Result<Option<DateTime<Utc>>, Failure> {
        let mut writing = self.take().await?;
        let looked_up = timeout(self.lock_timeout + ANSWER_TIMEOUT, async {
            Found::lock(&mut writing.connection).await?;
            let found = sqlx::query_scalar("SELECT recorded_at FROM events WHERE position = $1 AND id = $2")
                .bind(position.to_i64())
                .bind(id)
                .fetch_optional(&mut writing.connection)
                .await?;
            // What was sent before and comes to be executed only now names the old fence.
            writing.fence =
                sqlx::query_scalar("UPDATE log_identity SET fence = gen_random_uuid() RETURNING fence")
                    .fetch_one(&mut writing.connection)
                    .await?;
            sqlx::raw_sql("COMMIT").execute(&mut writing.connection).await?;
            Ok::<_, sqlx::Error>(found)
        });
        let found = looked_up.await.map_err(late)??;
        self.connection = Some(writing);
        Ok(found)
    }

    /// Gives a turn back that nobody came for. When that fails, it ends by itself.
    async fn rest(&mut self) {
        if !std::mem::take(&mut self.has_turn) {
            return;
        }
        let Ok(mut writing) = self.take().await else { return };
        let given = sqlx::query("UPDATE log_identity SET turn_of = NULL WHERE turn_of = $1")
            .bind(self.id)
            .execute(&mut writing.connection);
        if let Ok(Ok(_)) = timeout(ANSWER_TIMEOUT, given).await {
            self.connection = Some(writing);
        }
    }
}

impl PostgresWriter {
    /// Begins to write alone, once it is no other writer's turn.
    async fn lock_in_turn(&self, connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
        loop {
            let found = Found::lock(connection).await?;
            if found.turn_of.is_none_or(|writer| writer == self.id) {
                return Ok(found);
            }
            sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
            sleep(TURN_INTERVAL).await;
        }
    }

    /// Makes others wait a moment, so that what lost against them, decided again over what they have written, is next.
    /// Without it, a process that always goes on from its own last commit leaves another one no chance.
    async fn take_turn(&self, connection: &mut PgConnection, tip: &Tip) -> Result<Uuid, sqlx::Error> {
        sqlx::query_scalar(
            "UPDATE log_identity SET fence = gen_random_uuid(), turn_of = $1, turn_at = $2, \
                turn_until = clock_timestamp() + make_interval(secs => $3) RETURNING fence",
        )
        .bind(self.id)
        .bind(tip.position.to_i64())
        .bind(TURN.as_secs_f64())
        .fetch_one(connection)
        .await
    }

    /// Does all but the COMMIT.
    async fn decide_and_write(
        &mut self,
        writing: &mut Writing,
        known: &Tip,
        seen: &[Mark],
        group: &Group<'_>,
    ) -> Result<Written, Failure> {
        let found = self.lock_in_turn(&mut writing.connection).await?;
        self.check(writing, &found, seen).await?;
        writing.fence = found.fence;
        let missed = missed(&mut writing.connection, known, &found.tip).await?;
        let answers = ask(&mut writing.connection, group).await?;
        let plan = group.decide(found.tip.position, &answers);
        let mut tip = found.tip;
        if !plan.is_empty() {
            if !plan.released.is_empty() || !plan.keys.is_empty() {
                remove(&mut writing.connection, &plan).await?;
            }
            let recorded_at = write(writing, &found.tip, &plan)
                .await?
                .ok_or_else(|| Failure::Unavailable("somebody wrote to the log while it was locked".into()))?;
            tip = plan.tip(&found.tip, recorded_at);
        }
        if !plan.events.is_empty() {
            self.own = tip.position;
            self.has_turn = false;
        } else if tip.position > self.own && found.turn_of.is_none() && group.lost(&plan) {
            writing.fence = self.take_turn(&mut writing.connection, &tip).await?;
            self.has_turn = true;
        }
        let (commit, changes) = (plan.uncommitted(), plan.changes());
        Ok(Written {
            verdicts: plan.verdicts,
            tip,
            changes: missed.map(|missed| missed.into_iter().chain(changes).collect()),
            commit,
        })
    }
}

/// Which log it is and where it ends.
struct Found {
    log: (Uuid, u64),
    fence: Uuid,
    tip: Tip,
    /// The writer whose turn it is.
    turn_of: Option<Uuid>,
}

impl Found {
    /// Begins to write alone.
    async fn lock(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        // A row for each lock, and one of the log's end.
        let rows = sqlx::raw_sql(LOCK).fetch_all(connection).await?;
        rows.into_iter().last().map_or(Err(sqlx::Error::RowNotFound), Self::read)
    }

    fn read(row: sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        let (log_id, epoch, fence): (Uuid, i64, Uuid) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (position, id, recorded_at): (i64, Option<Uuid>, DateTime<Utc>) =
            (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        let tip = Tip { position: Position::from_i64(position), id, recorded_at };
        Ok(Self { log: (log_id, epoch.unsigned_abs()), fence, tip, turn_of: row.try_get(6)? })
    }
}

/// The streams that others have written to since `known`; `None` when there are too many.
async fn missed(connection: &mut PgConnection, known: &Tip, tip: &Tip) -> Result<Option<Vec<Change>>, LogError> {
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

async fn ask(connection: &mut PgConnection, group: &Group<'_>) -> Result<Answers, LogError> {
    type Row = (Vec<i64>, Vec<Option<String>>, Vec<Option<Vec<u8>>>, Vec<Option<String>>);
    let streams: Vec<&str> = group.streams.iter().map(|asked| asked.stream.as_str()).collect();
    let (names, keys): (Vec<&str>, Vec<&str>) = group.claims.iter().copied().unzip();
    let digests: Vec<&[u8]> = group.keys.iter().map(|digest| digest.as_slice()).collect();
    let (revisions, holders, bodies, receipts): Row = sqlx::query_as(ANSWER)
        .bind(&streams)
        .bind(&names)
        .bind(&keys)
        .bind(&digests)
        .fetch_one(connection)
        .await?;
    let kept = bodies.into_iter().zip(receipts).map(|(body, receipt)| match (body, receipt) {
        (Some(body), Some(receipt)) => stored::kept(&body, &receipt).map(Some),
        _ => Ok(None),
    });
    Ok(Answers {
        revisions: revisions.into_iter().map(Revision::from_i64).collect(),
        holders: holders
            .into_iter()
            .map(|holder| holder.as_deref().map(stored::holder).transpose())
            .collect::<Result<_, _>>()?,
        kept: kept.collect::<Result<_, _>>()?,
    })
}

async fn remove(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(REMOVE)
        .bind(plan.released.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        .bind(plan.released.iter().map(|(_, key)| *key).collect::<Vec<_>>())
        .bind(plan.keys.iter().map(|(key, _)| key.digest.as_slice()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a plan, if the log still ends at `tip`.
async fn write(writing: &mut Writing, tip: &Tip, plan: &Plan<'_>) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let events = &plan.events;
    let events_only = plan.taken.is_empty() && plan.keys.is_empty();
    let mut query = sqlx::query_scalar(if events_only { WRITE_EVENTS } else { WRITE_ALL })
        .bind(writing.fence)
        .bind(tip.id)
        .bind(tip.recorded_at)
        .bind(tip.position.to_i64())
        .bind(events.iter().map(|event| event.record.stream.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.revision.to_i64()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.event_type.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.schema_version.cast_signed()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.metadata).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.payload.as_str()).collect::<Vec<_>>());
    if !events_only {
        query = query
            .bind(plan.taken.iter().map(|(name, ..)| *name).collect::<Vec<_>>())
            .bind(plan.taken.iter().map(|(_, key, _)| *key).collect::<Vec<_>>())
            .bind(plan.taken.iter().map(|(.., holder)| holder.as_str()).collect::<Vec<_>>())
            .bind(plan.keys.iter().map(|(key, _)| key.digest.as_slice()).collect::<Vec<_>>())
            .bind(plan.keys.iter().map(|(key, _)| key.body.as_slice()).collect::<Vec<_>>())
            .bind(plan.keys.iter().map(|(_, receipt)| receipt.as_str()).collect::<Vec<_>>())
            .bind(plan.keys.iter().map(|(key, _)| key.expires).collect::<Vec<_>>())
            .bind(append::KEY_DAYS);
    }
    query.fetch_optional(&mut writing.connection).await
}
