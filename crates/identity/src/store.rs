//! Credentials and tokens, in the `keys` schema. Both stores understand the same statements.

use daybook_core::Position;
use daybook_database::{Database, Lines, Snapshot, Statements};
use daybook_log::Checkpoint;
use uuid::Uuid;

use crate::IdentityError;

/// The tables of credentials and tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

/// A refresh token as it is stored.
pub(crate) struct StoredToken {
    pub(crate) session_id: Uuid,
    pub(crate) account_id: Uuid,
    pub(crate) expires_at_ms: i64,
    /// When it was used, and the digest of the client that used it.
    pub(crate) used: Option<(i64, Vec<u8>)>,
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

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Stores the hash of a new account's password, and the key of the claim of its e-mail address.
    pub(crate) async fn insert_credential(
        &self,
        account_id: Uuid,
        email_key: &str,
        password_hash: &str,
        now_ms: i64,
    ) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query(
                "INSERT INTO credentials (account_id, email_key, password_hash, changed_at_ms) VALUES ($1, $2, $3, $4)",
            )
            .bind(account_id)
            .bind(email_key)
            .bind(password_hash)
            .bind(now_ms)
            .execute(pool)
            .await?;
            Ok(())
        })
    }

    /// Stores the hash of an account's other password. Nothing happens when its credentials are gone.
    pub(crate) async fn set_password_hash(
        &self,
        account_id: Uuid,
        password_hash: &str,
        now_ms: i64,
    ) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("UPDATE credentials SET password_hash = $1, changed_at_ms = $2 WHERE account_id = $3")
                .bind(password_hash)
                .bind(now_ms)
                .bind(account_id)
                .execute(pool)
                .await?;
            Ok(())
        })
    }

    /// The key of the claim of an account's e-mail address.
    pub(crate) async fn email_key(&self, account_id: Uuid) -> Result<Option<String>, IdentityError> {
        on!(self, read, pool => {
            Ok(sqlx::query_scalar("SELECT email_key FROM credentials WHERE account_id = $1")
                .bind(account_id)
                .fetch_optional(pool)
                .await?)
        })
    }

    pub(crate) async fn delete_credential(&self, account_id: Uuid) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("DELETE FROM credentials WHERE account_id = $1").bind(account_id).execute(pool).await?;
            Ok(())
        })
    }

    pub(crate) async fn password_hash(&self, account_id: Uuid) -> Result<Option<String>, IdentityError> {
        on!(self, read, pool => {
            Ok(sqlx::query_scalar("SELECT password_hash FROM credentials WHERE account_id = $1")
                .bind(account_id)
                .fetch_optional(pool)
                .await?)
        })
    }

    /// Replaces the hash of the same password; nothing happens when another has taken its place meanwhile.
    pub(crate) async fn replace_hash(&self, account_id: Uuid, old: &str, new: &str) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("UPDATE credentials SET password_hash = $1 WHERE account_id = $2 AND password_hash = $3")
                .bind(new)
                .bind(account_id)
                .bind(old)
                .execute(pool)
                .await?;
            Ok(())
        })
    }

    pub(crate) async fn insert_refresh_token(
        &self,
        hash: &[u8; 32],
        token: &StoredToken,
    ) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query(INSERT_REFRESH_TOKEN)
                .bind(&hash[..])
                .bind(token.session_id)
                .bind(token.account_id)
                .bind(token.expires_at_ms)
                .execute(pool)
                .await?;
            Ok(())
        })
    }

    pub(crate) async fn refresh_token(&self, hash: &[u8; 32]) -> Result<Option<StoredToken>, IdentityError> {
        type Row = (Uuid, Uuid, i64, Option<i64>, Option<Vec<u8>>);
        let row: Option<Row> = on!(self, read, pool => {
            sqlx::query_as(
                "SELECT session_id, account_id, expires_at_ms, used_at_ms, used_by FROM refresh_tokens WHERE hash = $1",
            )
            .bind(&hash[..])
            .fetch_optional(pool)
            .await?
        });
        Ok(row.map(|(session_id, account_id, expires_at_ms, used_at_ms, used_by)| StoredToken {
            session_id,
            account_id,
            expires_at_ms,
            used: used_at_ms.zip(used_by),
        }))
    }

    /// Uses a refresh token up and stores the next one in its place; `false`, and nothing is changed, when it was
    /// used, has expired or is gone.
    ///
    /// To be awaited to its end: a future that is dropped while the transaction begins leaves it open in the pool.
    pub(crate) async fn rotate_refresh_token(
        &self,
        hash: &[u8; 32],
        now_ms: i64,
        client: &[u8; 32],
        next_hash: &[u8; 32],
        next: &StoredToken,
    ) -> Result<bool, IdentityError> {
        on!(self, write, pool => {
            let mut transaction = pool.begin().await?;
            let used = sqlx::query(
                "UPDATE refresh_tokens SET used_at_ms = $1, used_by = $2 \
                 WHERE hash = $3 AND used_at_ms IS NULL AND expires_at_ms > $1",
            )
            .bind(now_ms)
            .bind(&client[..])
            .bind(&hash[..])
            .execute(&mut *transaction)
            .await?;
            if used.rows_affected() == 0 {
                transaction.rollback().await?;
                return Ok(false);
            }
            sqlx::query(INSERT_REFRESH_TOKEN)
                .bind(&next_hash[..])
                .bind(next.session_id)
                .bind(next.account_id)
                .bind(next.expires_at_ms)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(true)
        })
    }

    pub(crate) async fn delete_refresh_tokens(&self, session_id: Uuid) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("DELETE FROM refresh_tokens WHERE session_id = $1").bind(session_id).execute(pool).await?;
            Ok(())
        })
    }

    pub(crate) async fn delete_refresh_tokens_of(&self, account_id: Uuid) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("DELETE FROM refresh_tokens WHERE account_id = $1").bind(account_id).execute(pool).await?;
            Ok(())
        })
    }

    pub(crate) async fn delete_expired_refresh_tokens(&self, now_ms: i64) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("DELETE FROM refresh_tokens WHERE expires_at_ms <= $1").bind(now_ms).execute(pool).await?;
            Ok(())
        })
    }

    /// How far the log was read for people to forget.
    pub(crate) async fn forgettings_checkpoint(&self) -> Result<Option<Checkpoint>, IdentityError> {
        type Row = (Uuid, i64, i64, Uuid);
        let row: Option<Row> = on!(self, read, pool => {
            sqlx::query_as("SELECT log_id, epoch, position, event_id FROM forgettings_checkpoint")
                .fetch_optional(pool)
                .await?
        });
        Ok(row.map(|(log_id, epoch, position, event_id)| Checkpoint {
            log_id,
            epoch: epoch as u64,
            position: Position::from_i64(position),
            event_id,
        }))
    }

    pub(crate) async fn put_forgettings_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query(
                "INSERT INTO forgettings_checkpoint (log_id, epoch, position, event_id) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (only_row) DO UPDATE SET log_id = excluded.log_id, epoch = excluded.epoch, \
                 position = excluded.position, event_id = excluded.event_id",
            )
            .bind(checkpoint.log_id)
            .bind(checkpoint.epoch as i64)
            .bind(checkpoint.position.to_i64())
            .bind(checkpoint.event_id)
            .execute(pool)
            .await?;
            Ok(())
        })
    }
}

const INSERT_REFRESH_TOKEN: &str =
    "INSERT INTO refresh_tokens (hash, session_id, account_id, expires_at_ms) VALUES ($1, $2, $3, $4)";

/// The tables of credentials, each with its name, as lines for a backup. Refresh tokens are none of them: after a
/// restore everybody signs in again.
pub const TABLES: [(&str, Lines); 2] = [
    (
        "credentials",
        Lines {
            postgres: Statements::new(
                "SELECT json_build_object('account_id', account_id, 'email_key', email_key, \
                    'password_hash', password_hash, 'changed_at_ms', changed_at_ms)::text FROM credentials",
                "INSERT INTO credentials (account_id, email_key, password_hash, changed_at_ms) \
                 SELECT account_id, email_key, password_hash, changed_at_ms \
                 FROM json_to_recordset($1::json) AS line (account_id uuid, email_key text, password_hash text, \
                    changed_at_ms bigint)",
            ),
            sqlite: Statements::new(
                "SELECT json_object('account_id', lower(hex(account_id)), 'email_key', email_key, \
                    'password_hash', password_hash, 'changed_at_ms', changed_at_ms) FROM credentials",
                "INSERT INTO credentials (account_id, email_key, password_hash, changed_at_ms) \
                 SELECT unhex(value->>'account_id', '-'), value->>'email_key', value->>'password_hash', \
                    value->>'changed_at_ms' FROM json_each($1)",
            ),
        },
    ),
    ("forgettings_checkpoint", FORGETTINGS),
];

/// How far the log was read for people to forget.
const FORGETTINGS: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('log_id', log_id, 'epoch', epoch, 'position', position, \
            'event_id', event_id)::text FROM forgettings_checkpoint",
        "INSERT INTO forgettings_checkpoint (log_id, epoch, position, event_id) \
         SELECT log_id, epoch, position, event_id \
         FROM json_to_recordset($1::json) AS line (log_id uuid, epoch bigint, position bigint, event_id uuid)",
    ),
    sqlite: Statements::new(
        "SELECT json_object('log_id', lower(hex(log_id)), 'epoch', epoch, 'position', position, \
            'event_id', lower(hex(event_id))) FROM forgettings_checkpoint",
        "INSERT INTO forgettings_checkpoint (log_id, epoch, position, event_id) \
         SELECT unhex(value->>'log_id', '-'), value->>'epoch', value->>'position', \
            unhex(value->>'event_id', '-') FROM json_each($1)",
    ),
};

/// How far the log was read for people to forget, in a state of its database.
///
/// # Errors
///
/// When that is away.
pub async fn forgettings_reached(snapshot: &mut Snapshot) -> Result<Option<Checkpoint>, IdentityError> {
    let lines = snapshot.write_all(&FORGETTINGS).await?;
    let checkpoint =
        |line: &String| serde_json::from_str(line).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    Ok(lines.first().map(checkpoint).transpose()?)
}
