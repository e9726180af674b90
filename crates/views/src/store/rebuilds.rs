//! Building a generation beside the one that is served, and putting it in its place.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use daybook_core::{GivenAway, Position};

use crate::generation::Phase;
use crate::ranges::Claim;
use crate::store::Commit;
use crate::store::pieces::Pieces;
use crate::table::Table;

/// The most differing documents that are looked at.
const SAMPLES_MAX: usize = 1_000;

/// A document that differs: its key, and what each of the two has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) key: String,
    pub(crate) served: Option<String>,
    pub(crate) built: Option<String>,
}

/// What the keys and documents of a generation come to, in whatever order: the sum of what each comes to. As its database
/// reckons it; it says something only beside another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Two generations, compared in one state of their database.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    /// How many documents the one that is served has.
    pub(crate) served: u64,
    /// How many the one has that is built.
    pub(crate) built: u64,
    /// How many documents differ of those that were last touched where both have come past.
    pub(crate) differing: u64,
    /// How many differ of those that one of them has just changed.
    pub(crate) undecided: u64,
    /// The first ones that differ, in the order of their keys.
    pub(crate) differences: Vec<Difference>,
    /// Of the one that is served and the one that is built.
    pub(crate) digests: [Digest; 2],
    /// The lowest and the highest position of all ranges of both.
    pub(crate) positions: (Position, Position),
}

/// What is counted where two generations are compared: the documents of each, those that differ, those that differ for
/// whatever reason, and the lowest and highest position.
pub(crate) type Counts = (i64, i64, i64, i64, i64, i64);

/// A document that differs, as it is read: its key, and what each of the two has of it.
pub(crate) type Sample = (String, Option<String>, Option<String>);

/// What is run within a transaction.
pub(crate) type InTransaction<T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send>>;

/// What is asked of a database about a rebuild.
#[async_trait]
pub(crate) trait Rebuilds: Send + Sync {
    /// Writes what a part of the log comes to, as [`Store::commit`](super::Store::commit) does, with these documents beside
    /// those of the commit, into a table that nobody reads yet; `first` when nothing was written there before.
    async fn write_bulk(
        &self,
        commit: &Commit<'_>,
        documents: GivenAway,
        first: bool,
    ) -> Result<bool, sqlx::Error>;

    /// The most bytes of documents of a part that is not the first: others may have to wait while it is written.
    fn later_part_bytes_max(&self) -> usize;

    /// Empties the table of a generation that nothing was folded into yet, if its ranges are still held. Who held them
    /// before and still writes there, or is frozen while it does, is ended.
    async fn empty(&self, generation: i64, table: &Table, claims: &[Claim]) -> Result<bool, sqlx::Error>;

    /// Makes the key of a table that was filled without one.
    async fn make_key(&self, table: &Table) -> Result<(), sqlx::Error>;

    /// Makes the key and the indexes of a table that was filled without them, and ends the generation's replay.
    async fn finish_replay(&self, generation: i64, table: &Table, shards: u16) -> Result<(), sqlx::Error>;

    /// Moves a generation to another phase, if it is in the one that it was seen in. What was found out about it is
    /// forgotten.
    async fn set_phase(&self, generation: i64, from: Phase, to: Phase) -> Result<bool, sqlx::Error>;

    /// Keeps what was found out about a generation that is verified, and moves it on; whether it still was.
    async fn end_verify(&self, generation: i64, report: &str, to: Phase) -> Result<bool, sqlx::Error>;

    /// Lets a generation that is built wait, or go on; whether it is built still. One that is served never waits.
    async fn set_paused(&self, generation: i64, paused: bool) -> Result<bool, sqlx::Error>;

    /// Agrees that a generation is served though it differs; whether it is held for that.
    async fn confirm(&self, generation: i64) -> Result<bool, sqlx::Error>;

    /// Compares two generations.
    async fn compare(&self, served: (i64, &Table), built: (i64, &Table)) -> Result<Comparison, sqlx::Error>;

    /// Makes a generation the one that is served, in place of `live`, which is retired when it is of the same version; at
    /// once, and only if no reader goes backwards by it. `false` when it is behind, or anything is not as it was seen.
    async fn cut_over(&self, generation: (i64, Phase), live: Option<(i64, bool)>) -> Result<bool, sqlx::Error>;
}

/// Statements for both databases. `$paused`: for how many seconds a generation waits.
macro_rules! rebuilds {
    ($store:ty, $later_part:expr, $now:literal, $paused:literal, $text:literal, $no_keys:literal, $lock:literal) => {
        #[async_trait]
        impl Rebuilds for $store {
            async fn write_bulk(
                &self,
                commit: &Commit<'_>,
                documents: GivenAway,
                first: bool,
            ) -> Result<bool, sqlx::Error> {
                let is_written = self.bulk(commit, &Pieces::of(documents), first).await?;
                if is_written {
                    commit.log_parked();
                }
                Ok(is_written)
            }

            fn later_part_bytes_max(&self) -> usize {
                $later_part
            }

            async fn empty(
                &self,
                generation: i64,
                table: &Table,
                claims: &[Claim],
            ) -> Result<bool, sqlx::Error> {
                self.truncate(generation, table, claims).await
            }

            async fn make_key(&self, table: &Table) -> Result<(), sqlx::Error> {
                self.key(table).await
            }

            async fn finish_replay(&self, generation: i64, table: &Table, shards: u16) -> Result<(), sqlx::Error> {
                self.index(table).await?;
                sqlx::query(concat!(
                    "UPDATE view_generations SET phase = 'catch_up', shards = $2, phase_at = ", $now,
                    " WHERE generation = $1 AND phase = 'replay'"
                ))
                .bind(generation)
                .bind(i32::from(shards))
                .execute(self.writer())
                .await
                .map(drop)
            }

            async fn set_phase(&self, generation: i64, from: Phase, to: Phase) -> Result<bool, sqlx::Error> {
                let moved = sqlx::query(concat!(
                    "UPDATE view_generations SET phase = $3, report = NULL, phase_at = ", $now,
                    " WHERE generation = $1 AND phase = $2"
                ))
                .bind(generation)
                .bind(from.as_str())
                .bind(to.as_str())
                .execute(self.writer())
                .await?;
                Ok(moved.rows_affected() == 1)
            }

            async fn end_verify(&self, generation: i64, report: &str, to: Phase) -> Result<bool, sqlx::Error> {
                let ended = sqlx::query(concat!(
                    "UPDATE view_generations SET report = $2, phase = $3, phase_at = ", $now,
                    " WHERE generation = $1 AND phase = 'verify'"
                ))
                .bind(generation)
                .bind(report)
                .bind(to.as_str())
                .execute(self.writer())
                .await?;
                Ok(ended.rows_affected() == 1)
            }

            async fn set_paused(&self, generation: i64, paused: bool) -> Result<bool, sqlx::Error> {
                let set = sqlx::query(concat!(
                    "UPDATE view_generations SET paused = $2, \
                        paused_at = CASE WHEN $2 THEN coalesce(paused_at, ", $now, ") END, \
                        paused_seconds = paused_seconds + CASE WHEN $2 THEN 0 ELSE coalesce(", $paused, ", 0) END \
                     WHERE generation = $1 AND phase IN ('replay', 'catch_up', 'verify', 'held')",
                ))
                .bind(generation)
                .bind(paused)
                .execute(self.writer())
                .await?;
                Ok(set.rows_affected() == 1)
            }

            async fn confirm(&self, generation: i64) -> Result<bool, sqlx::Error> {
                let confirmed = sqlx::query(
                    "UPDATE view_generations SET confirm_diff = FALSE WHERE generation = $1 AND phase = 'held' \
                        AND NOT paused",
                )
                .bind(generation)
                .execute(self.writer())
                .await?;
                Ok(confirmed.rows_affected() == 1)
            }

            async fn compare(
                &self,
                served: (i64, &Table),
                built: (i64, &Table),
            ) -> Result<Comparison, sqlx::Error> {
                // Up to there, both have taken in the same events.
                let both = "(SELECT coalesce(min(position), 0) FROM view_ranges WHERE generation IN ($1, $2))";
                let pairs = format!(
                    "FROM {} AS served FULL JOIN {} AS built ON served.key = built.key",
                    served.1.name, built.1.name
                );
                let differ = format!(
                    "served.body IS DISTINCT FROM built.body AND coalesce(served.position, 0) <= {both} \
                     AND coalesce(built.position, 0) <= {both}"
                );
                let counts = format!(
                    "SELECT count(served.body), count(built.body), count(CASE WHEN {differ} THEN 1 END), \
                        count(CASE WHEN served.body IS DISTINCT FROM built.body THEN 1 END), {both}, \
                        (SELECT coalesce(max(position), 0) FROM view_ranges WHERE generation IN ($1, $2)) {pairs}"
                );
                let samples = format!(
                    concat!(
                        "SELECT coalesce(served.key, built.key), served.body", $text, ", built.body", $text,
                        " {pairs} WHERE {differ} ORDER BY 1 LIMIT {limit}"
                    ),
                    pairs = pairs,
                    differ = differ,
                    limit = SAMPLES_MAX,
                );
                let tables = [&served.1.name, &built.1.name];
                let (counts, samples, digests) =
                    self.read_as_one(counts, samples, [served.0, built.0], tables).await?;
                let (served, built, differing, all_differing, low, high) = counts;
                let difference = |(key, served, built)| Difference { key, served, built };
                Ok(Comparison {
                    served: served as u64,
                    built: built as u64,
                    differing: differing as u64,
                    undecided: (all_differing - differing) as u64,
                    differences: samples.into_iter().map(difference).collect(),
                    positions: (Position::from_i64(low), Position::from_i64(high)),
                    digests,
                })
            }

            async fn cut_over(
                &self,
                generation: (i64, Phase),
                live: Option<(i64, bool)>,
            ) -> Result<bool, sqlx::Error> {
                self.in_transaction(move |mut transaction| {
                    Box::pin(async move {
                        let (id, phase) = generation;
                        // Nobody moves the one that is served while the two are compared.
                        let locked = concat!("SELECT 1 FROM view_ranges WHERE generation = $1 ORDER BY slice_from", $lock);
                        let live_id = live.map_or(0, |(live, _)| live);
                        sqlx::query(locked).bind(live_id).fetch_all(&mut *transaction).await?;
                        // Slice by slice: a document may have been read as it was far ahead of the lowest range.
                        let (new, behind): (i64, i64) = sqlx::query_as(
                            "SELECT coalesce(min(built.position), -1), count(served.position) FROM view_ranges AS built \
                             LEFT JOIN view_ranges AS served ON served.generation = $2 AND built.position < served.position \
                                AND served.slice_from < built.slice_to AND built.slice_from < served.slice_to \
                             WHERE built.generation = $1",
                        )
                        .bind(id)
                        .bind(live_id)
                        .fetch_one(&mut *transaction)
                        .await?;
                        let mut fit = new >= 0 && behind == 0;
                        let steps = [
                            live.filter(|(_, same)| *same).map(|(live, _)| (live, Phase::Live, Phase::Retired)),
                            Some((id, phase, Phase::Live)),
                        ];
                        for (id, from, to) in steps.into_iter().flatten() {
                            let moved = sqlx::query(concat!(
                                "UPDATE view_generations SET phase = $3, phase_at = ", $now,
                                " WHERE generation = $1 AND phase = $2 AND NOT paused"
                            ))
                            .bind(id)
                            .bind(from.as_str())
                            .bind(to.as_str())
                            .execute(&mut *transaction)
                            .await?;
                            fit = fit && moved.rows_affected() == 1;
                        }
                        // So that the next change is known to be the first since it is served.
                        sqlx::query(concat!(
                            "INSERT INTO view_changes (generation, position_to, slice_from, keys, committed_at) \
                             VALUES ($1, $2, 0, ", $no_keys, ", ", $now, ") ON CONFLICT DO NOTHING"
                        ))
                        .bind(generation.0)
                        .bind(new)
                        .execute(&mut *transaction)
                        .await?;
                        match fit {
                            true => transaction.commit().await?,
                            false => transaction.rollback().await?,
                        }
                        Ok(fit)
                    })
                })
                .await
            }
        }
    };
}

rebuilds!(
    crate::postgres::Postgres,
    usize::MAX,
    "clock_timestamp()",
    "EXTRACT(epoch FROM clock_timestamp() - paused_at)::float8",
    "::text",
    "'{}'",
    " FOR SHARE"
);
rebuilds!(
    crate::sqlite::Sqlite,
    16 << 20,
    "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
    "(julianday('now') - julianday(paused_at)) * 86400.0",
    "",
    "'[]'",
    ""
);
