//! What changed in the generation that is served, as others are told.

use async_trait::async_trait;
use daybook_core::Position;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use crate::mark::Mark;

/// The most documents that a look tells of. Whoever has to hear of more does better to read everything anew.
const KEYS_MAX: usize = 10_000;

/// What changed behind a mark, read as one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// The generation that is served, and how far it is.
    pub(crate) mark: Mark,
    /// Up to where the oldest commit went that is still known.
    pub(crate) oldest: Option<Position>,
    /// The documents that were changed by commits behind the mark, in order; some may be from ranges that are ahead of
    /// others, and are met again by a look from this one. Nothing where not all is known.
    pub(crate) keys: Vec<String>,
    /// Whether there are more.
    pub(crate) is_cut: bool,
}

impl Look {
    /// Whether it has all changes behind a mark. What another generation differs in is told by no commit. The newest
    /// commit that is old is always kept, so one that is not known can only lie before the oldest that is.
    pub(crate) fn has_all_since(&self, mark: Mark) -> bool {
        !self.is_cut
            && self.mark.generation == mark.generation
            && self.mark.position >= mark.position
            && self.oldest.is_none_or(|oldest| oldest <= mark.position)
    }
}

/// What is asked of a database about changes.
#[async_trait]
pub(crate) trait Changes: Send + Sync {
    /// What changed behind a mark in the generation that a program serves which has the projection in `version`, if those
    /// are no more than so many commits; `None` while there is none. Where not all would be known, as without a mark, no
    /// change is read.
    async fn look(
        &self,
        projection: &str,
        version: u32,
        after: Option<Mark>,
        commits_max: u32,
    ) -> Result<Option<Look>, sqlx::Error>;
}

/// A row of a look: the generation, its position, its oldest commit, and the keys that one commit changed, as JSON.
type LookRow = (i64, i64, Option<i64>, Option<String>);

/// Reads no more rows than it takes to know that there is too much.
async fn look(
    mut rows: BoxStream<'_, Result<LookRow, sqlx::Error>>,
    commits_max: u32,
) -> Result<Option<Look>, sqlx::Error> {
    let mut look: Option<Look> = None;
    let mut commits = 0;
    while let Some((generation, position, oldest, changed)) = rows.try_next().await? {
        let look = look.get_or_insert_with(|| Look {
            mark: Mark { position: Position::from_i64(position), generation },
            oldest: oldest.map(Position::from_i64),
            keys: Vec::new(),
            is_cut: false,
        });
        let Some(changed) = changed else { break };
        let changed: Vec<String> =
            serde_json::from_str(&changed).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        look.keys.extend(changed);
        commits += 1;
        if commits > commits_max || look.keys.len() > KEYS_MAX {
            look.is_cut = true;
            look.keys.clear();
            break;
        }
    }
    if let Some(look) = &mut look {
        look.keys.sort_unstable();
        look.keys.dedup();
    }
    Ok(look)
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
                after: Option<Mark>,
                commits_max: u32,
            ) -> Result<Option<Look>, sqlx::Error> {
                let rows = sqlx::query_as(concat!(
                    "WITH served AS (SELECT generation, \
                            (SELECT coalesce(min(position), 0) FROM view_ranges AS range \
                             WHERE range.generation = one.generation) AS position, \
                            (SELECT min(position_to) FROM view_changes AS made \
                             WHERE made.generation = one.generation) AS oldest \
                         FROM view_generations AS one \
                         WHERE projection = $1 AND version <= $2 AND phase = 'live' \
                         ORDER BY version DESC LIMIT 1) \
                     SELECT served.generation, served.position, served.oldest, ",
                    $keys,
                    " FROM served LEFT JOIN view_changes AS made \
                        ON made.generation = served.generation AND served.generation = $3 \
                            AND served.oldest <= $4 AND made.position_to > $4 \
                     LIMIT $5"
                ))
                .bind(projection)
                .bind(i64::from(version))
                .bind(after.map(|after| after.generation))
                .bind(after.map(|after| after.position.to_i64()))
                .bind(i64::from(commits_max) + 1)
                .fetch(self.reader());
                look(rows, commits_max).await
            }
        }
    };
}

changes!(crate::postgres::Postgres, "to_json(made.keys)::text");
changes!(crate::sqlite::Sqlite, "made.keys");
