//! The tables. Both stores understand the same statements, but for the lock of a row.

use std::collections::HashMap;

use daybook_database::{Database, Lines, SqliteFile, Statements};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};

use crate::{KeyError, MasterId};

/// The tables. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

/// Evaluates `$body` with `$pool` being the pool of whichever store it is.
macro_rules! on {
    ($store:expr, read, $pool:ident => $body:expr) => {
        on!($store, readers, $pool, $body)
    };
    ($store:expr, write, $pool:ident => $body:expr) => {
        on!($store, writer, $pool, $body)
    };
    ($store:expr, $sqlite:ident, $pool:ident, $body:expr) => {
        match &$store.database {
            Database::Postgres($pool) => $body,
            Database::Sqlite(file) => {
                let $pool = file.$sqlite();
                $body
            }
        }
    };
}

/// Something wrapped, and what it is.
pub(crate) struct Wrapped<'a> {
    /// Where it is to stand.
    pub(crate) place: Place<'a>,
    /// The master key that it is wrapped under.
    pub(crate) under: MasterId,
    /// The bytes.
    pub(crate) bytes: &'a [u8],
    /// When, in Unix milliseconds.
    pub(crate) now_ms: i64,
}

/// A row that holds something wrapped.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Secret(&'a str),
    Subject(&'a str),
    /// The number of the key, and from when on it signs, in Unix milliseconds.
    Signing(i64, i64),
}

impl Place<'_> {
    /// What is in it is bound to this.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Secret(name) => Table::Secrets.name(name),
            Self::Subject(subject) => Table::SubjectKeys.name(subject),
            Self::Signing(number, _) => Table::SigningKeys.name(&number.to_string()),
        }
    }
}

/// The tables that hold something wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Secrets,
    SigningKeys,
    SubjectKeys,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Secrets, Self::SigningKeys, Self::SubjectKeys];

    const fn table(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::SigningKeys => "signing_keys",
            Self::SubjectKeys => "subject_keys",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Secrets => "name",
            Self::SigningKeys => "CAST(number AS text)",
            Self::SubjectKeys => "subject",
        }
    }

    /// What the row with this key is bound to.
    pub(crate) fn name(self, key: &str) -> String {
        format!("{}/{key}", self.table())
    }
}

/// What is stored of a subject: its wrapped key, or `None` when it was forgotten.
pub(crate) type StoredSubjects = HashMap<String, Option<Vec<u8>>>;

/// A wrapped signing key: its number, its bytes, from when on it signs and until when it verifies.
pub(crate) type StoredSigning = (i64, Vec<u8>, i64, Option<i64>);

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// The master key that everything is wrapped under from now on; `None` when nothing ever was.
    pub(crate) async fn master(&self) -> Result<Option<MasterId>, KeyError> {
        let id: Option<Vec<u8>> = on!(self, read, pool => {
            sqlx::query_scalar("SELECT id FROM master_key").fetch_optional(pool).await?
        });
        let damaged = |_| KeyError::Damaged("master_key".into());
        id.map(|id| <[u8; 8]>::try_from(id).map(MasterId).map_err(damaged)).transpose()
    }

    /// Says which master key everything is wrapped under, unless that was said.
    pub(crate) async fn set_first_master(&self, id: MasterId) -> Result<(), KeyError> {
        on!(self, write, pool => {
            sqlx::query("INSERT INTO master_key (id) VALUES ($1) ON CONFLICT (only_row) DO NOTHING")
                .bind(&id.0[..])
                .execute(pool)
                .await?;
            Ok(())
        })
    }

    /// Says which master key everything is wrapped under from now on. Whatever is still being stored under the one
    /// before is stored when this returns.
    pub(crate) async fn set_master(&self, id: MasterId) -> Result<(), KeyError> {
        on!(self, write, pool => {
            sqlx::query("UPDATE master_key SET id = $1").bind(&id.0[..]).execute(pool).await?;
            Ok(())
        })
    }

    /// Stores something wrapped where there is nothing; says whether it did. It does not when something is there
    /// already, or when the master key is no longer the current one.
    pub(crate) async fn insert(&self, wrapped: &Wrapped<'_>) -> Result<bool, KeyError> {
        // Held until the end of the statement, so that a rotation waits for it.
        let current = match &self.database {
            Database::Postgres(_) => "(SELECT 1 FROM master_key WHERE id = $1 FOR SHARE) AS held",
            Database::Sqlite(_) => "master_key WHERE id = $1",
        };
        let (target, values) = match wrapped.place {
            Place::Secret(_) => ("secrets (wrapped, created_at_ms, name)", "$4"),
            Place::Subject(_) => ("subject_keys (wrapped, created_at_ms, subject)", "$4"),
            Place::Signing(..) => ("signing_keys (wrapped, created_at_ms, number, sign_from_ms)", "$4, $5"),
        };
        let sql = AssertSqlSafe(format!(
            "INSERT INTO {target} SELECT $2, $3, {values} FROM {current} ON CONFLICT DO NOTHING"
        ));
        let inserted = on!(self, write, pool => {
            let query = sqlx::query(sql).bind(&wrapped.under.0[..]).bind(wrapped.bytes).bind(wrapped.now_ms);
            match wrapped.place {
                Place::Secret(name) | Place::Subject(name) => query.bind(name),
                Place::Signing(number, sign_from_ms) => query.bind(number).bind(sign_from_ms),
            }
            .execute(pool)
            .await?
            .rows_affected()
        });
        Ok(inserted == 1)
    }

    pub(crate) async fn secret(&self, name: &str) -> Result<Option<Vec<u8>>, KeyError> {
        on!(self, read, pool => {
            Ok(sqlx::query_scalar("SELECT wrapped FROM secrets WHERE name = $1").bind(name).fetch_optional(pool).await?)
        })
    }

    /// What is stored of these subjects.
    pub(crate) async fn subjects(&self, subjects: &[String]) -> Result<StoredSubjects, KeyError> {
        let rows: Vec<(String, Option<Vec<u8>>)> = match &self.database {
            Database::Postgres(pool) => {
                sqlx::query_as("SELECT subject, wrapped FROM subject_keys WHERE subject = ANY($1)")
                    .bind(subjects)
                    .fetch_all(pool)
                    .await?
            }
            Database::Sqlite(file) => {
                let json =
                    serde_json::to_string(subjects).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                sqlx::query_as(
                    "SELECT subject, wrapped FROM subject_keys WHERE subject IN (SELECT value FROM json_each($1))",
                )
                .bind(json)
                .fetch_all(file.readers())
                .await?
            }
        };
        Ok(rows.into_iter().collect())
    }

    /// Removes the key of a subject and leaves a tombstone, unless there is one.
    pub(crate) async fn forget_subject(&self, subject: &str, now_ms: i64) -> Result<(), KeyError> {
        self.remove(
            "INSERT INTO subject_keys (subject, created_at_ms, forgotten_at_ms) VALUES ($1, $2, $2) \
             ON CONFLICT (subject) DO UPDATE SET wrapped = NULL, forgotten_at_ms = $2 \
             WHERE subject_keys.wrapped IS NOT NULL",
            subject,
            now_ms,
        )
        .await
        .map(drop)
    }

    /// When the key of a subject was removed, in Unix milliseconds; `None` when it was not.
    pub(crate) async fn forgotten_ms(&self, subject: &str) -> Result<Option<i64>, KeyError> {
        let sql = "SELECT forgotten_at_ms FROM subject_keys WHERE subject = $1";
        let found: Option<Option<i64>> =
            on!(self, write, pool => sqlx::query_scalar(sql).bind(subject).fetch_optional(pool).await?);
        Ok(found.flatten())
    }

    /// When a key was removed the last time.
    pub(crate) async fn last_forgotten_ms(&self) -> Result<Option<i64>, KeyError> {
        let sql = "SELECT forgotten_at_ms FROM subject_keys WHERE forgotten_at_ms IS NOT NULL \
                   ORDER BY forgotten_at_ms DESC LIMIT 1";
        on!(self, read, pool => Ok(sqlx::query_scalar(sql).fetch_optional(pool).await?))
    }

    /// Removes the key of a subject, and leaves nothing.
    pub(crate) async fn discard_subject(&self, subject: &str) -> Result<(), KeyError> {
        let sql = "DELETE FROM subject_keys WHERE subject = $1 AND wrapped IS NOT NULL";
        on!(self, write, pool => {
            sqlx::query(sql).bind(subject).execute(pool).await?;
            Ok(())
        })
    }

    /// Removes the keys of all days before this one (`day-2026-11-24`), and leaves tombstones; says whether there were
    /// any.
    pub(crate) async fn forget_days(&self, before: &str, now_ms: i64) -> Result<bool, KeyError> {
        self.remove(
            "UPDATE subject_keys SET wrapped = NULL, forgotten_at_ms = $2 \
             WHERE subject >= 'day-' AND subject < $1 AND wrapped IS NOT NULL",
            before,
            now_ms,
        )
        .await
    }

    /// Runs a statement that removes keys; says whether it changed anything.
    async fn remove(&self, sql: &'static str, subject: &str, now_ms: i64) -> Result<bool, KeyError> {
        let removed = on!(self, write, pool => {
            sqlx::query(sql).bind(subject).bind(now_ms).execute(pool).await?.rows_affected()
        });
        Ok(removed > 0)
    }

    pub(crate) async fn signing_keys(&self) -> Result<Vec<StoredSigning>, KeyError> {
        on!(self, read, pool => {
            Ok(sqlx::query_as("SELECT number, wrapped, sign_from_ms, verify_until_ms FROM signing_keys ORDER BY number")
                .fetch_all(pool)
                .await?)
        })
    }

    /// Lets the signing keys up to a number retire.
    pub(crate) async fn retire_signing_keys(&self, through: i64, retire_at_ms: i64) -> Result<(), KeyError> {
        on!(self, write, pool => {
            sqlx::query("UPDATE signing_keys SET verify_until_ms = $1 WHERE number <= $2 AND verify_until_ms IS NULL")
                .bind(retire_at_ms)
                .bind(through)
                .execute(pool)
                .await?;
            Ok(())
        })
    }

    /// Some of what a table holds wrapped, behind a key.
    pub(crate) async fn wrapped_after(
        &self,
        table: Table,
        key: &str,
        limit: i64,
    ) -> Result<Vec<(String, Vec<u8>)>, KeyError> {
        let (name, column) = (table.table(), table.key());
        let sql = AssertSqlSafe(format!(
            "SELECT {column}, wrapped FROM {name} WHERE wrapped IS NOT NULL AND {column} > $1 ORDER BY 1 LIMIT $2"
        ));
        on!(self, read, pool => Ok(sqlx::query_as(sql).bind(key).bind(limit).fetch_all(pool).await?))
    }

    /// Replaces what rows hold wrapped (their keys, the old bytes, the new), where that is still there.
    ///
    /// To be awaited to its end: a future that is dropped while the transaction begins leaves it open in the pool.
    pub(crate) async fn rewrap(&self, table: Table, rows: &[(String, Vec<u8>, Vec<u8>)]) -> Result<(), KeyError> {
        let sql = format!("UPDATE {} SET wrapped = $3 WHERE {} = $1 AND wrapped = $2", table.table(), table.key());
        on!(self, write, pool => {
            let mut transaction = pool.begin().await?;
            for (key, old, new) in rows {
                sqlx::query(AssertSqlSafe(sql.clone())).bind(key).bind(old).bind(new).execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        })
    }

    /// Removes what deleted keys have left behind: in a SQLite file, what the write-ahead log still holds; on
    /// PostgreSQL, the rows' old versions. Says whether nothing is left.
    pub(crate) async fn scrub(&self) -> Result<bool, KeyError> {
        match &self.database {
            Database::Sqlite(file) => truncate(file).await,
            Database::Postgres(pool) => vacuum(pool).await,
        }
    }
}

/// Empties the write-ahead log; `false` when somebody still reads from it.
async fn truncate(file: &SqliteFile) -> Result<bool, KeyError> {
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(file.writer()).await?;
    Ok(row.try_get::<i64, _>(0)? == 0)
}

/// The largest table, in bytes, that is written anew: nobody can read it meanwhile.
const REWRITTEN_BYTES_MAX: i64 = 256 << 20;

/// Writes the tables of keys anew, without old versions. Where that would keep others waiting, their space
/// is only given back, and what was in it goes when it is used again; that is said, since somebody can do better.
async fn vacuum(pool: &PgPool) -> Result<bool, KeyError> {
    // A connection of its own, since its settings are others.
    let mut connection = PgConnection::connect_with(pool.connect_options().as_ref()).await?;
    let bytes: i64 = sqlx::query_scalar("SELECT pg_table_size('subject_keys')").fetch_one(&mut connection).await?;
    sqlx::raw_sql("SET lock_timeout = '200ms'").execute(&mut connection).await?;
    let rewritten = bytes <= REWRITTEN_BYTES_MAX
        && sqlx::raw_sql("VACUUM FULL subject_keys, secrets, signing_keys").execute(&mut connection).await.is_ok();
    if !rewritten {
        sqlx::raw_sql("VACUUM subject_keys, secrets, signing_keys").execute(&mut connection).await?;
    }
    connection.close().await?;
    let is_too_large = bytes > REWRITTEN_BYTES_MAX;
    if is_too_large {
        tracing::warn!(
            bytes,
            "`subject_keys` is too large to be written anew at work: what was in a deleted key's place stays in its file \
             until the place is used again, or somebody runs VACUUM FULL"
        );
    }
    Ok(rewritten || is_too_large)
}

/// The tables of keys, each with its name, as lines for a backup. What is wrapped stays wrapped.
pub const TABLES: [(&str, Lines); 4] = [
    (
        "master_key",
        Lines {
            postgres: Statements::new(
                "SELECT json_build_object('id', encode(id, 'hex'))::text FROM master_key",
                "INSERT INTO master_key (id) SELECT decode(id, 'hex') FROM json_to_recordset($1::json) AS line (id text)",
            ),
            sqlite: Statements::new(
                "SELECT json_object('id', lower(hex(id))) FROM master_key",
                "INSERT INTO master_key (id) SELECT unhex(value->>'id') FROM json_each($1)",
            ),
        },
    ),
    (
        "secrets",
        Lines {
            postgres: Statements::new(
                "SELECT json_build_object('name', name, 'wrapped', encode(wrapped, 'hex'), \
                    'created_at_ms', created_at_ms)::text FROM secrets",
                "INSERT INTO secrets (name, wrapped, created_at_ms) SELECT name, decode(wrapped, 'hex'), created_at_ms \
                 FROM json_to_recordset($1::json) AS line (name text, wrapped text, created_at_ms bigint)",
            ),
            sqlite: Statements::new(
                "SELECT json_object('name', name, 'wrapped', lower(hex(wrapped)), 'created_at_ms', created_at_ms) \
                 FROM secrets",
                "INSERT INTO secrets (name, wrapped, created_at_ms) \
                 SELECT value->>'name', unhex(value->>'wrapped'), value->>'created_at_ms' FROM json_each($1)",
            ),
        },
    ),
    (
        "signing_keys",
        Lines {
            postgres: Statements::new(
                "SELECT json_build_object('number', number, 'wrapped', encode(wrapped, 'hex'), \
                    'created_at_ms', created_at_ms, 'sign_from_ms', sign_from_ms, \
                    'verify_until_ms', verify_until_ms)::text FROM signing_keys",
                "INSERT INTO signing_keys (number, wrapped, created_at_ms, sign_from_ms, verify_until_ms) \
                 SELECT number, decode(wrapped, 'hex'), created_at_ms, sign_from_ms, verify_until_ms \
                 FROM json_to_recordset($1::json) AS line (number bigint, wrapped text, created_at_ms bigint, \
                    sign_from_ms bigint, verify_until_ms bigint)",
            ),
            sqlite: Statements::new(
                "SELECT json_object('number', number, 'wrapped', lower(hex(wrapped)), 'created_at_ms', created_at_ms, \
                    'sign_from_ms', sign_from_ms, 'verify_until_ms', verify_until_ms) FROM signing_keys",
                "INSERT INTO signing_keys (number, wrapped, created_at_ms, sign_from_ms, verify_until_ms) \
                 SELECT value->>'number', unhex(value->>'wrapped'), value->>'created_at_ms', \
                    value->>'sign_from_ms', value->>'verify_until_ms' FROM json_each($1)",
            ),
        },
    ),
    (
        "subject_keys",
        Lines {
            postgres: Statements::new(
                "SELECT json_build_object('subject', subject, 'wrapped', encode(wrapped, 'hex'), \
                    'created_at_ms', created_at_ms, 'forgotten_at_ms', forgotten_at_ms)::text FROM subject_keys",
                "INSERT INTO subject_keys (subject, wrapped, created_at_ms, forgotten_at_ms) \
                 SELECT subject, decode(wrapped, 'hex'), created_at_ms, forgotten_at_ms \
                 FROM json_to_recordset($1::json) AS line (subject text, wrapped text, created_at_ms bigint, \
                    forgotten_at_ms bigint)",
            ),
            sqlite: Statements::new(
                "SELECT json_object('subject', subject, 'wrapped', lower(nullif(hex(wrapped), '')), \
                    'created_at_ms', created_at_ms, 'forgotten_at_ms', forgotten_at_ms) FROM subject_keys",
                "INSERT INTO subject_keys (subject, wrapped, created_at_ms, forgotten_at_ms) \
                 SELECT value->>'subject', unhex(value->>'wrapped'), value->>'created_at_ms', \
                    value->>'forgotten_at_ms' FROM json_each($1)",
            ),
        },
    ),
];
