//! SQL that both databases understand.

use std::fmt::Write;

use crate::EventFilter;
use crate::store::Page;

/// The columns of an event, in the order in which the drivers take them.
macro_rules! event_columns {
    () => {
        "position, stream, revision, id, type, schema_version, recorded_at, metadata, payload"
    };
}
pub(crate) use event_columns;

/// The log's identity and its end.
pub(crate) const HEAD: &str = "\
    SELECT log_id, epoch, coalesce(position, 0), id \
    FROM log_identity LEFT JOIN (SELECT position, id FROM events ORDER BY position DESC LIMIT 1) AS newest ON true";

/// The id of the event at a position.
pub(crate) const EVENT_ID: &str = "SELECT id FROM events WHERE position = $1";

/// The stream that holds a claim.
pub(crate) const CLAIM_HOLDER: &str = "SELECT holder FROM claims WHERE name = $1 AND key = $2";

/// The event that a snapshot was made at, as this history has it. A look-up of its own: a join could become a scan.
macro_rules! snapshot_event {
    ($column:literal) => {
        concat!(
            "(SELECT ",
            $column,
            " FROM events WHERE events.stream = snapshots.stream AND events.revision = snapshots.revision)"
        )
    };
}
pub(crate) use snapshot_event;

/// The snapshots of streams, each of one version, that were made in this history, with the last event that is in each.
macro_rules! snapshots {
    ($streams_and_versions:literal) => {
        concat!(
            "SELECT stream, revision, state_version, CAST(state AS text), event_id, ",
            $crate::sql::snapshot_event!("position"),
            " FROM snapshots WHERE (stream, state_version) IN (",
            $streams_and_versions,
            ") AND event_id = ",
            $crate::sql::snapshot_event!("id")
        )
    };
}
pub(crate) use snapshots;

/// Keeps a snapshot in place of another of its version, unless that one is newer and of this history. Nothing is kept
/// where the last event that is in it does not stand any more: it was made in another history.
macro_rules! keep_snapshot {
    ($state:literal) => {
        concat!(
            "INSERT INTO snapshots (stream, revision, state_version, event_id, state) SELECT stream, revision, $3, id, ",
            $state,
            " FROM events WHERE stream = $1 AND revision = $2 AND id = $5 \
             ON CONFLICT (stream, state_version) DO UPDATE SET revision = excluded.revision, \
                event_id = excluded.event_id, state = excluded.state \
             WHERE excluded.revision >= snapshots.revision OR snapshots.event_id IS DISTINCT FROM ",
            $crate::sql::snapshot_event!("id")
        )
    };
}
pub(crate) use keep_snapshot;

/// The position of the last event recorded before a time. Times never run backwards along the log, so halving the
/// range of positions finds it without an index: `low` was recorded before the time, and nothing behind `high` was.
///
/// Each probe is a subquery, which can only be a look-up: as a join, PostgreSQL would read the whole table while it has
/// no statistics of it.
pub(crate) const LAST_BEFORE: &str = "\
    WITH RECURSIVE search (low, high) AS (
        SELECT CAST(0 AS bigint), (SELECT coalesce(max(position), 0) FROM events)
        UNION ALL
        SELECT
            CASE WHEN (SELECT recorded_at FROM events WHERE position = (low + high + 1) / 2) < $1
                THEN (low + high + 1) / 2 ELSE low END,
            CASE WHEN (SELECT recorded_at FROM events WHERE position = (low + high + 1) / 2) < $1
                THEN high ELSE (low + high - 1) / 2 END
        FROM search WHERE low < high
    )
    SELECT low FROM search WHERE low = high";

/// Selects the events of people. It is the condition of the index `events_of_people`, word for word: only so do the
/// databases know that the index holds all of them.
const OF_PEOPLE: &str = "(stream >= 'account-' AND stream < 'account.' \
    OR stream >= 'daybook.subject-' AND stream < 'daybook.subject.' \
    OR stream >= 'session-' AND stream < 'session.')";

/// The events of a page. Takes the position after which it begins, the one at which it ends, the most events, and
/// then [`page_texts`].
pub(crate) fn page(filter: &EventFilter) -> String {
    let mut sql = String::from(concat!("SELECT ", event_columns!(), " FROM events WHERE "));
    let mut parameter = 3;
    let order = if filter.stream.is_some() {
        // Within a stream revisions are ordered as positions are, and have the index. Where the page begins
        // behind an event of the stream, as all but the first page do, its revision is where to enter the index.
        // The additions keep PostgreSQL from reading all positions between the two out of their own index.
        parameter += 1;
        sql.push_str(
            "position + 0 > $1 AND position + 0 <= $2 AND stream = $4 AND revision > \
             coalesce((SELECT revision FROM events WHERE position = $1 AND stream = $4), 0)",
        );
        "revision"
    } else {
        sql.push_str("position > $1 AND position <= $2");
        "position"
    };
    if filter.of_people {
        sql.push_str(" AND ");
        sql.push_str(OF_PEOPLE);
    }
    let conditions = [
        (&filter.event_type, "type = $"),
        (&filter.actor, "metadata->>'actor' = $"),
        (&filter.correlation_id, "metadata->>'correlation_id' = $"),
    ];
    for (value, condition) in conditions {
        if value.is_some() {
            parameter += 1;
            let condition = condition.replace('$', &format!("${parameter}"));
            // Writing to a String cannot fail.
            let _ = write!(sql, " AND {condition}");
        }
    }
    let _ = write!(sql, " ORDER BY {order} LIMIT $3");
    sql
}

/// The texts that [`page`] takes.
pub(crate) fn page_texts<'a>(page: &Page<'a>) -> impl Iterator<Item = &'a str> {
    let filter = page.filter;
    let stream = filter.stream.as_ref().map(|stream| stream.as_str());
    let others = [&filter.event_type, &filter.actor, &filter.correlation_id];
    stream.into_iter().chain(others.into_iter().filter_map(|value| value.as_deref()))
}
