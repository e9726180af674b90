//! Cutting ranges, putting them together and renewing their leases, each in one transaction at most.

use std::time::Duration;

use uuid::fmt::Hyphenated;

use super::Sqlite;
use crate::ranges::{Claim, Standing};
use crate::store::ranges::{BoardRow, board_sql, is_fed_sql, standings};

impl Sqlite {
    /// Each commit waits for the disk. So nothing is written while more than five eighths of every lease are left: of the
    /// four times that this is called within one, that is every other time.
    pub(crate) async fn renew_all(&self, owner: &str, lease: Duration) -> Result<Vec<Standing>, sqlx::Error> {
        let is_due: bool = sqlx::query_scalar(
            "WITH bounds AS (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || ($1 * 0.625) || ' seconds') AS least, \
                strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || $1 || ' seconds') AS most) \
             SELECT EXISTS (SELECT 1 FROM view_ranges, bounds \
                    WHERE lease_owner = $2 AND lease_until NOT BETWEEN least AND most) \
                OR EXISTS (SELECT 1 FROM projector_workers, bounds \
                    WHERE owner = $2 AND seen_until NOT BETWEEN least AND most)",
        )
        .bind(lease.as_secs_f64())
        .bind(owner)
        .fetch_one(self.reader())
        .await?;
        if is_due {
            let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
            for sql in [
                "UPDATE view_ranges \
                 SET lease_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || $1 || ' seconds') \
                 WHERE lease_owner = $2",
                "UPDATE projector_workers \
                 SET seen_until = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || $1 || ' seconds') WHERE owner = $2",
            ] {
                sqlx::query(sql).bind(lease.as_secs_f64()).bind(owner).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
        }
        let rows: Vec<BoardRow<Hyphenated>> = sqlx::query_as(board_sql!(
            "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
            "json_group_array(owner)",
            is_fed_sql!()
        ))
        .fetch_all(self.reader())
        .await?;
        standings(rows)
    }

    pub(crate) async fn cut(&self, generation: i64, claim: Claim, at: u16) -> Result<(), sqlx::Error> {
        let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO view_ranges (generation, slice_from, slice_to, log_id, epoch, position, event_id, \
                lease_owner, lease_epoch, lease_until, updated_at) \
             SELECT generation, $5, $3, log_id, epoch, position, event_id, lease_owner, lease_epoch + 1, lease_until, \
                updated_at \
             FROM view_ranges WHERE generation = $1 AND slice_from = $2 AND slice_to = $3 AND lease_epoch = $4",
        )
        .bind(generation)
        .bind(i32::from(claim.slices.from))
        .bind(i32::from(claim.slices.to))
        .bind(claim.lease_epoch)
        .bind(i32::from(at))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE view_ranges SET slice_to = $5, lease_epoch = lease_epoch + 1 \
             WHERE generation = $1 AND slice_from = $2 AND slice_to = $3 AND lease_epoch = $4",
        )
        .bind(generation)
        .bind(i32::from(claim.slices.from))
        .bind(i32::from(claim.slices.to))
        .bind(claim.lease_epoch)
        .bind(i32::from(at))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    pub(crate) async fn join(&self, generation: i64, left: Claim, right: Claim) -> Result<(), sqlx::Error> {
        let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
        let fit: bool = sqlx::query_scalar(
            "SELECT count(*) = 2 AND min(position) = max(position) FROM view_ranges WHERE generation = $1 \
               AND (slice_from = $2 AND slice_to = $4 AND lease_epoch = $3 \
                 OR slice_from = $4 AND slice_to = $6 AND lease_epoch = $5)",
        )
        .bind(generation)
        .bind(i32::from(left.slices.from))
        .bind(left.lease_epoch)
        .bind(i32::from(right.slices.from))
        .bind(right.lease_epoch)
        .bind(i32::from(right.slices.to))
        .fetch_one(&mut *transaction)
        .await?;
        if fit {
            sqlx::query("DELETE FROM view_ranges WHERE generation = $1 AND slice_from = $2")
                .bind(generation)
                .bind(i32::from(right.slices.from))
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "UPDATE view_ranges SET slice_to = $3, lease_epoch = lease_epoch + 1 \
                 WHERE generation = $1 AND slice_from = $2",
            )
            .bind(generation)
            .bind(i32::from(left.slices.from))
            .bind(i32::from(right.slices.to))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    }
}
