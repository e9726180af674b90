//! The least that a replay has to do: a row stream, and a match on the type. What `replay` is compared with.

use std::time::Instant;

use anyhow::{Context, bail};
use clap::{ArgMatches, Command};
use futures_util::TryStreamExt;
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row};

use crate::arguments;
use crate::filled::FilledEvent;
use crate::replay::Seen;

pub(crate) fn command() -> Command {
    Command::new("row-stream").about("Reads a filled log by hand").args(arguments::store())
}

/// An event, as somebody who writes this by hand would hold it.
struct Event {
    position: i64,
    stream: String,
    revision: i64,
    event: FilledEvent,
    metadata: String,
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let mut connection = PgConnection::connect(arguments::text(arguments, "url")?).await?;
    let head: i64 = sqlx::query_scalar("SELECT max(position) FROM events").fetch_one(&mut connection).await?;
    let begun = Instant::now();
    let mut seen = Seen::default();
    let mut last = 0;
    let mut rows =
        sqlx::query("SELECT position, stream, revision, type, payload, metadata FROM events ORDER BY position")
            .fetch(&mut connection);
    while let Some(row) = rows.try_next().await? {
        // The text that `json` is sent as.
        let text = |column| row.try_get_unchecked::<&str, _>(column);
        let payload = text(4)?;
        let event = Event {
            position: row.try_get(0)?,
            stream: row.try_get(1)?,
            revision: row.try_get(2)?,
            event: match row.try_get(3)? {
                "daybook.bench.filled" => FilledEvent::Filled(serde_json::from_str(payload)?),
                "bench.counted" => FilledEvent::Counted(serde_json::from_str(payload)?),
                other => bail!("an event of type {other}"),
            },
            metadata: text(5)?.to_owned(),
        };
        if event.position != last + 1 || event.revision < 1 || event.stream.is_empty() || event.metadata.is_empty()
        {
            bail!("position {} after {last}", event.position);
        }
        last = event.position;
        seen.take(&event.event);
    }
    seen.to_json(begun, u64::try_from(head).context("a position is not negative")?)
}
