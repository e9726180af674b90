//! Loads of single streams, as a command does before it decides.

use anyhow::bail;
use clap::{ArgMatches, Command};
use daybook_core::StreamId;
use daybook_log::{Log, Settings};
use serde_json::Value;

use crate::calls::{Caller, closed_loop};
use crate::{arguments, filled};

/// How many streams are loaded in turn.
const STREAMS: u64 = 5_000;

pub(crate) fn command() -> Command {
    Command::new("load")
        .about("Loads streams of a filled log, one at a time")
        .args(arguments::store())
        .args(arguments::load())
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let streams: Vec<_> = filled::streams(&log, STREAMS).await?.into_iter().collect();
    let callers: usize = arguments::parse(arguments, "callers")?;
    let loading =
        |index| Loading { log: log.clone(), streams: streams.clone(), next: index * streams.len() / callers };
    let measured = closed_loop((0..callers).map(loading).collect(), arguments::window(arguments)?).await?;
    log.close().await;
    database.close().await;
    Ok(measured.to_json())
}

struct Loading {
    log: Log,
    streams: Vec<StreamId>,
    next: usize,
}

impl Caller for Loading {
    async fn call(&mut self) -> anyhow::Result<()> {
        let stream = &self.streams[self.next % self.streams.len()];
        self.next += 1;
        let (loaded, _) = self.log.load(filled::missing(stream)?).await?;
        if loaded.iter().any(|loaded| loaded.revision().get() == 0) {
            bail!("`{stream}` is there, and was not found");
        }
        Ok(())
    }
}
