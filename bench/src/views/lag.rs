//! How long it takes from a receipt until the view shows what was appended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Arg, ArgMatches, Command};
use daybook_views::{AtLeast, Projectors, Settings, Views};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{FILLED, World, store};
use crate::append::Appending;
use crate::calls::{Caller, histogram, open_loop, quantile_ms};
use crate::{arguments, workload};

/// Of how many receipts one is waited for until it is seen: asking has to cost little beside what is measured.
const SEEN_EVERY: u64 = 20;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn command() -> Command {
    Command::new("lag")
        .about("Appends in open loop, and waits for some of it to be seen in the view")
        .args(store())
        .args(arguments::load())
        .arg(Arg::new("rate").long("rate").required(true).help("How many appends are due a second"))
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let world = World::open(arguments).await?;
    let keys = workload::keys(&world.databases[0]).await?;
    let projectors = Projectors::start(&world.views, Settings::default());
    let window = arguments::window(arguments)?;
    let lags = Arc::new(Mutex::new(histogram()?));
    let from = Instant::now() + window.warm_up;
    let callers: u64 = arguments::parse(arguments, "callers")?;
    let seeing = |index| Seeing {
        appending: Appending::new(&world.log, &keys, world.head, index),
        views: world.views.clone(),
        calls: index,
        from,
        lags: lags.clone(),
    };
    let appended =
        open_loop((0..callers).map(seeing).collect(), arguments::parse(arguments, "rate")?, window).await?;
    projectors.stop().await;
    let seen = lags.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(!seen.is_empty(), "nothing was seen in time");
    world.close().await;
    Ok(json!({
        "p50_ms": quantile_ms(&seen, 0.5),
        "p99_ms": quantile_ms(&seen, 0.99),
        "max_ms": quantile_ms(&seen, 1.0),
        "kept_up": appended.kept_up(),
        "appends": appended.to_json(),
    }))
}

struct Seeing {
    appending: Appending,
    views: Views,
    calls: u64,
    /// From when on it counts.
    from: Instant,
    lags: Arc<Mutex<Histogram<u64>>>,
}

impl Caller for Seeing {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (stream, position) = self.appending.append().await?;
        let receipt = Instant::now();
        self.calls += 1;
        if self.calls.is_multiple_of(SEEN_EVERY) {
            let wanted = AtLeast { position, deadline: tokio::time::Instant::now() + LIMIT };
            let answer = self.views.get(FILLED, stream.id(), Some(wanted)).await?;
            answer.data.context("what was appended is not in the view")?;
            if receipt >= self.from {
                let lag = u64::try_from(receipt.elapsed().as_micros())?.max(1);
                self.lags.lock().unwrap_or_else(PoisonError::into_inner).record(lag)?;
            }
        }
        Ok(())
    }
}
