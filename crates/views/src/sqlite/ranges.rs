//! Cutting ranges and putting them together, each in one transaction.

use super::Sqlite;
use crate::ranges::Claim;

impl Sqlite {
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
