//! Generations: the list of them, and how each comes to be.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::Position;
use daybook_log::Checkpoint;
use sqlx::AssertSqlSafe;

use crate::generation::{Generation, Phase};
use crate::table::Table;

/// A generation that is to be.
#[derive(Debug, Clone)]
pub(crate) struct NewGeneration {
    pub(crate) phase: Phase,
    pub(crate) shards: u16,
    pub(crate) confirm_diff: bool,
    pub(crate) started_by: String,
    /// Where its fold begins.
    pub(crate) start: Checkpoint,
}

/// What is asked of a database about generations.
#[async_trait]
pub(crate) trait Generations: Send + Sync {
    /// All generations of a projection, in the order of their numbers.
    async fn generations(&self, projection: &str) -> Result<Vec<Generation>, sqlx::Error>;

    /// Begins a generation of `view` with one range and its table, which has no indexes yet when it is to be replayed.
    /// `None` when there is one already that is being built, or, where this one is to be live, that is live; another
    /// process may also come first with [`Fault::Duplicate`](daybook_database::Fault::Duplicate).
    async fn begin(&self, view: &Table, new: &NewGeneration) -> Result<Option<Generation>, sqlx::Error>;

    /// Says how far a generation was folded in memory; answers whether it is to go on.
    async fn set_replayed(&self, generation: i64, replayed: Position) -> Result<bool, sqlx::Error>;

    /// In how many ranges a generation is to be folded from now on.
    async fn set_shards(&self, generation: i64, shards: u16) -> Result<(), sqlx::Error>;
}

/// A row of `view_generations`.
pub(crate) type GenerationRow = (
    i64,
    String,
    i64,
    i64,
    String,
    bool,
    bool,
    i64,
    String,
    Option<String>,
    String,
    Time,
    Time,
    Option<Time>,
    f64,
    Time,
);
type Time = DateTime<Utc>;

/// The columns of [`GenerationRow`], the last of which says when it was read.
macro_rules! generation_columns {
    ($now:literal) => {
        concat!(
            "generation, projection, version, number, phase, paused, confirm_diff, replayed, declaration, report, \
             started_by, started_at, phase_at, paused_at, paused_seconds, ",
            $now,
            " AS seen_at"
        )
    };
}
pub(crate) use generation_columns;

pub(crate) fn generation(row: GenerationRow) -> Result<Generation, sqlx::Error> {
    let (
        id,
        projection,
        version,
        number,
        phase,
        paused,
        confirm_diff,
        replayed,
        declaration,
        report,
        started_by,
        started_at,
        phase_at,
        paused_at,
        paused_seconds,
        seen_at,
    ) = row;
    Ok(Generation {
        id,
        projection,
        version: version as u32,
        number: number as u32,
        phase: phase.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?,
        paused,
        confirm_diff,
        replayed: Position::from_i64(replayed),
        declaration,
        report,
        started_by,
        started_at,
        phase_at,
        paused_at,
        paused_seconds,
        seen_at,
    })
}

/// The statements that both databases understand, but for the clock (`$now`), how ids are written (`$id`), and how tables are
/// made (`$create`).
macro_rules! generations {
    ($store:ty, $id:ty, $now:literal, $create:path) => {
        #[async_trait]
        impl Generations for $store {
            async fn generations(&self, projection: &str) -> Result<Vec<Generation>, sqlx::Error> {
                let rows: Vec<GenerationRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    generation_columns!($now),
                    " FROM view_generations WHERE projection = $1 ORDER BY number"
                ))
                .bind(projection)
                .fetch_all(self.reader())
                .await?;
                rows.into_iter().map(generation).collect()
            }

            async fn begin(&self, view: &Table, new: &NewGeneration) -> Result<Option<Generation>, sqlx::Error> {
                let (view, new) = (view.clone(), new.clone());
                self.in_transaction(move |mut transaction| {
                    Box::pin(async move {
                        let taken: bool = sqlx::query_scalar(
                            "SELECT EXISTS (SELECT 1 FROM view_generations WHERE projection = $1 AND version = $2 \
                                AND $3 <> 'retired' \
                                AND (phase IN ('replay', 'catch_up', 'verify', 'held') \
                                    OR phase = 'live' AND $3 = 'live'))",
                        )
                        .bind(view.projection)
                        .bind(i64::from(view.version))
                        .bind(new.phase.as_str())
                        .fetch_one(&mut *transaction)
                        .await?;
                        if taken {
                            transaction.rollback().await?;
                            return Ok(None);
                        }
                        let row: GenerationRow = sqlx::query_as(concat!(
                            "INSERT INTO view_generations (projection, version, number, phase, shards, \
                                confirm_diff, declaration, started_by, started_at, phase_at) \
                             SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7, ",
                            $now,
                            ", ",
                            $now,
                            " FROM view_generations WHERE projection = $1 RETURNING ",
                            generation_columns!($now)
                        ))
                        .bind(view.projection)
                        .bind(i64::from(view.version))
                        .bind(new.phase.as_str())
                        .bind(i32::from(new.shards))
                        .bind(new.confirm_diff)
                        .bind(view.declaration())
                        .bind(&new.started_by)
                        .fetch_one(&mut *transaction)
                        .await?;
                        let generation = generation(row)?;
                        sqlx::query(concat!(
                            "INSERT INTO view_ranges (generation, slice_from, slice_to, log_id, epoch, position, \
                                event_id, lease_epoch, updated_at) \
                             VALUES ($1, 0, 1024, $2, $3, $4, $5, 0, ",
                            $now,
                            ")"
                        ))
                        .bind(generation.id)
                        .bind(<$id>::from(new.start.log_id))
                        .bind(new.start.epoch as i64)
                        .bind(new.start.position.to_i64())
                        .bind(<$id>::from(new.start.event_id))
                        .execute(&mut *transaction)
                        .await?;
                        for statement in $create(&view.of(&generation), new.phase == Phase::Replay) {
                            sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
                        }
                        transaction.commit().await?;
                        Ok(Some(generation))
                    })
                })
                .await
            }

            async fn set_replayed(&self, generation: i64, replayed: Position) -> Result<bool, sqlx::Error> {
                let noted = sqlx::query(
                    "UPDATE view_generations SET replayed = $2 \
                     WHERE generation = $1 AND phase = 'replay' AND NOT paused",
                )
                .bind(generation)
                .bind(replayed.to_i64())
                .execute(self.writer())
                .await?;
                Ok(noted.rows_affected() == 1)
            }

            async fn set_shards(&self, generation: i64, shards: u16) -> Result<(), sqlx::Error> {
                sqlx::query("UPDATE view_generations SET shards = $2 WHERE generation = $1 AND shards <> $2")
                    .bind(generation)
                    .bind(i32::from(shards))
                    .execute(self.writer())
                    .await
                    .map(drop)
            }
        }
    };
}

generations!(crate::postgres::Postgres, uuid::Uuid, "clock_timestamp()", crate::postgres::create_sql);
generations!(
    crate::sqlite::Sqlite,
    uuid::fmt::Hyphenated,
    "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    crate::sqlite::create_sql
);
