//! Generations and their tables.

use sqlx::AssertSqlSafe;

use super::{Sqlite, create_sql};
use crate::generation::{Generation, Phase};
use crate::store::generations::{GenerationRow, NewGeneration, generation, generation_columns};
use crate::table::Table;

impl Sqlite {
    pub(crate) async fn begin_generation(
        &self,
        view: &Table,
        new: &NewGeneration,
    ) -> Result<Option<Generation>, sqlx::Error> {
        let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
        let taken: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM view_generations WHERE projection = $1 AND version = $2 \
                AND $3 <> 'retired' \
                AND (phase IN ('replay', 'catch_up', 'verify', 'held') OR phase = 'live' AND $3 = 'live'))",
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
            "INSERT INTO view_generations (projection, version, number, phase, shards, confirm_diff, \
                declaration, started_by, started_at, phase_at) \
             SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
             FROM view_generations WHERE projection = $1 RETURNING ",
            generation_columns!()
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
        sqlx::query(
            "INSERT INTO view_ranges (generation, slice_from, slice_to, log_id, epoch, position, event_id, \
                lease_epoch, updated_at) \
             VALUES ($1, 0, 1024, $2, $3, $4, $5, 0, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
        )
        .bind(generation.id)
        .bind(new.start.log_id.hyphenated())
        .bind(new.start.epoch as i64)
        .bind(new.start.position.to_i64())
        .bind(new.start.event_id.hyphenated())
        .execute(&mut *transaction)
        .await?;
        let table = view.of(&generation);
        for statement in create_sql(&table, new.phase == Phase::Replay) {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(Some(generation))
    }
}
