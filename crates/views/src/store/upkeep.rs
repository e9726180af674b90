//! Removing what nobody needs any more.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::generations::{GenerationRow, generation, generation_columns};
use crate::generation::{Generation, Phase};
use crate::table::Table;

/// The tables in which something is known of a generation's documents.
pub(crate) const KNOWN_OF_DOCUMENTS: [&str; 4] =
    ["view_ranges", "projector_workers", "view_dead_letters", "view_changes"];

/// What is asked of a database about what has had its time.
#[async_trait]
pub(crate) trait Upkeep: Send + Sync {
    /// Forgets the changes of a generation that are older than `keep`, but for the newest of these, and with them the
    /// documents that they removed.
    async fn prune(&self, generation: i64, table: &Table, keep: Duration) -> Result<(), sqlx::Error>;

    /// The generations that can be dropped by a program that serves a view's `version`: those that were retired longer ago
    /// than `after`; and, once its own version is served, those of older versions that nobody has fed for as long.
    async fn outlived(&self, view: &Table, after: Duration) -> Result<Vec<Generation>, sqlx::Error>;

    /// Removes a generation's table and all that is known of its documents; it is in phase `to` from then on. `false` when
    /// it was put to another use since it was seen. Whoever writes to it is waited for, or ended when no lease is held any
    /// more.
    async fn remove(&self, seen: &Generation, table: &Table, to: Phase) -> Result<bool, sqlx::Error>;
}

/// Statements for both databases, but for their clocks: `$now`, and `$ago`, which is the first parameter's seconds before.
macro_rules! upkeep {
    ($store:ty, $now:literal, $ago:literal) => {
        #[async_trait]
        impl Upkeep for $store {
            async fn prune(&self, generation: i64, table: &Table, keep: Duration) -> Result<(), sqlx::Error> {
                // Of changes, the oldest are in front. One that is young keeps those behind it; and the newest that is
                // old stays, so that it can be told from where on all are there.
                let behind: Option<i64> = sqlx::query_scalar(concat!(
                    "SELECT max(position_to) FROM view_changes WHERE generation = $2 AND position_to < coalesce( \
                        (SELECT position_to FROM view_changes WHERE generation = $2 AND committed_at >= ",
                    $ago,
                    " ORDER BY position_to LIMIT 1), \
                        (SELECT max(position_to) + 1 FROM view_changes WHERE generation = $2))"
                ))
                .bind(keep.as_secs_f64())
                .bind(generation)
                .fetch_one(self.writer())
                .await?;
                match behind {
                    Some(behind) => self.prune_before(generation, table, behind).await,
                    None => Ok(()),
                }
            }

            async fn outlived(&self, view: &Table, after: Duration) -> Result<Vec<Generation>, sqlx::Error> {
                let rows: Vec<GenerationRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    generation_columns!($now),
                    " FROM view_generations AS one WHERE projection = $2 AND version <= $3 \
                        AND (phase = 'retired' AND phase_at < ",
                    $ago,
                    " OR version < $3 AND phase IN ('replay', 'catch_up', 'verify', 'held', 'live') \
                        AND EXISTS (SELECT 1 FROM view_generations \
                            WHERE projection = $2 AND version = $3 AND phase = 'live') \
                        AND NOT EXISTS (SELECT 1 FROM view_ranges AS range WHERE range.generation = one.generation \
                            AND coalesce(lease_until, updated_at) >= ",
                    $ago,
                    "))"
                ))
                .bind(after.as_secs_f64())
                .bind(view.projection)
                .bind(i64::from(view.version))
                .fetch_all(self.reader())
                .await?;
                rows.into_iter().map(generation).collect()
            }

            async fn remove(&self, seen: &Generation, table: &Table, to: Phase) -> Result<bool, sqlx::Error> {
                let (id, phase, table) = (seen.id, seen.phase, table.clone());
                self.in_transaction(move |mut transaction| {
                    Box::pin(async move {
                        let moved = sqlx::query(concat!(
                            "UPDATE view_generations SET phase = $2, phase_at = ",
                            $now,
                            " WHERE generation = $1 \
                                AND (phase = $3 OR phase IN ('replay', 'catch_up', 'verify', 'held'))"
                        ))
                        .bind(id)
                        .bind(to.as_str())
                        .bind(phase.as_str())
                        .execute(&mut *transaction)
                        .await?;
                        if moved.rows_affected() == 0 {
                            transaction.rollback().await?;
                            return Ok(false);
                        }
                        Self::end_the_dead(&mut transaction, id, &table).await?;
                        // Whoever writes locks the table before the ranges.
                        let drop_table = format!("DROP TABLE IF EXISTS {}", table.name);
                        sqlx::query(AssertSqlSafe(drop_table)).execute(&mut *transaction).await?;
                        for table in KNOWN_OF_DOCUMENTS {
                            let sql = format!("DELETE FROM {table} WHERE generation = $1");
                            sqlx::query(AssertSqlSafe(sql)).bind(id).execute(&mut *transaction).await?;
                        }
                        transaction.commit().await?;
                        Ok(true)
                    })
                })
                .await
            }
        }
    };
}

upkeep!(crate::postgres::Postgres, "clock_timestamp()", "clock_timestamp() - make_interval(secs => $1)");
upkeep!(
    crate::sqlite::Sqlite,
    "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || $1 || ' seconds')"
);
