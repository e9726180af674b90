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

    /// Nothing is ever left behind: documents and checkpoint are written in one transaction.
    pub(crate) async fn truncate(&self, _: i64, _: &Table, _: &[Claim]) -> Result<bool, sqlx::Error> {
        Ok(true)
    }

    /// Whoever is frozen holds the whole file.
    pub(crate) async fn end_the_dead(_: &mut SqliteConnection, _: i64, _: &Table) -> Result<(), sqlx::Error> {
        Ok(())
    }

    pub(crate) async fn bulk(
        &self,
        commit: &Commit<'_>,
        pieces: &Pieces,
        _first: bool,
    ) -> Result<bool, sqlx::Error> {
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
