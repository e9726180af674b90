//! The least that a replay has to do: a row stream, and a match on the type. What `replay` is compared with.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::{ArgMatches, Command};
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};

use crate::arguments;
use crate::filled::FilledEvent;
use crate::replay::Seen;

/// The events behind a position, as many as wanted.
pub(crate) const EVENTS: &str = "SELECT position, stream, revision, type, payload, metadata FROM events \
     WHERE position > $1 ORDER BY position LIMIT $2";

pub(crate) fn command() -> Command {
    Command::new("row-stream").about("Reads a filled log by hand").args(arguments::store())
}

/// An event, as somebody who writes this by hand would hold it.
pub(crate) struct Event {
    pub(crate) position: i64,
    pub(crate) stream: String,
    revision: i64,
    /// Unless it is about something else than the streams.
    pub(crate) event: Option<FilledEvent>,
    metadata: String,
}

impl Event {
    /// The event in a row of [`EVENTS`], which has to be the one behind `last`.
    pub(crate) fn of(row: &PgRow, last: i64) -> anyhow::Result<Self> {
        // The text that `json` is sent as.
        let text = |column| row.try_get_unchecked::<&str, _>(column);
        let payload = text(4)?;
        let event = Self {
            position: row.try_get(0)?,
            stream: row.try_get(1)?,
            revision: row.try_get(2)?,
            event: match row.try_get(3)? {
                "daybook.bench.filled" => Some(FilledEvent::Filled(serde_json::from_str(payload)?)),
                "bench.counted" => Some(FilledEvent::Counted(serde_json::from_str(payload)?)),
                "daybook.projection.rebuild_requested" => None,
                other => bail!("an event of type {other}"),
            },
            metadata: text(5)?.to_owned(),
        };
        let is_whole = event.revision > 0 && !event.stream.is_empty() && !event.metadata.is_empty();
        ensure!(event.position == last + 1 && is_whole, "position {} after {last}", event.position);
        Ok(event)
    }
}

/// Reads the whole log; answers where it ends.
pub(crate) async fn read_all(
    connection: &mut PgConnection,
    mut take: impl FnMut(Event) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let head: i64 = sqlx::query_scalar("SELECT max(position) FROM events").fetch_one(&mut *connection).await?;
    let mut last = 0;
    let mut rows = sqlx::query(EVENTS).bind(0_i64).bind(head).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let event = Event::of(&row, last)?;
        last = event.position;
        take(event)?;
    }
    u64::try_from(head).context("a position is not negative")
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let mut connection = PgConnection::connect(arguments::text(arguments, "url")?).await?;
    let begun = Instant::now();
    let mut seen = Seen::default();
    let head = read_all(&mut connection, |event| {
        event.event.iter().for_each(|event| seen.take(event));
        Ok(())
    })
    .await?;
    seen.to_json(begun, head)
}
