//! Filling a generation's table at the speed of the disk, and its indexes afterwards.

use daybook_core::Changed;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Postgres as Pg, Transaction};

use super::{Postgres, commit_sql, execute_commit, index_sql};
use crate::ranges::Claim;
use crate::store::Commit;
use crate::store::pieces::Pieces;
use crate::store::rebuilds::{Counts, Digest, InTransaction, Sample};
use crate::table::Table;

/// What the binary form of COPY begins with: its signature, no flags, and nothing else in front of the rows.
const COPY_BEGIN: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The form that `jsonb` is sent in, which is text.
const JSONB_FORM: u8 = 1;

/// Whoever holds locks that others wait for, and freezes, is cut off before these stop waiting. For transactions that are
/// never idle otherwise.
const CUT_OFF: &str = "SET LOCAL idle_in_transaction_session_timeout = '3s'";

impl Postgres {
    /// Runs a transaction whose statements take as long as they take, but do not wait for locks that long, and do not keep
    /// others waiting when this process freezes. It is a task: one that is dropped while it awaits `BEGIN` would stay open on
    /// a connection that goes back to the pool.
    pub(crate) async fn in_transaction<T: Send + 'static>(
        &self,
        run: impl FnOnce(Transaction<'static, Pg>) -> InTransaction<T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        let pool = self.0.clone();
        let transaction = async move {
            let mut transaction = pool.begin().await?;
            let limits = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'";
            sqlx::raw_sql(limits).execute(&mut *transaction).await?;
            sqlx::raw_sql(CUT_OFF).execute(&mut *transaction).await?;
            run(transaction).await
        };
        tokio::spawn(transaction).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Runs two statements over one state of the database, and reckons the digests of two tables.
    pub(crate) async fn read_as_one(
        &self,
        counts: String,
        samples: String,
        [one, other]: [i64; 2],
        tables: [&String; 2],
    ) -> Result<(Counts, Vec<Sample>, [Digest; 2]), sqlx::Error> {
        let [served, built] = tables.map(|name| {
            format!(
                "(SELECT coalesce(sum(jsonb_hash_extended(body, hashtextextended(key, 0))), 0) FROM {name} \
                 WHERE body IS NOT NULL)"
            )
        });
        // The remainder of what may be negative, as bits.
        let digests =
            format!("SELECT ({served} % 18446744073709551616)::text, ({built} % 18446744073709551616)::text");
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
                let digests: (String, String) =
                    sqlx::query_as(AssertSqlSafe(digests)).fetch_one(&mut *transaction).await?;
                transaction.rollback().await?;
                Ok((counts, samples, [digest(&digests.0)?, digest(&digests.1)?]))
            })
        })
        .await
    }

    /// Documents go by COPY into a table that has no key yet. The checkpoints move behind them: until then, no range is
    /// locked, and what is lost meanwhile is noticed.
    pub(crate) async fn bulk(
        &self,
        commit: &Commit<'_>,
        pieces: &Pieces,
        first: bool,
    ) -> Result<bool, sqlx::Error> {
        if first {
            let (mut one, mut other) = (self.unlimited().await?, self.unlimited().await?);
            let copied = copy_first(&mut one, &mut other, commit, pieces).await?;
            other.close().await?;
            one.close().await?;
            return Ok(copied);
        }
        let mut one = self.apart().await?;
        let mut transaction = one.begin().await?;
        sqlx::raw_sql(CUT_OFF).execute(&mut *transaction).await?;
        while let Some(piece) = pieces.next().await? {
            upsert(&mut transaction, commit.table, &piece).await?;
        }
        let is_held = move_checkpoints(&mut transaction, commit).await?;
        match is_held {
            true => transaction.commit().await?,
            false => transaction.rollback().await?,
        }
        one.close().await?;
        Ok(is_held)
    }

    /// Empties a table that nothing was folded into yet, and that nobody else is to write to. Whoever still does may wait
    /// for the ranges, with a lock on the table; so it is ended, and not waited for.
    pub(crate) async fn truncate(
        &self,
        generation: i64,
        table: &Table,
        claims: &[Claim],
    ) -> Result<bool, sqlx::Error> {
        let (claims, name) = (claims.to_vec(), table.name.clone());
        self.in_transaction(move |mut transaction| {
            Box::pin(async move {
                let is_held = holds(&mut transaction, generation, &claims, true).await?;
                if is_held {
                    end_writers(&mut transaction, &name).await?;
                    let sql = format!("TRUNCATE {name}");
                    sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
                Ok(is_held)
            })
        })
        .await
    }

    /// Ends those who write to the table of a generation, if it is nobody's: they are dead or frozen, and what they wrote
    /// is not to be kept.
    pub(crate) async fn end_the_dead(
        transaction: &mut PgConnection,
        generation: i64,
        table: &Table,
    ) -> Result<(), sqlx::Error> {
        let is_held: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM view_ranges WHERE generation = $1 AND lease_until >= clock_timestamp())",
        )
        .bind(generation)
        .fetch_one(&mut *transaction)
        .await?;
        if is_held { Ok(()) } else { end_writers(transaction, &table.name).await }
    }

    /// A connection of its own: when this is given up, it is closed, and with it the transaction.
    async fn apart(&self) -> Result<PgConnection, sqlx::Error> {
        Ok(self.0.acquire().await?.detach())
    }

    /// A connection of its own, whose statements take as long as they take, but do not wait for locks that long.
    async fn unlimited(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.apart().await?;
        sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = '5s'").execute(&mut connection).await?;
        Ok(connection)
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
        let mut connection = self.unlimited().await?;
        make(&mut connection, table, &index_sql(table)[..1]).await?;
        connection.close().await
    }

    pub(crate) async fn index(&self, table: &Table) -> Result<(), sqlx::Error> {
        let mut connection = self.unlimited().await?;
        make(&mut connection, table, &index_sql(table)).await?;
        let removed = format!("DELETE FROM {} WHERE body IS NULL", table.name);
        sqlx::query(AssertSqlSafe(removed)).execute(&mut connection).await?;
        connection.close().await
    }
}

/// A sum of 64 bits, of which the higher ones do not count.
fn digest(sum: &str) -> Result<Digest, sqlx::Error> {
    let sum: i128 = sum.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Digest(sum as u64))
}

/// Makes the key, unless it is there, and the indexes.
async fn make(connection: &mut PgConnection, table: &Table, statements: &[String]) -> Result<(), sqlx::Error> {
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

/// Writes a commit that has no documents of its own; whether all was as it has to be.
async fn move_checkpoints(transaction: &mut PgConnection, commit: &Commit<'_>) -> Result<bool, sqlx::Error> {
    execute_commit(transaction, commit_sql(commit.table, false), commit).await
}

/// Copies documents in two streams, and so in two transactions: the first moves the checkpoints, and commits when the
/// second has. What only the second has written, because something went wrong in between, is thrown away by whoever
/// comes next, as the checkpoints have not moved ([`Postgres::truncate`]). And the second writes nothing behind that,
/// though it may be late: it looks at the leases when it has its lock on the table, and the table is emptied by whoever
/// has them then.
///
/// Each has its lock on the table before either copies: whoever wants to drop it does not come in between, and what
/// waits for a lock does not do so for ever.
///
/// The ranges are free until all is copied, however long that takes: their leases are renewed meanwhile, as long as this
/// process lives. When it freezes, nothing but the table is locked. PostgreSQL would wait for the rest of a COPY for ever;
/// so whoever has the ranges then ends it.
async fn copy_first(
    one: &mut PgConnection,
    other: &mut PgConnection,
    commit: &Commit<'_>,
    pieces: &Pieces,
) -> Result<bool, sqlx::Error> {
    let name = &commit.table.name;
    let (mut first, mut second) = (one.begin().await?, other.begin().await?);
    for transaction in [&mut first, &mut second] {
        let lock = format!("LOCK TABLE {name} IN ROW EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut **transaction).await?;
    }
    if !holds(&mut second, commit.generation, commit.ranges, false).await? {
        return Ok(false);
    }
    tokio::try_join!(copy(&mut first, name, pieces), copy(&mut second, name, pieces))?;
    sqlx::raw_sql(CUT_OFF).execute(&mut *first).await?;
    if !move_checkpoints(&mut first, commit).await? {
        return Ok(false);
    }
    second.commit().await?;
    first.commit().await?;
    Ok(true)
}

/// Ends the transactions of all others that have written to a table, or are about to. They hold no lease, or not any more,
/// and could not commit.
async fn end_writers(transaction: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks \
         WHERE locktype = 'relation' AND relation = to_regclass($1)::oid AND mode = 'RowExclusiveLock' AND granted \
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND pid <> pg_backend_pid()",
    )
    .bind(name)
    .execute(transaction)
    .await
    .map(drop)
}

/// Whether all of these ranges are held, and nothing was folded into them yet. `locked`: it stays so until the transaction
/// ends.
async fn holds(
    transaction: &mut PgConnection,
    generation: i64,
    ranges: &[Claim],
    locked: bool,
) -> Result<bool, sqlx::Error> {
    let lock = if locked { " ORDER BY range.slice_from FOR UPDATE OF range" } else { "" };
    let sql = format!(
        "SELECT range.slice_from FROM view_ranges AS range \
         JOIN unnest($2::int[], $3::bigint[]) AS mine (slice_from, lease_epoch) \
           ON range.slice_from = mine.slice_from AND range.lease_epoch = mine.lease_epoch \
         WHERE range.generation = $1 AND range.position = 0{lock}"
    );
    let held = sqlx::query(AssertSqlSafe(sql))
        .bind(generation)
        .bind(ranges.iter().map(|claim| i32::from(claim.slices.from)).collect::<Vec<_>>())
        .bind(ranges.iter().map(|claim| claim.lease_epoch).collect::<Vec<_>>())
        .fetch_all(transaction)
        .await?;
    Ok(held.len() == ranges.len())
}

/// Copies in the binary form, in which nothing has to be escaped.
async fn copy(connection: &mut PgConnection, name: &str, pieces: &Pieces) -> Result<(), sqlx::Error> {
    let sql = format!("COPY {name} (key, body, position, revision) FROM STDIN (FORMAT binary)");
    let mut sink = connection.copy_in_raw(&sql).await?;
    let mut rows = COPY_BEGIN.to_vec();
    while let Some(piece) = pieces.next().await? {
        for document in piece {
            rows.extend_from_slice(&4_i16.to_be_bytes());
            value(&[document.key.as_bytes()], &mut rows)?;
            match &document.body {
                Some(body) => value(&[&[JSONB_FORM], body.as_bytes()], &mut rows)?,
                None => rows.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
            value(&[&document.position.to_i64().to_be_bytes()], &mut rows)?;
            value(&[&document.revision.to_i64().to_be_bytes()], &mut rows)?;
        }
        sink.send(&rows[..]).await?;
        rows.clear();
    }
    rows.extend_from_slice(&(-1_i16).to_be_bytes());
    sink.send(&rows[..]).await?;
    sink.finish().await.map(drop)
}

/// A value's length, and the value.
fn value(parts: &[&[u8]], rows: &mut Vec<u8>) -> Result<(), sqlx::Error> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = i32::try_from(length).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    rows.extend_from_slice(&length.to_be_bytes());
    parts.iter().for_each(|part| rows.extend_from_slice(part));
    Ok(())
}
