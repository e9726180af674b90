//! What a backup of the log is made of, and how a log is made from one.
//!
//! Events never change, so they need no snapshot: whoever knows where the log ended reads them page by page, up to
//! there. Claims and receipts do change. They are written from one state of the database, and so is the log's end that
//! belongs to them. All of it is lines of JSON, the same on both databases.

use chrono::{DateTime, SubsecRound, Utc};
use daybook_core::{JsonText, Metadata, Position, RecordedEvent, Revision};
use daybook_database::{Database, Lines, Loading, Schema, Snapshot, Statements};
use uuid::Uuid;

use crate::stored::misfit;
use crate::{Head, LogError, NewRecord, postgres, sqlite};

/// Where the log ends.
const HEAD: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('log_id', log_id, 'epoch', epoch, 'position', coalesce(position, 0), \
            'event_id', coalesce(id, '00000000-0000-0000-0000-000000000000'))::text \
         FROM log_identity LEFT JOIN (SELECT position, id FROM events ORDER BY position DESC LIMIT 1) AS newest ON true",
        "",
    ),
    sqlite: Statements::new(
        "SELECT json_object('log_id', log_id, 'epoch', epoch, 'position', coalesce(position, 0), \
            'event_id', coalesce(id, '00000000-0000-0000-0000-000000000000')) \
         FROM log_identity LEFT JOIN (SELECT position, id FROM events ORDER BY position DESC LIMIT 1) ON true",
        "",
    ),
};

/// The unique keys that streams hold.
const CLAIMS: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('name', name, 'key', key, 'holder', holder)::text FROM claims",
        "INSERT INTO claims (name, key, holder) SELECT name, key, holder \
         FROM json_to_recordset($1::json) AS line (name text, key text, holder text)",
    ),
    sqlite: Statements::new(
        "SELECT json_object('name', name, 'key', key, 'holder', holder) FROM claims",
        "INSERT INTO claims (name, key, holder) SELECT value->>'name', value->>'key', value->>'holder' FROM json_each($1)",
    ),
};

/// The receipts that are kept under idempotency keys.
const RECEIPTS: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('digest', encode(digest, 'hex'), 'body', encode(body, 'hex'), 'receipt', receipt, \
            'expires_at', to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'))::text \
         FROM idempotency",
        "INSERT INTO idempotency (digest, body, receipt, expires_at) \
         SELECT decode(digest, 'hex'), decode(body, 'hex'), receipt, expires_at \
         FROM json_to_recordset($1::json) AS line (digest text, body text, receipt json, expires_at timestamptz)",
    ),
    sqlite: Statements::new(
        "SELECT json_object('digest', lower(hex(digest)), 'body', lower(hex(body)), 'receipt', json(receipt), \
            'expires_at', expires_at) FROM idempotency",
        "INSERT INTO idempotency (digest, body, receipt, expires_at) \
         SELECT unhex(value->>'digest'), unhex(value->>'body'), value->'receipt', value->>'expires_at' \
         FROM json_each($1)",
    ),
};

/// The tables of the log that belong to a state of it, beside the events, each with its name. (Snapshots do not: they
/// can be made again.)
pub const TABLES: [(&str, Lines); 2] = [("claims", CLAIMS), ("receipts", RECEIPTS)];

/// Where the log ended in a state of its database.
///
/// # Errors
///
/// When the database is away, or holds no log.
pub async fn head(snapshot: &mut Snapshot) -> Result<Head, LogError> {
    let lines = snapshot.write_all(&HEAD).await?;
    let line = lines.first().ok_or(sqlx::Error::RowNotFound)?;
    serde_json::from_str(line).map_err(|error| misfit("log_identity", error))
}

/// Why a log was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What is in a log stays there.
    #[error("the log there is not empty: it ends at position {0}")]
    NotEmpty(Position),
    /// The events are not those that are due.
    #[error("the event at position {is} comes where the one at {due} is due")]
    OutOfOrder {
        /// The next position.
        due: Position,
        /// The event's.
        is: Position,
    },
    /// The database did not take it.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<sqlx::Error> for RestoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Log(error.into())
    }
}

/// A log that is being made from a backup. Everybody else is kept out, and all of it is there once it is finished, or
/// nothing.
pub struct Restoring {
    loading: Loading,
    newest: Position,
    recorded_at: DateTime<Utc>,
}

impl Restoring {
    /// Begins, in a database that is migrated and whose log is empty.
    ///
    /// # Errors
    ///
    /// [`RestoreError::NotEmpty`]; when the database is away.
    pub async fn begin(database: &Database) -> Result<Self, RestoreError> {
        database.check_migrated(Schema::Log).await.map_err(LogError::from)?;
        let mut loading = database.load().await?;
        let newest = match &mut loading {
            Loading::Postgres(connection) => postgres::restore::lock(connection).await?,
            Loading::Sqlite(transaction) => sqlite::restore::newest(transaction).await?,
        };
        match Position::from_i64(newest) {
            Position::START => Ok(Self { loading, newest: Position::START, recorded_at: DateTime::UNIX_EPOCH }),
            newest => Err(RestoreError::NotEmpty(newest)),
        }
    }

    /// Writes the next events.
    ///
    /// # Errors
    ///
    /// [`RestoreError::OutOfOrder`]; when the database does not take them.
    pub async fn events(&mut self, events: &[RecordedEvent]) -> Result<(), RestoreError> {
        for event in events {
            let due = self.newest.plus(1);
            if event.position != due {
                return Err(RestoreError::OutOfOrder { due, is: event.position });
            }
            self.newest = due;
            self.recorded_at = self.recorded_at.max(event.recorded_at);
        }
        match &mut self.loading {
            Loading::Postgres(connection) => postgres::restore::insert(connection, events).await?,
            Loading::Sqlite(transaction) => sqlite::restore::insert(transaction, events).await?,
        }
        Ok(())
    }

    /// Writes lines of one of the [`TABLES`].
    ///
    /// # Errors
    ///
    /// When the database does not take them.
    pub async fn lines(&mut self, table: &Lines, lines: &[String]) -> Result<(), RestoreError> {
        Ok(self.loading.read(table, lines).await?)
    }

    /// Lets the log be `log_id` in `epoch`, appends the event that says so, and makes it all visible. Answers where the
    /// log ends.
    ///
    /// # Errors
    ///
    /// When the database does not take it.
    pub async fn finish(
        mut self,
        (log_id, epoch): (Uuid, u64),
        record: NewRecord,
        metadata: &Metadata,
    ) -> Result<Head, RestoreError> {
        let stream = record.stream.as_str();
        let revision = match &mut self.loading {
            Loading::Postgres(connection) => {
                postgres::restore::set_identity(connection, log_id, epoch).await?;
                sqlx::query_scalar(REVISION).bind(stream).fetch_one(connection).await?
            }
            Loading::Sqlite(transaction) => {
                sqlite::restore::set_identity(transaction, log_id, epoch).await?;
                sqlx::query_scalar(REVISION).bind(stream).fetch_one(&mut **transaction).await?
            }
        };
        let metadata = serde_json::to_string(metadata).map_err(|error| misfit("metadata", error))?;
        let event = RecordedEvent {
            position: self.newest.plus(1),
            stream: record.stream,
            revision: Revision::from_i64(revision).plus(1),
            id: record.id,
            event_type: record.event_type,
            schema_version: record.schema_version,
            recorded_at: Utc::now().trunc_subsecs(6).max(self.recorded_at),
            metadata: JsonText::new(metadata),
            payload: JsonText::new(record.payload),
        };
        self.events(std::slice::from_ref(&event)).await?;
        self.loading.commit().await?;
        Ok(Head { log_id, epoch, position: event.position, event_id: event.id })
    }
}

/// The revision of a stream.
const REVISION: &str = "SELECT coalesce(max(revision), 0) FROM events WHERE stream = $1";
