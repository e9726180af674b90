//! Ranges, their leases, and who shares them.

use std::time::Duration;

use async_trait::async_trait;
use daybook_core::Position;
use daybook_log::Checkpoint;
use uuid::Uuid;

use crate::ranges::{Board, Claim, Range, Standing};
use crate::slices::Slices;
use crate::status::Stopped;

/// What is asked of a database about the ranges of a generation.
#[async_trait]
pub(crate) trait Ranges: Send + Sync {
    /// All ranges of a generation, and its workers: `owner` is one of them from now on. `None` when it is gone.
    async fn board(&self, generation: i64, owner: &str, lease: Duration) -> Result<Option<Board>, sqlx::Error>;

    /// Takes a range for `owner`, with the next lease epoch, when it is as it was seen and is free, ran out, or is the
    /// owner's own. What stopped it before is forgotten: it is tried anew.
    async fn take(&self, generation: i64, claim: Claim, owner: &str, lease: Duration)
    -> Result<bool, sqlx::Error>;

    /// Gives a range back, if it is still held.
    async fn give_back(&self, generation: i64, claim: Claim) -> Result<(), sqlx::Error>;

    /// Gives back all ranges that `owner` still holds of a generation. `stopped` says why those that stand furthest behind
    /// do not go on, and where they stand.
    async fn give_all_back(
        &self,
        generation: i64,
        owner: &str,
        stopped: Option<(Position, &Stopped)>,
    ) -> Result<(), sqlx::Error>;

    /// Cuts a range in two in front of a slice, if it is still held. Both are held under the next lease epoch.
    async fn split(&self, generation: i64, claim: Claim, at: u16) -> Result<(), sqlx::Error>;

    /// Puts two ranges together, if both are still held and stand at one position.
    async fn merge(&self, generation: i64, left: Claim, right: Claim) -> Result<(), sqlx::Error>;

    /// Renews all leases that `owner` holds, and its places among the workers; answers how all generations stand that are
    /// fed, of whichever projection.
    async fn renew(&self, owner: &str, lease: Duration) -> Result<Vec<Standing>, sqlx::Error>;

    /// Is no worker of a generation any more.
    async fn leave(&self, generation: i64, owner: &str) -> Result<(), sqlx::Error>;
}

/// A row of a board: generation, projection and version, its shards, phase and whether it is paused, its workers as JSON;
/// and a range: from, to, log id, epoch, position, event id, lease epoch, owner.
pub(crate) type BoardRow<Id> =
    (i64, String, i64, i32, String, bool, String, i32, i32, Id, i64, i64, Id, i64, Option<String>);

/// Reads [`BoardRow`]s, by generation and slice. `$now` and `$workers` are as in [`ranges!`].
macro_rules! board_sql {
    ($now:literal, $workers:literal, $($condition:tt)*) => {
        concat!(
            "SELECT generation, projection, version, shards, phase, paused, \
                (SELECT ",
            $workers,
            " FROM projector_workers AS worker \
                 WHERE worker.generation = view_generations.generation AND seen_until >= ",
            $now,
            "), \
                slice_from, slice_to, log_id, epoch, position, event_id, lease_epoch, \
                CASE WHEN lease_until >= ",
            $now,
            " THEN lease_owner END \
             FROM view_generations JOIN view_ranges USING (generation) \
             WHERE ",
            $($condition)*,
            " ORDER BY generation, slice_from"
        )
    };
}
pub(crate) use board_sql;

/// The condition that a generation is fed.
macro_rules! is_fed_sql {
    () => {
        "phase IN ('replay', 'catch_up', 'verify', 'held', 'live', 'retired')"
    };
}
pub(crate) use is_fed_sql;

/// The boards in some rows, in the order of their generations.
pub(crate) fn standings<Id: Into<Uuid>>(rows: Vec<BoardRow<Id>>) -> Result<Vec<Standing>, sqlx::Error> {
    let mut standings: Vec<Standing> = Vec::new();
    for row in rows {
        let (generation, projection, version, shards, phase, paused, workers, from, to, log_id, epoch, ..) = row;
        let (.., position, event_id, lease_epoch, owner) = row;
        let range = Range {
            slices: Slices { from: from as u16, to: to as u16 },
            checkpoint: Checkpoint {
                log_id: log_id.into(),
                epoch: epoch as u64,
                position: Position::from_i64(position),
                event_id: event_id.into(),
            },
            lease_epoch,
            owner,
        };
        match standings.last_mut().filter(|last| last.generation == generation) {
            Some(last) => last.board.ranges.push(range),
            None => {
                let phase = phase.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
                let workers =
                    serde_json::from_str(&workers).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
                let board = Board { ranges: vec![range], workers, shards: shards as u16, phase, paused };
                standings.push(Standing { generation, projection, version: version as u32, board });
            }
        }
    }
    Ok(standings)
}

/// The statements that both databases understand, but for their clocks: `$now`, and `$later`, which is the first
/// parameter's seconds from now. `$workers` makes JSON of the workers' names. Where several ranges are locked, that is in
/// the order of their slices (`$lock`), as everywhere.
macro_rules! ranges {
    ($store:ty, $id:ty, $now:literal, $later:literal, $lock:literal, $workers:literal) => {
        #[async_trait]
        impl Ranges for $store {
            async fn board(
                &self,
                generation: i64,
                owner: &str,
                lease: Duration,
            ) -> Result<Option<Board>, sqlx::Error> {
                let rows = sqlx::query_as(board_sql!($now, $workers, "generation = $1"))
                    .bind(generation)
                    .fetch_all(self.reader())
                    .await?;
                let rows: Vec<BoardRow<$id>> = rows;
                let Some(mut board) = standings(rows)?.pop().map(|one| one.board) else { return Ok(None) };
                if board.workers.insert(owner.to_owned()) {
                    sqlx::query(concat!(
                        "DELETE FROM projector_workers WHERE generation = $1 AND seen_until < ",
                        $now
                    ))
                    .bind(generation)
                    .execute(self.writer())
                    .await?;
                    sqlx::query(concat!(
                        "INSERT INTO projector_workers (generation, owner, seen_until) VALUES ($2, $3, ",
                        $later,
                        ") \
                         ON CONFLICT (generation, owner) DO UPDATE SET seen_until = excluded.seen_until"
                    ))
                    .bind(lease.as_secs_f64())
                    .bind(generation)
                    .bind(owner)
                    .execute(self.writer())
                    .await?;
                }
                Ok(Some(board))
            }

            async fn take(
                &self,
                generation: i64,
                claim: Claim,
                owner: &str,
                lease: Duration,
            ) -> Result<bool, sqlx::Error> {
                let taken = sqlx::query(concat!(
                    "UPDATE view_ranges SET lease_owner = $2, lease_epoch = lease_epoch + 1, lease_until = ",
                    $later,
                    ", stopped_reason = NULL, stopped_position = NULL \
                     WHERE generation = $3 AND slice_from = $4 AND slice_to = $5 AND lease_epoch = $6 \
                       AND (lease_until IS NULL OR lease_until < ",
                    $now,
                    " OR lease_owner = $2)"
                ))
                .bind(lease.as_secs_f64())
                .bind(owner)
                .bind(generation)
                .bind(i32::from(claim.slices.from))
                .bind(i32::from(claim.slices.to))
                .bind(claim.lease_epoch)
                .execute(self.writer())
                .await?;
                Ok(taken.rows_affected() == 1)
            }

            async fn give_back(&self, generation: i64, claim: Claim) -> Result<(), sqlx::Error> {
                sqlx::query(
                    "UPDATE view_ranges SET lease_owner = NULL, lease_until = NULL \
                     WHERE generation = $1 AND slice_from = $2 AND slice_to = $3 AND lease_epoch = $4",
                )
                .bind(generation)
                .bind(i32::from(claim.slices.from))
                .bind(i32::from(claim.slices.to))
                .bind(claim.lease_epoch)
                .execute(self.writer())
                .await
                .map(drop)
            }

            async fn give_all_back(
                &self,
                generation: i64,
                owner: &str,
                stopped: Option<(Position, &Stopped)>,
            ) -> Result<(), sqlx::Error> {
                let (stands_at, stopped) = stopped.unzip();
                sqlx::query(concat!(
                    "UPDATE view_ranges SET lease_owner = NULL, lease_until = NULL, \
                        stopped_reason = CASE WHEN position = $3 THEN $4 END, \
                        stopped_position = CASE WHEN position = $3 THEN $5 END \
                     WHERE generation = $1 AND slice_from IN (SELECT slice_from FROM view_ranges \
                        WHERE generation = $1 AND lease_owner = $2 ORDER BY slice_from",
                    $lock,
                    ")"
                ))
                .bind(generation)
                .bind(owner)
                .bind(stands_at.map(Position::to_i64))
                .bind(stopped.map(|stopped| stopped.reason.as_str()))
                .bind(stopped.map(|stopped| stopped.position.to_i64()))
                .execute(self.writer())
                .await
                .map(drop)
            }

            async fn split(&self, generation: i64, claim: Claim, at: u16) -> Result<(), sqlx::Error> {
                self.cut(generation, claim, at).await
            }

            async fn merge(&self, generation: i64, left: Claim, right: Claim) -> Result<(), sqlx::Error> {
                self.join(generation, left, right).await
            }

            async fn renew(&self, owner: &str, lease: Duration) -> Result<Vec<Standing>, sqlx::Error> {
                self.renew_all(owner, lease).await
            }

            async fn leave(&self, generation: i64, owner: &str) -> Result<(), sqlx::Error> {
                sqlx::query("DELETE FROM projector_workers WHERE generation = $1 AND owner = $2")
                    .bind(generation)
                    .bind(owner)
                    .execute(self.writer())
                    .await
                    .map(drop)
            }
        }
    };
}

ranges!(
    crate::postgres::Postgres,
    Uuid,
    "clock_timestamp()",
    "clock_timestamp() + make_interval(secs => $1)",
    " FOR UPDATE",
    "coalesce(json_agg(owner)::text, '[]')"
);
ranges!(
    crate::sqlite::Sqlite,
    uuid::fmt::Hyphenated,
    "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || $1 || ' seconds')",
    "",
    "json_group_array(owner)"
);
