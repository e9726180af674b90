//! Dead letters: what could not be applied to a document, and all that is behind it.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::Position;
use uuid::Uuid;

/// An event that is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDeadLetter {
    pub(crate) key: String,
    pub(crate) position: Position,
    pub(crate) event_id: Uuid,
    pub(crate) event_type: String,
    /// `None` when it only stands behind another one.
    pub(crate) error: Option<String>,
}

impl NewDeadLetter {
    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.key.len() + self.event_type.len() + error
    }
}

/// Dead letters that are none any more: they were applied, or are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revived {
    pub(crate) key: String,
    /// The last of them.
    pub(crate) through: Position,
}

/// Which dead letters to read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Which {
    pub(crate) key: Option<String>,
    /// Only those behind this one: its key and position.
    pub(crate) after: Option<(String, Position)>,
    pub(crate) limit: u32,
}

/// A dead letter, as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) letter: NewDeadLetter,
    pub(crate) created_at: DateTime<Utc>,
}

/// What is asked of a database about dead letters.
#[async_trait]
pub(crate) trait DeadLetters: Send + Sync {
    /// The keys that have any.
    async fn parked(&self, generation: i64) -> Result<Vec<String>, sqlx::Error>;

    /// How many each of some generations has; nothing of those that have none.
    async fn dead_letters_of(&self, generations: &[i64]) -> Result<HashMap<i64, u64>, sqlx::Error>;

    /// Some of them, in the order of their keys and positions.
    async fn dead_letters(&self, generation: i64, which: &Which) -> Result<Vec<Stored>, sqlx::Error>;
}

type Row<Id> = (String, i64, Id, String, Option<String>, DateTime<Utc>);

macro_rules! dead_letters {
    ($store:ty, $id:ty) => {
        #[async_trait]
        impl DeadLetters for $store {
            async fn parked(&self, generation: i64) -> Result<Vec<String>, sqlx::Error> {
                sqlx::query_scalar("SELECT DISTINCT key FROM view_dead_letters WHERE generation = $1")
                    .bind(generation)
                    .fetch_all(self.reader())
                    .await
            }

            async fn dead_letters_of(&self, generations: &[i64]) -> Result<HashMap<i64, u64>, sqlx::Error> {
                // Mostly there are none at all, of any generation.
                let counts: Vec<(i64, i64)> =
                    sqlx::query_as("SELECT generation, count(*) FROM view_dead_letters GROUP BY generation")
                        .fetch_all(self.reader())
                        .await?;
                let asked = counts.into_iter().filter(|(generation, _)| generations.contains(generation));
                Ok(asked.map(|(generation, count)| (generation, count.unsigned_abs())).collect())
            }

            async fn dead_letters(&self, generation: i64, which: &Which) -> Result<Vec<Stored>, sqlx::Error> {
                let (after_key, after) = which.after.clone().unwrap_or_default();
                let rows: Vec<Row<$id>> = sqlx::query_as(
                    "SELECT key, position, event_id, event_type, error, created_at FROM view_dead_letters \
                     WHERE generation = $1 AND ($2 = '' OR key = $2) AND (key, position) > ($3, $4) \
                     ORDER BY key, position LIMIT $5",
                )
                .bind(generation)
                .bind(which.key.as_deref().unwrap_or_default())
                .bind(after_key)
                .bind(after.to_i64())
                .bind(i64::from(which.limit))
                .fetch_all(self.reader())
                .await?;
                let stored = |(key, position, event_id, event_type, error, created_at): Row<$id>| Stored {
                    letter: NewDeadLetter {
                        key,
                        position: Position::from_i64(position),
                        event_id: event_id.into(),
                        event_type,
                        error,
                    },
                    created_at,
                };
                Ok(rows.into_iter().map(stored).collect())
            }
        }
    };
}

dead_letters!(crate::postgres::Postgres, Uuid);
dead_letters!(crate::sqlite::Sqlite, uuid::fmt::Hyphenated);
