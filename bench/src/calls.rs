//! Callers, and when they call: each when its call before was answered, or all together so many times a second.

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

/// Of the calls that are due, how many have to be answered in time: else latencies say nothing but how long it went on.
const KEPT_UP: f64 = 0.95;

/// What was seen.
pub(crate) struct Measured {
    /// The calls that were answered, those of the warm-up included.
    pub(crate) calls: u64,
    seconds: f64,
    /// How many calls a second were due, in an open loop.
    due_per_second: Option<f64>,
    /// Of the calls that counted, in microseconds.
    latencies: Histogram<u64>,
}

/// Has all callers call at once.
///
/// # Errors
///
/// When one call fails, or none is answered in time: a measurement over such calls would say nothing.
pub(crate) async fn closed_loop<C: Caller>(callers: Vec<C>, window: Window) -> anyhow::Result<Measured> {
    let due = callers.iter().map(|_| None).collect();
    call(callers, due, window).await
}

/// Has the callers call so many times a second all together, each in its turn, however long answers take. A latency
/// counts from when the call was due: who was kept from calling in time waited, too. Whether they kept up is for whoever
/// reads the result: that a machine does not get so far is no mistake of the measurement.
///
/// # Errors
///
/// See [`closed_loop`].
pub(crate) async fn open_loop<C: Caller>(
    callers: Vec<C>,
    per_second: f64,
    window: Window,
) -> anyhow::Result<Measured> {
    let between = Duration::from_secs_f64(1.0 / per_second);
    let every = Duration::from_secs_f64(callers.len() as f64 / per_second);
    let begin = Instant::now();
    let due = (0..callers.len()).map(|turn| Some(Due { next: begin + between * turn as u32, every })).collect();
    let measured = call(callers, due, window).await?;
    Ok(Measured { due_per_second: Some(per_second), ..measured })
}

/// Whether so many calls a second were made as were due, but for what is under way at the end.
pub(crate) fn keeps_up(reached: f64, due: f64) -> bool {
    reached > KEPT_UP * due
}

/// When a caller's calls are due.
struct Due {
    next: Instant,
    every: Duration,
}

async fn call<C: Caller>(callers: Vec<C>, due: Vec<Option<Due>>, window: Window) -> anyhow::Result<Measured> {
    let from = Instant::now() + window.warm_up;
    let until = from + window.measured;
    let seconds = window.measured.as_secs_f64();
    let mut measured = Measured { calls: 0, seconds, due_per_second: None, latencies: histogram()? };
    let callers = callers.into_iter().zip(due);
    let mut running: JoinSet<_> = callers.map(|(caller, due)| call_until(caller, due, from, until)).collect();
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
    mut due: Option<Due>,
    from: Instant,
    until: Instant,
) -> anyhow::Result<(u64, Histogram<u64>)> {
    let (mut calls, mut latencies) = (0, histogram()?);
    loop {
        let begun = match &mut due {
            None => Instant::now(),
            Some(Due { next, every }) => std::mem::replace(next, *next + *every),
        };
        // Who is behind what is due does not catch up behind the end: nothing counts there.
        if begun.max(Instant::now()) >= until {
            return Ok((calls, latencies));
        }
        if due.is_some() {
            tokio::time::sleep_until(begun.into()).await;
        }
        caller.call().await?;
        calls += 1;
        let answered = Instant::now();
        if (from..until).contains(&answered) {
            latencies.record(u64::try_from((answered - begun).as_micros())?)?;
        }
    }
}

/// From a microsecond to a minute, to a thousandth.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

impl Measured {
    /// What is printed of it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "per_second": self.per_second(),
            "due_per_second": self.due_per_second,
            "kept_up": self.kept_up(),
            "p50_ms": quantile_ms(&self.latencies, 0.5),
            "p99_ms": quantile_ms(&self.latencies, 0.99),
            "max_ms": quantile_ms(&self.latencies, 1.0),
            "peak_mib": process::memory_mib(None, "VmHWM"),
        })
    }

    /// Whether all calls were answered about as fast as they were due.
    pub(crate) fn kept_up(&self) -> bool {
        self.due_per_second.is_none_or(|due| keeps_up(self.per_second(), due))
    }

    /// How many were answered in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }
}

/// A quantile of times in microseconds, in milliseconds.
pub(crate) fn quantile_ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1_000.0
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

    #[tokio::test]
    async fn in_an_open_loop_waiting_for_ones_turn_counts() {
        let window = Window { warm_up: Duration::from_millis(0), measured: Duration::from_millis(300) };
        let measured = open_loop(vec![Sleeper, Sleeper, Sleeper], 50.0, window).await.expect("no call fails");
        assert!((40.0..=55.0).contains(&measured.per_second()), "{}", measured.to_json());
    }

    #[tokio::test]
    async fn who_cannot_keep_up_says_so() {
        let window = Window { warm_up: Duration::from_millis(0), measured: Duration::from_millis(300) };
        // One caller answers at most 100 a second.
        let measured = open_loop(vec![Sleeper], 1_000.0, window).await.expect("no call fails");
        let json = measured.to_json();
        assert_eq!((&json["due_per_second"], &json["kept_up"]), (&json!(1_000.0), &json!(false)));
        // Of three hundred that were due.
        assert!(measured.calls < 40, "it goes on for {} calls", measured.calls);
    }
}
