//! The log on PostgreSQL.

mod reader;
pub(crate) mod restore;
mod writer;

use std::time::Duration;

use sqlx::PgPool;

use crate::follow::Pace;

/// To be sure: signals are quicker.
pub(crate) const PACE: Pace = Pace { shortest: Duration::from_millis(100), longest: Duration::from_secs(1) };

/// The log on PostgreSQL.
pub(crate) struct PostgresStore {
    pool: PgPool,
    lock_timeout: Duration,
}

impl PostgresStore {
    /// Reads through `pool`; its writer waits for the head's lock for `lock_timeout`.
    pub(crate) fn new(pool: PgPool, lock_timeout: Duration) -> Self {
        Self { pool, lock_timeout }
    }
}
