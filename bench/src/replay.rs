//! Replays of a whole log, each event decoded into its contract.

use std::time::Instant;

use anyhow::{Context, bail};
use clap::{ArgMatches, Command};
use daybook_core::Envelope;
use daybook_log::{Log, Settings};
use serde_json::{Value, json};

use crate::arguments;
use crate::filled::FilledEvent;

/// How many events are read at a time.
const PAGE: usize = 2_000;

pub(crate) fn command() -> Command {
    Command::new("replay").about("Replays a filled log, typed").args(arguments::store())
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let head = log.head().await?;
    let begun = Instant::now();
    let mut seen = Seen::default();
    let mut scan = log.scan(&log.checkpoint(&head, None), PAGE);
    while let Some(page) = scan.next().await? {
        for record in &page {
            let envelope = Envelope::<FilledEvent>::open(record)?.context("another kind of event")?;
            seen.take(&envelope.event);
        }
    }
    let measured = seen.to_json(begun, head.position.get())?;
    log.close().await;
    database.close().await;
    Ok(measured)
}

/// What was seen of the events: something that depends on each of them being decoded.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    events: u64,
    numbers: u64,
}

impl Seen {
    /// Takes in one more.
    pub(crate) fn take(&mut self, event: &FilledEvent) {
        self.events += 1;
        self.numbers += match event {
            FilledEvent::Filled(filled) => filled.number,
            FilledEvent::Counted(counted) => counted.count,
        };
    }

    /// What is printed of it, when it was all that the log holds.
    pub(crate) fn to_json(&self, begun: Instant, head: u64) -> anyhow::Result<Value> {
        if self.events != head {
            bail!("{} events were read, of {head}", self.events);
        }
        Ok(json!({
            "per_second": self.events as f64 / begun.elapsed().as_secs_f64(),
            "sum": self.numbers,
            "peak_mib": crate::process::memory_mib(None, "VmHWM"),
        }))
    }
}
