//! A log that is there already, published by the relay.

use std::time::Instant;

use clap::{ArgMatches, Command};
use daybook_kafka::Relay;
use daybook_log::Log;
use serde_json::{Value, json};

use super::{remove, settings, store};
use crate::{arguments, process};

pub(crate) fn command() -> Command {
    Command::new("relay")
        .about("Publishes a filled log to a new topic, from its first event to its last")
        .args(store())
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let settings = settings(arguments)?;
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await?;
    let head = log.head().await?.position;
    let begun = Instant::now();
    let relay = Relay::start(&log, &database, settings.clone());
    relay.acknowledged().wait_for(|reached| *reached >= head).await?;
    let seconds = begun.elapsed().as_secs_f64();
    relay.stop().await;
    log.close().await;
    database.close().await;
    remove(&settings).await?;
    Ok(json!({
        "per_second": head.get() as f64 / seconds,
        "cpu_s": process::cpu_s(None),
        "peak_mib": process::memory_mib(None, "VmHWM"),
    }))
}
