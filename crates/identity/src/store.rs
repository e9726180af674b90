//! The tables of the `keys` schema. Both stores understand the same statements.

use daybook_database::Database;
use uuid::Uuid;

use crate::IdentityError;
use crate::keys::StoredKey;

/// The tables of the `keys` schema. Cheap to clone.
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

    /// The secret of this name; `fresh`, when there was none yet.
    pub(crate) async fn secret_or_insert(
        &self,
        name: &str,
        fresh: &[u8],
        now_ms: i64,
    ) -> Result<Vec<u8>, IdentityError> {
        on!(self, write, pool => {
            sqlx::query(
                "INSERT INTO identity_secrets (name, value, created_at_ms) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO NOTHING",
            )
            .bind(name)
            .bind(fresh)
            .bind(now_ms)
            .execute(pool)
            .await?;
            Ok(sqlx::query_scalar("SELECT value FROM identity_secrets WHERE name = $1").bind(name).fetch_one(pool).await?)
        })
    }

    /// Stores the first signing key, unless there is one.
    pub(crate) async fn insert_first_signing_key(
        &self,
        key: &StoredKey,
        now_ms: i64,
    ) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query(
                "INSERT INTO signing_keys (number, pkcs8, created_at_ms, sign_from_ms) VALUES (1, $1, $2, $3) \
                 ON CONFLICT (number) DO NOTHING",
            )
            .bind(&key.pkcs8)
            .bind(now_ms)
            .bind(key.sign_from_ms)
            .execute(pool)
            .await?;
            Ok(())
        })
    }

    /// All signing keys, the oldest first.
    pub(crate) async fn signing_keys(&self) -> Result<Vec<StoredKey>, IdentityError> {
        let rows: Vec<(Vec<u8>, i64, Option<i64>)> = on!(self, read, pool => {
            sqlx::query_as("SELECT pkcs8, sign_from_ms, verify_until_ms FROM signing_keys ORDER BY number")
                .fetch_all(pool)
                .await?
        });
        let key = |(pkcs8, sign_from_ms, verify_until_ms)| StoredKey { pkcs8, sign_from_ms, verify_until_ms };
        Ok(rows.into_iter().map(key).collect())
    }

    /// Stores the next signing key and lets those before it retire. Of two processes that do so at once, one does.
    ///
    /// To be awaited to its end: a future that is dropped while the transaction begins leaves it open in the pool.
    pub(crate) async fn rotate_signing_key(
        &self,
        key: &StoredKey,
        now_ms: i64,
        retire_at_ms: i64,
    ) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            let mut transaction = pool.begin().await?;
            let retired = sqlx::query("UPDATE signing_keys SET verify_until_ms = $1 WHERE verify_until_ms IS NULL")
                .bind(retire_at_ms)
                .execute(&mut *transaction)
                .await?;
            if retired.rows_affected() == 1 {
                sqlx::query(
                    "INSERT INTO signing_keys (number, pkcs8, created_at_ms, sign_from_ms) \
                     SELECT max(number) + 1, $1, $2, $3 FROM signing_keys",
                )
                .bind(&key.pkcs8)
                .bind(now_ms)
                .bind(key.sign_from_ms)
                .execute(&mut *transaction)
                .await?;
            }
            Ok(transaction.commit().await?)
        })
    }

    /// Stores the hash of an account's password, in place of any other.
    pub(crate) async fn put_credential(
        &self,
        account_id: Uuid,
        password_hash: &str,
        now_ms: i64,
    ) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query(
                "INSERT INTO credentials (account_id, password_hash, changed_at_ms) VALUES ($1, $2, $3) \
                 ON CONFLICT (account_id) DO UPDATE \
                 SET password_hash = excluded.password_hash, changed_at_ms = excluded.changed_at_ms",
            )
                .bind(account_id)
                .bind(password_hash)
                .bind(now_ms)
                .execute(pool)
                .await?;
            Ok(())
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
    /// To be awaited to its end, like [`rotate_signing_key`](Self::rotate_signing_key).
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

    pub(crate) async fn delete_expired_refresh_tokens(&self, now_ms: i64) -> Result<(), IdentityError> {
        on!(self, write, pool => {
            sqlx::query("DELETE FROM refresh_tokens WHERE expires_at_ms <= $1").bind(now_ms).execute(pool).await?;
            Ok(())
        })
    }
}

const INSERT_REFRESH_TOKEN: &str =
    "INSERT INTO refresh_tokens (hash, session_id, account_id, expires_at_ms) VALUES ($1, $2, $3, $4)";
