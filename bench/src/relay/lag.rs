//! How long it takes from a receipt until the brokers have acknowledged what was appended.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Arg, ArgMatches, Command};
use daybook_core::Position;
use daybook_kafka::Relay;
use daybook_log::Log;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::{remove, settings, store};
use crate::append::Appending;
use crate::calls::{Caller, histogram, open_loop, quantile_ms};
use crate::{arguments, workload};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn command() -> Command {
    Command::new("relay-lag")
        .about("Appends in open loop, and sees when it is published, in one process")
        .args(store())
        .args(arguments::load())
        .arg(Arg::new("rate").long("rate").required(true).help("How many appends are due a second"))
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let settings = settings(arguments)?;
    let database = arguments::open(arguments).await?;
    let keys = workload::keys(&database).await?;
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await?;
    let head = log.head().await?.position;
    let relay = Relay::start(&log, &database, settings.clone());
    let callers: u64 = arguments::parse(arguments, "callers")?;
    // The first event waits until there is a topic; nobody is measured by that.
    let mut first = Appending::new(&log, &keys, head, callers);
    let (_, begin) = first.append().await?;
    timeout(LIMIT, relay.acknowledged().wait_for(|reached| *reached >= begin)).await??;
    let window = arguments::window(arguments)?;
    let (noting, noted) = mpsc::unbounded_channel();
    let lags = tokio::spawn(see(noted, relay.acknowledged(), Instant::now() + window.warm_up));
    let callers = (0..callers)
        .map(|index| Noting { appending: Appending::new(&log, &keys, begin, index), receipts: noting.clone() })
        .collect();
    drop(noting);
    let appended = open_loop(callers, arguments::parse(arguments, "rate")?, window).await?;
    let lags = lags.await??;
    ensure!(!lags.is_empty(), "nothing was published in time");
    relay.stop().await;
    log.close().await;
    database.close().await;
    remove(&settings).await?;
    Ok(json!({
        "p50_ms": quantile_ms(&lags, 0.5),
        "p99_ms": quantile_ms(&lags, 0.99),
        "max_ms": quantile_ms(&lags, 1.0),
        "kept_up": appended.kept_up(),
        "appends": appended.to_json(),
    }))
}

/// A receipt, and when it was there.
type Receipt = (Position, Instant);

struct Noting {
    appending: Appending,
    receipts: mpsc::UnboundedSender<Receipt>,
}

impl Caller for Noting {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (_, position) = self.appending.append().await?;
        // Whoever is told has failed otherwise, and says so.
        let _ = self.receipts.send((position, Instant::now()));
        Ok(())
    }
}

/// Takes the time from each receipt until its event was acknowledged.
async fn see(
    mut receipts: mpsc::UnboundedReceiver<Receipt>,
    mut acknowledged: watch::Receiver<Position>,
    from: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let (mut lags, mut waiting) = (histogram()?, Vec::new());
    loop {
        tokio::select! {
            biased;
            changed = acknowledged.changed() => changed?,
            receipt = receipts.recv() => match receipt {
                Some(receipt) => waiting.push(receipt),
                None if waiting.is_empty() => return Ok(lags),
                None => timeout(LIMIT, acknowledged.changed()).await??,
            },
        }
        let (now, reached) = (Instant::now(), *acknowledged.borrow());
        for (_, receipt) in waiting.extract_if(.., |(position, _)| *position <= reached) {
            if receipt >= from {
                lags.record(u64::try_from((now - receipt).as_micros())?.max(1))?;
            }
        }
    }
}
