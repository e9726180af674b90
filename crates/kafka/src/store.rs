//! The row that says how far a topic was published, and by whom. Both stores understand the same statements, but for their
//! clocks.

use std::time::Duration;

use daybook_core::Position;
use daybook_database::Database;
use daybook_log::Checkpoint;
use sqlx::{AssertSqlSafe, SqlSafeStr};
use uuid::Uuid;

/// Evaluates `$body` with `$pool` being the pool of whichever store it is.
macro_rules! on {
    ($store:expr, $sqlite:ident, $pool:ident => $body:expr) => {
        match &$store.database {
            Database::Postgres($pool) => $body,
            Database::Sqlite(file) => {
                let $pool = file.$sqlite();
                $body
            }
        }
    };
}

/// The table of relays. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

/// A topic's row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) topic: String,
    /// As many partitions as it had when it was first published to.
    pub(crate) partitions: Option<u16>,
    /// Everything up to here was acknowledged.
    pub(crate) checkpoint: Checkpoint,
    /// Who publishes at this moment.
    pub(crate) owner: Option<String>,
    /// What last kept it from going on.
    pub(crate) problem: Option<String>,
}

/// That somebody publishes a topic. It ends when it is not renewed, or is taken by another; whatever names it then is
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease(i64);

type Columns = (String, Option<i32>, Uuid, i64, i64, Uuid, Option<String>, Option<String>);

fn row((topic, partitions, log_id, epoch, position, event_id, owner, problem): Columns) -> Row {
    Row {
        topic,
        partitions: partitions.and_then(|count| count.try_into().ok()),
        checkpoint: Checkpoint {
            log_id,
            epoch: epoch.unsigned_abs(),
            position: Position::from_i64(position),
            event_id,
        },
        owner,
        problem,
    }
}

/// [`Columns`]; whose lease ran out does not publish.
const COLUMNS: &str = "topic, partitions, log_id, epoch, position, event_id, \
    CASE WHEN lease_until >= {now} THEN lease_owner END, problem";

impl Store {
    pub(crate) fn new(database: &Database) -> Self {
        Self { database: database.clone() }
    }

    /// A statement with the database's clock: `{now}`, and `{later}`, which is the first parameter's seconds from now.
    fn sql(&self, statement: &str) -> impl SqlSafeStr {
        let (now, later) = match self.database {
            Database::Postgres(_) => ("clock_timestamp()", "clock_timestamp() + make_interval(secs => $1)"),
            Database::Sqlite(_) => (
                "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
                "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+' || $1 || ' seconds')",
            ),
        };
        AssertSqlSafe(statement.replace("{columns}", COLUMNS).replace("{now}", now).replace("{later}", later))
    }

    /// All topics that were ever published to, in the order of their names.
    pub(crate) async fn rows(&self) -> Result<Vec<Row>, sqlx::Error> {
        let sql = self.sql("SELECT {columns} FROM relays ORDER BY topic");
        let rows: Vec<Columns> = on!(self, readers, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        Ok(rows.into_iter().map(row).collect())
    }

    /// A topic's row; `None` when it was never published to.
    pub(crate) async fn row(&self, topic: &str) -> Result<Option<Row>, sqlx::Error> {
        let sql = self.sql("SELECT {columns} FROM relays WHERE topic = $1");
        let found: Option<Columns> =
            on!(self, readers, pool => sqlx::query_as(sql).bind(topic).fetch_optional(pool).await?);
        Ok(found.map(row))
    }

    /// Makes a topic's row, unless there is one.
    pub(crate) async fn begin(&self, topic: &str, start: &Checkpoint) -> Result<(), sqlx::Error> {
        let sql = "INSERT INTO relays (topic, log_id, epoch, position, event_id) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (topic) DO NOTHING";
        on!(self, writer, pool => {
            sqlx::query(sql)
                .bind(topic)
                .bind(start.log_id)
                .bind(start.epoch.cast_signed())
                .bind(start.position.to_i64())
                .bind(start.event_id)
                .execute(pool)
                .await
                .map(drop)
        })
    }

    /// Takes a topic, if nobody has it.
    pub(crate) async fn take(
        &self,
        topic: &str,
        owner: &str,
        lease: Duration,
    ) -> Result<Option<Lease>, sqlx::Error> {
        let sql = self.sql(
            "UPDATE relays SET lease_owner = $2, lease_epoch = lease_epoch + 1, lease_until = {later} \
             WHERE topic = $3 AND (lease_until IS NULL OR lease_until < {now}) RETURNING lease_epoch",
        );
        let epoch: Option<i64> = on!(self, writer, pool => {
            sqlx::query_scalar(sql)
                .bind(lease.as_secs_f64())
                .bind(owner)
                .bind(topic)
                .fetch_optional(pool)
                .await?
        });
        Ok(epoch.map(Lease))
    }

    /// Says that the owner is alive; `false` when it is not the owner any more.
    pub(crate) async fn renew(&self, topic: &str, held: Lease, lease: Duration) -> Result<bool, sqlx::Error> {
        let sql = self.sql("UPDATE relays SET lease_until = {later} WHERE topic = $2 AND lease_epoch = $3");
        on!(self, writer, pool => {
            let renewed =
                sqlx::query(sql).bind(lease.as_secs_f64()).bind(topic).bind(held.0).execute(pool).await?;
            Ok(renewed.rows_affected() == 1)
        })
    }

    /// The topic's row, once more, for whoever holds it; `None` for somebody else.
    pub(crate) async fn held(&self, topic: &str, held: Lease) -> Result<Option<Row>, sqlx::Error> {
        let sql = self.sql("SELECT {columns} FROM relays WHERE topic = $1 AND lease_epoch = $2");
        // By whoever writes: a reader may answer with an older state.
        let found: Option<Columns> =
            on!(self, writer, pool => sqlx::query_as(sql).bind(topic).bind(held.0).fetch_optional(pool).await?);
        Ok(found.map(row))
    }

    /// Remembers how many partitions the topic has; `false` when somebody else holds it.
    pub(crate) async fn remember(&self, topic: &str, held: Lease, partitions: u16) -> Result<bool, sqlx::Error> {
        let sql = "UPDATE relays SET partitions = $1 WHERE topic = $2 AND lease_epoch = $3";
        on!(self, writer, pool => {
            let written =
                sqlx::query(sql).bind(i32::from(partitions)).bind(topic).bind(held.0).execute(pool).await?;
            Ok(written.rows_affected() == 1)
        })
    }

    /// Forgets what was in the way; `false` when somebody else holds the topic.
    pub(crate) async fn goes_on(&self, topic: &str, held: Lease) -> Result<bool, sqlx::Error> {
        let sql = "UPDATE relays SET problem = NULL WHERE topic = $1 AND lease_epoch = $2";
        on!(self, writer, pool => {
            let written = sqlx::query(sql).bind(topic).bind(held.0).execute(pool).await?;
            Ok(written.rows_affected() == 1)
        })
    }

    /// Moves the checkpoint, and forgets what was in the way before; `false` when somebody else holds the topic.
    pub(crate) async fn advance(&self, topic: &str, held: Lease, to: &Checkpoint) -> Result<bool, sqlx::Error> {
        let sql = "UPDATE relays SET log_id = $1, epoch = $2, position = $3, event_id = $4, problem = NULL \
                   WHERE topic = $5 AND lease_epoch = $6";
        on!(self, writer, pool => {
            let written = sqlx::query(sql)
                .bind(to.log_id)
                .bind(to.epoch.cast_signed())
                .bind(to.position.to_i64())
                .bind(to.event_id)
                .bind(topic)
                .bind(held.0)
                .execute(pool)
                .await?;
            Ok(written.rows_affected() == 1)
        })
    }

    /// Gives the topic back, with what keeps it from going on, if anything; whoever lost it gives nothing back.
    pub(crate) async fn give_back(
        &self,
        topic: &str,
        held: Lease,
        problem: Option<&str>,
    ) -> Result<(), sqlx::Error> {
        let sql = "UPDATE relays SET lease_owner = NULL, lease_until = NULL, problem = coalesce($1, problem) \
                   WHERE topic = $2 AND lease_epoch = $3";
        on!(self, writer, pool => {
            sqlx::query(sql).bind(problem).bind(topic).bind(held.0).execute(pool).await.map(drop)
        })
    }
}
