//! Filling a generation's table at the speed of the disk, and its indexes afterwards.

use std::pin::Pin;

use daybook_core::Changed;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Postgres as Pg, Transaction};

use super::{Postgres, commit_sql, execute_commit, in_a_task, index_sql};
use crate::store::Commit;
use crate::table::Table;

/// How many bytes of rows are sent at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// The most documents that are written by one statement where there is a key.
const DOCUMENTS: usize = 5_000;

type InTransaction<T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send>>;
type Counts = (i64, i64, i64, i64, i64, i64);
type Sample = (String, Option<String>, Option<String>);

impl Postgres {
    /// Runs a transaction whose statements take as long as they take.
    pub(crate) async fn in_transaction<T: Send + 'static>(
        &self,
        run: impl FnOnce(Transaction<'static, Pg>) -> InTransaction<T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        let pool = self.0.clone();
        in_a_task(async move {
            let mut transaction = pool.begin().await?;
            sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
            run(transaction).await
        })
        .await
    }

    /// Runs two statements over one state of the database.
    pub(crate) async fn read_as_one(
        &self,
        counts: String,
        samples: String,
        [one, other]: [i64; 2],
    ) -> Result<(Counts, Vec<Sample>), sqlx::Error> {
        self.in_transaction(move |mut transaction| {
            Box::pin(async move {
                sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    .execute(&mut *transaction)
                    .await?;
                let counts = sqlx::query_as(AssertSqlSafe(counts)).bind(one).bind(other);
                let counts = counts.fetch_one(&mut *transaction).await?;
                let samples = sqlx::query_as(AssertSqlSafe(samples))
                    .bind(one)
                    .bind(other)
                    .fetch_all(&mut *transaction)
                    .await?;
                transaction.rollback().await?;
                Ok((counts, samples))
            })
        })
        .await
    }

    /// Documents go by COPY into a table that has no key yet.
    pub(crate) async fn bulk(&self, commit: &Commit<'_>, first: bool) -> Result<bool, sqlx::Error> {
        // A connection of its own: when this is given up, it is closed, and with it the transaction.
        let mut connection = self.0.acquire().await?.detach();
        let mut transaction = connection.begin().await?;
        sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
        let without = Commit { changed: &[], ..*commit };
        if !execute_commit(&mut *transaction, commit_sql(commit.table, false), &without).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        if first {
            copy(&mut transaction, commit.table, commit.changed).await?;
        } else {
            for piece in commit.changed.chunks(DOCUMENTS) {
                upsert(&mut transaction, commit.table, piece).await?;
            }
        }
        transaction.commit().await?;
        connection.close().await?;
        Ok(true)
    }

    /// Forgets the changes before a position, and the documents that they removed.
    pub(crate) async fn prune_before(
        &self,
        generation: i64,
        table: &Table,
        before: i64,
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "WITH gone AS (DELETE FROM view_changes WHERE generation = $1 AND position_to < $2 RETURNING keys) \
             DELETE FROM {} WHERE body IS NULL AND position < $2 AND key IN (SELECT unnest(keys) FROM gone)",
            table.name
        );
        sqlx::query(AssertSqlSafe(sql)).bind(generation).bind(before).execute(&self.0).await.map(drop)
    }

    pub(crate) async fn key(&self, table: &Table) -> Result<(), sqlx::Error> {
        let mut connection = self.0.acquire().await?.detach();
        make(&mut connection, table, &index_sql(table)[..1]).await?;
        connection.close().await
    }

    pub(crate) async fn index(&self, table: &Table) -> Result<(), sqlx::Error> {
        let mut connection = self.0.acquire().await?.detach();
        make(&mut connection, table, &index_sql(table)).await?;
        let removed = format!("DELETE FROM {} WHERE body IS NULL", table.name);
        sqlx::query(AssertSqlSafe(removed)).execute(&mut connection).await?;
        connection.close().await
    }
}

/// Makes the key, unless it is there, and the indexes.
async fn make(connection: &mut PgConnection, table: &Table, statements: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
    let has_key: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass($1) AND indisprimary)",
    )
    .bind(&table.name)
    .fetch_one(&mut *connection)
    .await?;
    for statement in statements.iter().skip(usize::from(has_key)) {
        sqlx::query(AssertSqlSafe(statement.as_str())).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn upsert(connection: &mut PgConnection, table: &Table, changed: &[Changed]) -> Result<(), sqlx::Error> {
    let sql = format!(
        "INSERT INTO {} (key, body, position, revision) SELECT key, body::jsonb, position, revision \
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS new (key, body, position, revision) \
         ON CONFLICT (key) DO UPDATE \
         SET body = excluded.body, position = excluded.position, revision = excluded.revision",
        table.name
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(changed.iter().map(|document| document.key.as_str()).collect::<Vec<_>>())
        .bind(changed.iter().map(|document| document.body.as_deref()).collect::<Vec<_>>())
        .bind(changed.iter().map(|document| document.position.to_i64()).collect::<Vec<_>>())
        .bind(changed.iter().map(|document| document.revision.to_i64()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

async fn copy(connection: &mut PgConnection, table: &Table, changed: &[Changed]) -> Result<(), sqlx::Error> {
    let sql = format!("COPY {} (key, body, position, revision) FROM STDIN", table.name);
    let mut sink = connection.copy_in_raw(&sql).await?;
    let mut rows = String::with_capacity(CHUNK_BYTES * 2);
    for document in changed {
        escape(&document.key, &mut rows);
        rows.push('\t');
        match &document.body {
            Some(body) => escape(body, &mut rows),
            None => rows.push_str("\\N"),
        }
        rows.push_str(&format!("\t{}\t{}\n", document.position, document.revision));
        if rows.len() >= CHUNK_BYTES {
            sink.send(rows.as_bytes()).await?;
            rows.clear();
        }
    }
    sink.send(rows.as_bytes()).await?;
    sink.finish().await.map(drop)
}

/// As COPY's text format wants it.
fn escape(text: &str, rows: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => rows.push_str("\\\\"),
            '\t' => rows.push_str("\\t"),
            '\n' => rows.push_str("\\n"),
            '\r' => rows.push_str("\\r"),
            other => rows.push(other),
        }
    }
}
