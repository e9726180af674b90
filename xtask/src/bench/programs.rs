//! The programs that are measured, or measure.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;

use crate::bench::plan::Pace;
use crate::{build, child};

/// Our binaries.
#[derive(Debug)]
pub(crate) struct Programs {
    bench: PathBuf,
    /// Only when it is needed: it takes as long again to build.
    daybook: Option<PathBuf>,
}

/// What filled-in streams are named with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    Ordered,
    Random,
}

impl Programs {
    /// Builds them.
    pub(crate) async fn build(profile: &str, with_daybook: bool) -> anyhow::Result<Self> {
        Ok(match with_daybook {
            false => {
                let [bench] = build::binaries(["daybook-bench"], profile).await?;
                Self { bench, daybook: None }
            }
            true => {
                let [bench, daybook] = build::binaries(["daybook-bench", "daybook"], profile).await?;
                Self { bench, daybook: Some(daybook) }
            }
        })
    }

    fn daybook(&self) -> anyhow::Result<&Path> {
        self.daybook.as_deref().context("Daybook itself was not built for this")
    }

    /// A measurement that goes on until all is done.
    pub(crate) fn measurement(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.bench);
        command.arg(verb);
        command
    }

    /// A measurement under load.
    pub(crate) fn load(&self, verb: &str, pace: Pace) -> Command {
        let mut command = self.measurement(verb);
        command.args(["--warm-up", &pace.warm_up_s.to_string(), "--seconds", &pace.seconds.to_string()]);
        command
    }

    /// Commands over HTTP, to a server that is started for it.
    pub(crate) fn http(&self, pace: Pace) -> anyhow::Result<Command> {
        self.serving("http", pace)
    }

    /// Anything over HTTP, to a server that is started for it.
    pub(crate) fn serving(&self, verb: &str, pace: Pace) -> anyhow::Result<Command> {
        let mut command = self.load(verb, pace);
        command.arg("--daybook").arg(self.daybook()?);
        Ok(command)
    }

    /// The start of a server.
    pub(crate) fn start(&self) -> anyhow::Result<Command> {
        let mut command = self.measurement("start");
        command.arg("--daybook").arg(self.daybook()?);
        Ok(command)
    }

    /// Fills a log with made-up events, in so many streams, or a tenth as many.
    pub(crate) async fn fill(&self, url: &str, events: u64, streams: Option<u64>, ids: Ids) -> anyhow::Result<()> {
        let ids = match ids {
            Ids::Ordered => "ordered",
            Ids::Random => "random",
        };
        let mut fill = Command::new(self.daybook()?);
        fill.args(["bench", "fill", "--json", "--events", &events.to_string(), "--ids", ids]);
        fill.args(streams.map(|streams| format!("--streams={streams}")));
        let filled = json(fill.args(["--database-url", url])).await?;
        let rate = filled["per_second"].as_f64().context("a rate")?;
        println!("    filled in {events} events, {rate:.0}/s");
        Ok(())
    }
}

/// Runs a program, and answers the JSON that it printed.
pub(crate) async fn json(command: &mut Command) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&child::read(command).await?)?)
}
