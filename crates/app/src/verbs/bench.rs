//! `daybook bench …`

mod shape;

use std::time::Instant;

use anyhow::{Context, bail};
use chrono::Utc;
use clap::ArgMatches;
use daybook_core::{Event, Position, Revision, StreamId, event_set};
use daybook_dispatch::Request;
use daybook_log::{Append, Expected, Log, NewRecord, Verdict};
use futures_util::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use self::shape::Shape;
use crate::config::Config;
use crate::engine::Databases;
use crate::progress::Progress;
use crate::terminal;

/// How many appends are under way: enough for the next group to be there when the one before is committed.
const APPENDS: usize = 4;

/// One of many events that were written to see what a long log costs. Nobody's view is about it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filled {
    /// Which event of its stream it is, from 1.
    number: u64,
    /// How many its stream is to have.
    of: u64,
    /// Makes the payload 200 bytes long, give or take a digit.
    filler: String,
}

impl Event for Filled {
    const TYPE: &'static str = "daybook.bench.filled";
    const VERSION: u32 = 1;
}

event_set! {
    /// What a filled log holds.
    pub(crate) enum FillEvent { Filled }
}

/// What streams are named with.
#[derive(Debug, Clone, Copy)]
enum Ids {
    /// Version 7: those of a time stand beside each other in an index.
    Ordered,
    /// Version 4: each stands somewhere else.
    Random,
}

/// Writes what a benchmark needs.
pub(crate) async fn bench(config: &Config, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let Some(("fill", arguments)) = arguments.subcommand() else { bail!("say what to do: fill") };
    let shape = shape(arguments)?;
    let ids = match arguments.get_one::<String>("ids").map(String::as_str) {
        Some("random") => Ids::Random,
        _ => Ids::Ordered,
    };
    let databases = Databases::create(config).await?;
    databases.migrate().await?;
    let log = Log::open(databases.log.clone(), config.appends.clone()).await?;
    let begun = Instant::now();
    let outcome = match check_empty(&log, arguments.get_flag("add")).await {
        Ok(head) => fill(&log, head, &shape, ids).await,
        Err(error) => Err(error),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let position = log.head().await.map(|head| head.position);
    log.close().await;
    databases.close().await;
    outcome?;

    let per_second = shape.events as f64 / seconds;
    if as_json {
        return terminal::json(&json!({
            "events": shape.events, "streams": shape.streams, "seconds": seconds, "per_second": per_second,
            "position": position?,
        }));
    }
    let (events, streams, position) = (shape.events, shape.streams, position?);
    terminal::line(format_args!(
        "wrote {events} events to {streams} streams in {seconds:.1} s ({per_second:.0}/s); the log ends at {position}"
    ))
}

fn shape(arguments: &ArgMatches) -> anyhow::Result<Shape> {
    let events = *arguments.get_one::<u64>("events").context("how many events?")?;
    let streams = arguments.get_one::<u64>("streams").copied().unwrap_or_else(|| events.div_ceil(10));
    if streams > events {
        bail!("{events} events cannot be in {streams} streams: each has one at least");
    }
    Ok(Shape { events, streams })
}

/// Where the log ends. What is filled in stays for ever, so it does not go into a log that somebody uses.
async fn check_empty(log: &Log, add: bool) -> anyhow::Result<Position> {
    match log.head().await?.position {
        position if add || position == Position::START => Ok(position),
        position => bail!(
            "the log holds {position} events already, and what is filled in stays there for ever: `--add` does so"
        ),
    }
}

async fn fill(log: &Log, head: Position, shape: &Shape, ids: Ids) -> anyhow::Result<()> {
    let progress = Progress::new("filling", "events", shape.events);
    let blocks = stream::iter(shape.blocks()).map(|block| fill_block(log, head, shape, block, ids, &progress));
    blocks.buffer_unordered(APPENDS).try_collect::<()>().await?;
    progress.finish();
    Ok(())
}

/// Writes the first event of each stream in a block, then the second, and so on, as streams grow beside each other.
async fn fill_block(
    log: &Log,
    mut read_at: Position,
    shape: &Shape,
    block: std::ops::Range<u64>,
    ids: Ids,
    progress: &Progress,
) -> anyhow::Result<()> {
    let streams: Vec<(StreamId, u64)> = block
        .map(|index| {
            let id = match ids {
                Ids::Ordered => Uuid::now_v7(),
                Ids::Random => Uuid::new_v4(),
            };
            (StreamId::new("daybook.bench", id), shape.length(index))
        })
        .collect();
    for number in 1.. {
        let growing: Vec<_> = streams.iter().filter(|(_, length)| *length >= number).collect();
        if growing.is_empty() {
            break;
        }
        let append = append(number, read_at, &growing)?;
        match log.append(append).await? {
            Verdict::Committed(receipt) => {
                read_at = receipt.position;
                progress.advance(growing.len() as u64);
            }
            other => bail!("streams that nobody knows were written to: {other:?}"),
        }
    }
    Ok(())
}

/// One more event for each of `streams`, which nobody else had written to when the log ended at `read_at`.
fn append(number: u64, read_at: Position, streams: &[&(StreamId, u64)]) -> anyhow::Result<Append> {
    let command_id = Uuid::now_v7();
    let events = streams.iter().map(|(stream, of)| {
        let filled = Filled { number, of: *of, filler: "filler ".repeat(24) };
        NewRecord::new(stream.clone(), &FillEvent::from(filled))
    });
    let expected = streams.iter().map(|(stream, _)| Expected {
        stream: stream.clone(),
        revision: Revision::new(number - 1),
        read_at: Some(read_at),
    });
    Ok(Append {
        id: "fill".to_owned(),
        command_id,
        events: events.collect::<Result<_, _>>()?,
        metadata: Request::system("bench").metadata("daybook.bench.fill", command_id, Utc::now()),
        expected: expected.collect(),
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_goes_on_with_each_stream_where_it_is() {
        let streams = [(StreamId::new("daybook.bench", 1), 10), (StreamId::new("daybook.bench", 2), 11)];
        let append = append(3, Position::START, &streams.iter().collect::<Vec<_>>()).expect("JSON");
        let revisions: Vec<_> = append.expected.iter().map(|expected| expected.revision.get()).collect();
        assert_eq!(revisions, [2, 2]);
        for event in &append.events {
            assert_eq!(event.payload.len(), 200, "{}", event.payload);
        }
    }
}
