//! Cutting ranges, putting them together and renewing their leases, each in one statement.

use std::time::Duration;

use uuid::Uuid;

use super::Postgres;
use crate::ranges::{Claim, Standing};
use crate::store::ranges::{BoardRow, board_sql, is_fed_sql, standings};

impl Postgres {
    /// Ranges that are locked are being written, which renews their leases: the others are not to wait for that.
    pub(crate) async fn renew_all(&self, owner: &str, lease: Duration) -> Result<Vec<Standing>, sqlx::Error> {
        let rows: Vec<BoardRow<Uuid>> = sqlx::query_as(concat!(
            "WITH held AS (\
                UPDATE view_ranges SET lease_until = clock_timestamp() + make_interval(secs => $1) \
                WHERE (generation, slice_from) IN (SELECT generation, slice_from FROM view_ranges \
                    WHERE lease_owner = $2 ORDER BY generation, slice_from FOR UPDATE SKIP LOCKED)\
             ), seen AS (\
                UPDATE projector_workers SET seen_until = clock_timestamp() + make_interval(secs => $1) \
                WHERE owner = $2\
             ) ",
            board_sql!("clock_timestamp()", "coalesce(json_agg(owner)::text, '[]')", is_fed_sql!())
        ))
        .bind(lease.as_secs_f64())
        .bind(owner)
        .fetch_all(&self.0)
        .await?;
        standings(rows)
    }

    pub(crate) async fn cut(&self, generation: i64, claim: Claim, at: u16) -> Result<(), sqlx::Error> {
        sqlx::query(
            "WITH cut AS (\
                UPDATE view_ranges SET slice_to = $5, lease_epoch = lease_epoch + 1 \
                WHERE generation = $1 AND slice_from = $2 AND slice_to = $3 AND lease_epoch = $4 RETURNING *\
             ) \
             INSERT INTO view_ranges (generation, slice_from, slice_to, log_id, epoch, position, event_id, \
                lease_owner, lease_epoch, lease_until, updated_at) \
             SELECT generation, $5, $3, log_id, epoch, position, event_id, lease_owner, lease_epoch, lease_until, \
                updated_at FROM cut",
        )
        .bind(generation)
        .bind(i32::from(claim.slices.from))
        .bind(i32::from(claim.slices.to))
        .bind(claim.lease_epoch)
        .bind(i32::from(at))
        .execute(&self.0)
        .await
        .map(drop)
    }

    pub(crate) async fn join(&self, generation: i64, left: Claim, right: Claim) -> Result<(), sqlx::Error> {
        sqlx::query(
            "WITH both_held AS (\
                SELECT slice_from, position FROM view_ranges WHERE generation = $1 \
                  AND (slice_from = $2 AND slice_to = $4 AND lease_epoch = $3 \
                    OR slice_from = $4 AND slice_to = $6 AND lease_epoch = $5) \
                ORDER BY slice_from FOR UPDATE\
             ), fit AS MATERIALIZED (\
                SELECT count(*) = 2 AND min(position) = max(position) AS fit FROM both_held\
             ), gone AS (\
                DELETE FROM view_ranges WHERE generation = $1 AND slice_from = $4 AND (SELECT fit FROM fit)\
             ) \
             UPDATE view_ranges SET slice_to = $6, lease_epoch = lease_epoch + 1 \
             WHERE generation = $1 AND slice_from = $2 AND (SELECT fit FROM fit)",
        )
        .bind(generation)
        .bind(i32::from(left.slices.from))
        .bind(left.lease_epoch)
        .bind(i32::from(right.slices.from))
        .bind(right.lease_epoch)
        .bind(i32::from(right.slices.to))
        .execute(&self.0)
        .await
        .map(drop)
    }
}
