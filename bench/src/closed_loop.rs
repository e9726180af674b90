//! Callers that each send the next call when the one before was answered.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process;

/// Somebody who calls again and again.
pub(crate) trait Caller: Send + 'static {
    /// Makes one call, and waits for its answer.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// When calls are made, and which of them count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// How long to call before anything counts.
    pub(crate) warm_up: Duration,
    /// How long what is answered counts.
    pub(crate) measured: Duration,
}

/// What was seen.
pub(crate) struct Measured {
    /// The calls that were answered, those of the warm-up included.
    pub(crate) calls: u64,
    seconds: f64,
    /// Of the calls that counted, in microseconds.
    latencies: Histogram<u64>,
}

/// Has all callers call at once.
///
/// # Errors
///
/// When one call fails, or none is answered in time: a measurement over such calls would say nothing.
pub(crate) async fn closed_loop<C: Caller>(callers: Vec<C>, window: Window) -> anyhow::Result<Measured> {
    let from = Instant::now() + window.warm_up;
    let until = from + window.measured;
    let mut measured = Measured { calls: 0, seconds: window.measured.as_secs_f64(), latencies: histogram()? };
    let mut running: JoinSet<_> = callers.into_iter().map(|caller| call_until(caller, from, until)).collect();
    while let Some(ended) = running.join_next().await {
        let (calls, latencies) = ended??;
        measured.calls += calls;
        measured.latencies.add(latencies)?;
    }
    ensure!(!measured.latencies.is_empty(), "nothing was answered in {:?}", window.measured);
    Ok(measured)
}

async fn call_until(
    mut caller: impl Caller,
    from: Instant,
    until: Instant,
) -> anyhow::Result<(u64, Histogram<u64>)> {
    let (mut calls, mut latencies) = (0, histogram()?);
    let mut begun = Instant::now();
    while begun < until {
        caller.call().await?;
        calls += 1;
        let answered = Instant::now();
        if (from..until).contains(&answered) {
            latencies.record(u64::try_from((answered - begun).as_micros())?)?;
        }
        begun = answered;
    }
    Ok((calls, latencies))
}

/// From a microsecond to a minute, to a thousandth.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

impl Measured {
    /// What is printed of it.
    pub(crate) fn to_json(&self) -> Value {
        let ms = |micros: u64| micros as f64 / 1_000.0;
        json!({
            "per_second": self.latencies.len() as f64 / self.seconds,
            "p50_ms": ms(self.latencies.value_at_quantile(0.5)),
            "p99_ms": ms(self.latencies.value_at_quantile(0.99)),
            "max_ms": ms(self.latencies.max()),
            "peak_mib": process::memory_mib(None, "VmHWM"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper;

    impl Caller for Sleeper {
        async fn call(&mut self) -> anyhow::Result<()> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn only_what_is_answered_within_the_window_counts() {
        let window = Window { warm_up: Duration::from_millis(100), measured: Duration::from_millis(200) };
        let measured = closed_loop(vec![Sleeper, Sleeper], window).await.expect("no call fails");
        let json = measured.to_json();
        let per_second = json["per_second"].as_f64().expect("a number");
        // Two callers, each at most a hundred times a second.
        assert!((1.0..=220.0).contains(&per_second), "{json}");
        assert!(json["p50_ms"].as_f64() >= Some(9.9), "{json}");
        assert!(measured.calls > measured.latencies.len(), "the warm-up is counted, but not measured");
    }
}
