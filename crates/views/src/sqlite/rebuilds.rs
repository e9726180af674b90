//! Filling a generation's table, and its indexes afterwards.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Sqlite as Lite, SqliteConnection, Transaction};

use super::{Sqlite, index_sql, write, write_commit};
use crate::ranges::Claim;
use crate::slices::fnv;
use crate::store::Commit;
use crate::store::pieces::Pieces;
use crate::store::rebuilds::{Counts, Digest, InTransaction, Sample};
use crate::table::Table;

/// SQLite has no function for it.
async fn digest(connection: &mut SqliteConnection, name: &str) -> Result<Digest, sqlx::Error> {
    let sql = format!("SELECT key, body FROM {name} WHERE body IS NOT NULL");
    let mut rows = sqlx::query_as::<_, (String, String)>(AssertSqlSafe(sql)).fetch(connection);
    let mut sum = 0_u64;
    while let Some((key, body)) = rows.try_next().await? {
        sum = sum.wrapping_add(fnv([key.as_bytes(), b"\0", body.as_bytes()].into_iter().flatten().copied()));
    }
    Ok(Digest(sum))
}

/// Whether all of these ranges are held, and nothing was folded into them yet.
async fn holds(connection: &mut SqliteConnection, generation: i64, claims: &[Claim]) -> Result<bool, sqlx::Error> {
    for claim in claims {
        let is_held: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM view_ranges \
             WHERE generation = $1 AND slice_from = $2 AND slice_to = $3 AND lease_epoch = $4 AND position = 0)",
        )
        .bind(generation)
        .bind(i32::from(claim.slices.from))
        .bind(i32::from(claim.slices.to))
        .bind(claim.lease_epoch)
        .fetch_one(&mut *connection)
        .await?;
        if !is_held {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Sqlite {
    pub(crate) async fn in_transaction<T: Send + 'static>(
        &self,
        run: impl FnOnce(Transaction<'static, Lite>) -> InTransaction<T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        run(self.writer().begin_with("BEGIN IMMEDIATE").await?).await
    }

    /// Runs two statements over one state of the database, and reckons the digests of two tables.
    pub(crate) async fn read_as_one(
        &self,
        counts: String,
        samples: String,
        [one, other]: [i64; 2],
        [served, built]: [&String; 2],
    ) -> Result<(Counts, Vec<Sample>, [Digest; 2]), sqlx::Error> {
        let mut connection = self.reader().acquire().await?;
        let mut transaction = connection.begin().await?;
        let counts = sqlx::query_as(AssertSqlSafe(counts)).bind(one).bind(other);
        let counts = counts.fetch_one(&mut *transaction).await?;
        let samples =
            sqlx::query_as(AssertSqlSafe(samples)).bind(one).bind(other).fetch_all(&mut *transaction).await?;
        let digests = [digest(&mut transaction, served).await?, digest(&mut transaction, built).await?];
        transaction.rollback().await?;
        Ok((counts, samples, digests))
    }

    /// Empties a table that nothing was folded into yet: of what was written of a first part, nothing is to stay.
    pub(crate) async fn truncate(
        &self,
        generation: i64,
        table: &Table,
        claims: &[Claim],
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
        let is_held = holds(&mut transaction, generation, claims).await?;
        if is_held {
            let sql = format!("DELETE FROM {}", table.name);
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(is_held)
    }

    /// Whoever is frozen holds the whole file.
    pub(crate) async fn end_the_dead(_: &mut SqliteConnection, _: i64, _: &Table) -> Result<(), sqlx::Error> {
        Ok(())
    }

    /// There is one who writes at a time, for the whole file: so the first part goes piece by piece, and others come in
    /// between. The checkpoints move behind it; until then, whoever comes next throws away what was written. What is
    /// folded into documents that are there already cannot be told from these, so a later part is written at once.
    pub(crate) async fn bulk(
        &self,
        commit: &Commit<'_>,
        pieces: &Pieces,
        first: bool,
    ) -> Result<bool, sqlx::Error> {
        while first && let Some(piece) = pieces.next().await? {
            let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
            if !holds(&mut transaction, commit.generation, commit.ranges).await? {
                transaction.rollback().await?;
                return Ok(false);
            }
            write(&mut transaction, commit.table, &piece).await?;
            transaction.commit().await?;
        }
        let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
        if !write_commit(&mut transaction, commit).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        while let Some(piece) = pieces.next().await? {
            write(&mut transaction, commit.table, &piece).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Forgets the changes before a position, and the documents that they removed.
    pub(crate) async fn prune_before(
        &self,
        generation: i64,
        table: &Table,
        before: i64,
    ) -> Result<(), sqlx::Error> {
        let removed = format!(
            "DELETE FROM {} WHERE body IS NULL AND position < $2 AND key IN \
             (SELECT value FROM view_changes, json_each(keys) WHERE generation = $1 AND position_to < $2)",
            table.name
        );
        let mut transaction = self.writer().begin_with("BEGIN IMMEDIATE").await?;
        for sql in [removed, "DELETE FROM view_changes WHERE generation = $1 AND position_to < $2".to_owned()] {
            sqlx::query(AssertSqlSafe(sql)).bind(generation).bind(before).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// It has been there from the beginning.
    pub(crate) async fn key(&self, _table: &Table) -> Result<(), sqlx::Error> {
        Ok(())
    }

    pub(crate) async fn index(&self, table: &Table) -> Result<(), sqlx::Error> {
        let removed = format!("DELETE FROM {} WHERE body IS NULL", table.name);
        for statement in std::iter::once(removed).chain(index_sql(table)) {
            sqlx::query(AssertSqlSafe(statement)).execute(self.writer()).await?;
        }
        Ok(())
    }
}
