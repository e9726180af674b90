//! Committing groups: four round trips, of which the first takes the head's lock.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use daybook_core::{Position, Revision};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, PgPool, Row};
use tokio::time::timeout;

use crate::group::{Answers, Group, Plan};
use crate::store::{Committed, Failure, Writer};
use crate::stored;
use crate::{LogError, append};

/// How long the database may take over anything but waiting for the head's lock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The statements below are look-ups by key, whatever their parameters and however few rows there are yet. They are
/// planned once, since planning takes longer than executing, and never as a scan, which would be kept while the table
/// grows. A scan of the one-row head then looks so dear that it would be compiled: that takes 0.3 s and is off.
const PLANS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";

/// Locks the head, and reads where the log ends and the time of the next events: the clock's, or the head's when
/// the clock was set back. Both statements go out at once, as simple queries do.
const LOCK_HEAD: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED; \
    SELECT position, greatest(recorded_at, clock_timestamp()) FROM log_head FOR UPDATE";

/// Answers a group's questions, in their order. A statement of its own, since the one that waited for the lock still
/// sees the log as it was when it began to wait.
const ANSWER: &str = "\
    SELECT
        ARRAY (SELECT coalesce((SELECT max(revision) FROM events WHERE stream = asked.stream), 0)
            FROM unnest($1::text[]) WITH ORDINALITY AS asked (stream, place) ORDER BY place),
        ARRAY (SELECT (SELECT holder FROM claims WHERE name = asked.name AND key = asked.key)
            FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS asked (name, key, place) ORDER BY place),
        ARRAY (SELECT (SELECT body FROM idempotency
                WHERE digest = asked.digest AND (expires_at IS NULL OR expires_at > $5))
            FROM unnest($4::bytea[]) WITH ORDINALITY AS asked (digest, place) ORDER BY place),
        ARRAY (SELECT (SELECT receipt::text FROM idempotency
                WHERE digest = asked.digest AND (expires_at IS NULL OR expires_at > $5))
            FROM unnest($4::bytea[]) WITH ORDINALITY AS asked (digest, place) ORDER BY place)";

/// Writes a plan and moves the head.
const WRITE: &str = "\
    WITH head AS (
        UPDATE log_head SET position = $1, recorded_at = $2
    ), taken AS (
        INSERT INTO claims (name, key, holder) SELECT * FROM unnest($3::text[], $4::text[], $5::text[])
        ON CONFLICT (name, key) DO UPDATE SET holder = excluded.holder
    ), released AS (
        DELETE FROM claims USING unnest($6::text[], $7::text[]) AS gone (name, key)
        WHERE claims.name = gone.name AND claims.key = gone.key
    ), kept AS (
        INSERT INTO idempotency (digest, body, receipt, expires_at)
        SELECT digest, body, receipt::json, expires_at
        FROM unnest($8::bytea[], $9::bytea[], $10::text[], $11::timestamptz[]) AS kept (digest, body, receipt, expires_at)
        ON CONFLICT (digest) DO UPDATE
        SET body = excluded.body, receipt = excluded.receipt, expires_at = excluded.expires_at
    )
    INSERT INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload)
    SELECT position, stream, revision, id, type, schema_version, $2, metadata::json, payload::json
    FROM unnest($12::bigint[], $13::text[], $14::bigint[], $15::uuid[], $16::text[], $17::int[], $18::text[], $19::text[])
        AS new (position, stream, revision, id, type, schema_version, metadata, payload)";

/// The writer: one connection of its own, made in the runtime that it is used in.
pub(super) struct PostgresWriter {
    options: PgConnectOptions,
    lock_timeout: Duration,
    /// Taken out while in use, and put back only when all went well: another one is made after whatever failed.
    connection: Option<PgConnection>,
}

impl PostgresWriter {
    pub(super) fn new(pool: &PgPool, lock_timeout: Duration) -> Self {
        let options = pool.connect_options().as_ref().clone().application_name("daybook appender");
        Self { options, lock_timeout, connection: None }
    }

    /// A process that freezes while it holds the head's lock loses it before the others stop waiting.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let lock_ms = self.lock_timeout.as_millis().max(2);
        let settings = format!(
            "SET lock_timeout = {lock_ms}; SET idle_in_transaction_session_timeout = {}; {PLANS}",
            lock_ms / 2
        );
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
        Ok(connection)
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn commit(&mut self, group: &Group<'_>) -> Result<Committed, Failure> {
        let late = |_| Failure::Unavailable("the database did not answer in time".into());
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => timeout(ANSWER_TIMEOUT, self.connect()).await.map_err(late)??,
        };
        let committed = timeout(self.lock_timeout + ANSWER_TIMEOUT, decide_and_write(&mut connection, group))
            .await
            .map_err(late)??;
        match timeout(ANSWER_TIMEOUT, sqlx::raw_sql("COMMIT").execute(&mut connection)).await {
            Ok(Ok(_)) => self.connection = Some(connection),
            Ok(Err(error)) => return Err(Failure::of_commit(error)),
            Err(_) => return Err(Failure::Unknown),
        }
        Ok(committed)
    }
}

/// Does all but the COMMIT.
async fn decide_and_write(connection: &mut PgConnection, group: &Group<'_>) -> Result<Committed, Failure> {
    let head = sqlx::raw_sql(LOCK_HEAD).fetch_one(&mut *connection).await?;
    let (position, now): (i64, DateTime<Utc>) = (head.try_get(0)?, head.try_get(1)?);
    let answers = ask(connection, group, now).await?;
    let plan = group.decide(Position::from_i64(position), &answers);
    if !plan.is_empty() {
        write(connection, &plan, now).await?;
    }
    Ok(Committed { verdicts: plan.verdicts, head: plan.head })
}

async fn ask(connection: &mut PgConnection, group: &Group<'_>, now: DateTime<Utc>) -> Result<Answers, LogError> {
    type Row = (Vec<i64>, Vec<Option<String>>, Vec<Option<Vec<u8>>>, Vec<Option<String>>);
    let streams: Vec<&str> = group.streams.iter().map(|stream| stream.as_str()).collect();
    let (names, keys): (Vec<&str>, Vec<&str>) = group.claims.iter().copied().unzip();
    let digests: Vec<&[u8]> = group.keys.iter().map(|digest| digest.as_slice()).collect();
    let (revisions, holders, bodies, receipts): Row = sqlx::query_as(ANSWER)
        .bind(&streams)
        .bind(&names)
        .bind(&keys)
        .bind(&digests)
        .bind(now)
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

async fn write(connection: &mut PgConnection, plan: &Plan<'_>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let expires = now + TimeDelta::days(append::KEY_DAYS);
    let events = &plan.events;
    sqlx::query(WRITE)
        .bind(plan.head.to_i64())
        .bind(now)
        .bind(plan.taken.iter().map(|(name, ..)| *name).collect::<Vec<_>>())
        .bind(plan.taken.iter().map(|(_, key, _)| *key).collect::<Vec<_>>())
        .bind(plan.taken.iter().map(|(.., holder)| holder.as_str()).collect::<Vec<_>>())
        .bind(plan.released.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        .bind(plan.released.iter().map(|(_, key)| *key).collect::<Vec<_>>())
        .bind(plan.keys.iter().map(|(key, _)| key.digest.as_slice()).collect::<Vec<_>>())
        .bind(plan.keys.iter().map(|(key, _)| key.body.as_slice()).collect::<Vec<_>>())
        .bind(plan.keys.iter().map(|(_, receipt)| receipt.as_str()).collect::<Vec<_>>())
        .bind(plan.keys.iter().map(|(key, _)| key.expires.then_some(expires)).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.position.to_i64()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.stream.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.revision.to_i64()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.event_type.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.schema_version.cast_signed()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.metadata).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.record.payload.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
