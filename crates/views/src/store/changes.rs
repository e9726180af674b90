//! What changed in the generation that is served, as others are told.

use async_trait::async_trait;
use daybook_core::Position;

/// The most commits that a look takes in.
const COMMITS_MAX: i64 = 1_000;

/// What changed behind a position, read as one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// The generation that is served.
    pub(crate) generation: i64,
    /// How far it is.
    pub(crate) position: Position,
    /// Up to where the oldest commit went that is still known.
    pub(crate) oldest: Option<Position>,
    /// The documents that were changed by commits behind the position; some may be from ranges that are ahead of
    /// others, and are met again by a look from `position`.
    pub(crate) keys: Vec<String>,
    /// Whether there are more.
    pub(crate) is_cut: bool,
}

impl Look {
    /// Whether it has all changes behind `position`, where this very generation was served then already. The newest
    /// commit that is old is always kept, so one that is not known can only lie before the oldest that is.
    pub(crate) fn has_all_since(&self, position: Position) -> bool {
        !self.is_cut && self.oldest.is_none_or(|oldest| oldest <= position)
    }

    /// The same, where another generation may have been served then: what it differs in is told by no commit.
    pub(crate) fn has_all_since_any(&self, position: Position) -> bool {
        !self.is_cut && self.oldest.map_or(self.position <= position, |oldest| oldest <= position)
    }
}

/// What is asked of a database about changes.
#[async_trait]
pub(crate) trait Changes: Send + Sync {
    /// What changed behind a position in the generation that a program serves which has the projection in `version`; `None`
    /// while there is none.
    async fn look(&self, projection: &str, version: u32, after: Position) -> Result<Option<Look>, sqlx::Error>;
}

/// A row of a look: the generation, its position, its oldest commit, and the keys that one commit changed, as JSON.
type LookRow = (i64, i64, Option<i64>, Option<String>);

fn look(rows: Vec<LookRow>) -> Result<Option<Look>, sqlx::Error> {
    let Some(&(generation, position, oldest, _)) = rows.first() else { return Ok(None) };
    let is_cut = rows.len() as i64 > COMMITS_MAX;
    let mut keys: Vec<String> = Vec::new();
    for changed in rows.into_iter().filter_map(|(.., keys)| keys) {
        let changed: Vec<String> =
            serde_json::from_str(&changed).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        keys.extend(changed);
    }
    keys.sort_unstable();
    keys.dedup();
    let (position, oldest) = (Position::from_i64(position), oldest.map(Position::from_i64));
    Ok(Some(Look { generation, position, oldest, keys, is_cut }))
}

/// One statement for both databases, but for how `$keys` are made JSON.
macro_rules! changes {
    ($store:ty, $keys:literal) => {
        #[async_trait]
        impl Changes for $store {
            async fn look(
                &self,
                projection: &str,
                version: u32,
                after: Position,
            ) -> Result<Option<Look>, sqlx::Error> {
                let rows: Vec<LookRow> = sqlx::query_as(concat!(
                    "WITH served AS (SELECT generation FROM view_generations \
                         WHERE projection = $1 AND version <= $2 AND phase = 'live' \
                         ORDER BY version DESC LIMIT 1) \
                     SELECT served.generation, \
                        (SELECT coalesce(min(position), 0) FROM view_ranges AS range \
                         WHERE range.generation = served.generation), \
                        (SELECT min(position_to) FROM view_changes AS oldest \
                         WHERE oldest.generation = served.generation), ",
                    $keys,
                    " FROM served LEFT JOIN view_changes AS made \
                        ON made.generation = served.generation AND made.position_to > $3 \
                     LIMIT $4"
                ))
                .bind(projection)
                .bind(i64::from(version))
                .bind(after.to_i64())
                .bind(COMMITS_MAX + 1)
                .fetch_all(self.reader())
                .await?;
                look(rows)
            }
        }
    };
}

changes!(crate::postgres::Postgres, "to_json(made.keys)::text");
changes!(crate::sqlite::Sqlite, "made.keys");
