//! Which metrics are wanted, and in which order things are measured.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bench::figures::{Row, Samples};
use crate::bench::goals::{Metric, metrics};

/// How long one measurement takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Before anything counts, in seconds.
    pub(crate) warm_up_s: u64,
    /// What counts, in seconds.
    pub(crate) seconds: u64,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Benches, or beginnings of metrics' names.
    pub(crate) names: Vec<String>,
    /// How often each thing is measured.
    pub(crate) rounds: usize,
    pub(crate) pace: Pace,
    /// How long a snapshot is open before it is seen what it costs, in seconds.
    pub(crate) snapshot_s: u64,
    /// How many events a log has that is long; each bench has a number of its own without it.
    pub(crate) events: Option<u64>,
}

impl Plan {
    /// Whether a metric was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        metrics().any(|metric| metric.name == name && self.names.iter().any(|asked| metric.is_meant_by(asked)))
    }

    /// Takes all `runs` in turn, again and again, and every other time in the reverse order, so that a machine that
    /// becomes slower or faster on the way does so for all of them.
    pub(crate) async fn alternate<R: Copy + Ord + std::fmt::Debug>(
        &self,
        runs: &[R],
        mut measure: impl AsyncFnMut(R) -> anyhow::Result<Value>,
    ) -> anyhow::Result<Runs<R>> {
        let mut all = Runs(BTreeMap::new());
        for round in 0..self.rounds {
            let mut order = runs.to_vec();
            if round % 2 == 1 {
                order.reverse();
            }
            for run in order {
                let measured = measure(run).await?;
                println!("    {}/{} {run:?}: {measured}", round + 1, self.rounds);
                all.0.entry(run).or_default().push(measured);
            }
        }
        Ok(all)
    }
}

/// What was measured in each run.
#[derive(Debug)]
pub(crate) struct Runs<R>(BTreeMap<R, Vec<Value>>);

impl<R: Ord> Runs<R> {
    /// A field of what was measured, or what stands under a path that begins with `/`. Where callers did not keep up with
    /// what was due, it is no number: nothing was seen of how it is at that rate, and no goal is met.
    pub(crate) fn samples(&self, run: R, field: &str) -> Samples {
        let sample = |measured: &Value| match measured.get("kept_up") {
            Some(Value::Bool(false)) => Some(f64::NAN),
            _ if field.starts_with('/') => measured.pointer(field)?.as_f64(),
            _ => measured.get(field)?.as_f64(),
        };
        self.0.get(&run).into_iter().flatten().filter_map(sample).collect()
    }

    /// A field of a part of what was measured, whether callers kept up or not.
    pub(crate) fn samples_of(&self, run: R, part: &str, field: &str) -> Samples {
        let sample = |measured: &Value| measured.get(part)?.get(field)?.as_f64();
        self.0.get(&run).into_iter().flatten().filter_map(sample).collect()
    }

    /// The first text under a path in what was measured.
    pub(crate) fn text(&self, run: R, path: &str) -> Option<String> {
        let found = self.0.get(&run).into_iter().flatten().find_map(|measured| measured.pointer(path)?.as_str());
        found.map(str::to_owned)
    }

    /// The rates of a run.
    pub(crate) fn rates(&self, run: R) -> Samples {
        self.samples(run, "per_second")
    }
}

/// The row of a metric.
///
/// # Panics
///
/// When there is no such metric: a mistake in the program.
pub(crate) fn row(name: &str, value: Samples, baseline: Option<Samples>) -> Row {
    let found: Option<&'static Metric> = metrics().find(|metric| metric.name == name);
    let Some(metric) = found else { panic!("there is no metric `{name}`") };
    Row { metric, value, baseline, missed: None, load: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(names: &[&str]) -> Plan {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Plan { names, rounds: 3, pace: Pace { warm_up_s: 1, seconds: 1 }, snapshot_s: 1, events: None }
    }

    #[tokio::test]
    async fn runs_alternate_and_every_other_round_is_reversed() {
        let mut order = String::new();
        let measure = async |run| {
            order.push(run);
            Ok(json!({"per_second": order.len()}))
        };
        let runs = plan(&[]).alternate(&['a', 'b'], measure).await.expect("nothing fails");
        assert_eq!(order, "abbaab");
        assert_eq!(runs.rates('b'), [2.0, 3.0, 6.0].into_iter().collect());
        assert_eq!(runs.samples('b', "p99_ms"), Samples::default());
    }

    #[tokio::test]
    async fn who_did_not_keep_up_has_shown_nothing_but_how_far_they_came() {
        let mut rounds = [false, true, false].into_iter();
        let measure = async |_| {
            let kept_up = rounds.next();
            Ok(json!({"kept_up": kept_up, "p50_ms": 1.0, "appends": {"per_second": 10.0, "kept_up": kept_up}}))
        };
        let runs = plan(&[]).alternate(&["lag"], measure).await.expect("nothing fails");
        assert!(runs.samples("lag", "p50_ms").median().is_nan());
        assert_eq!(runs.samples_of("lag", "appends", "per_second").median(), 10.0);
    }

    #[test]
    fn what_was_asked_for_is_wanted() {
        let plan = plan(&["hot", "append.c1"]);
        assert!(plan.wants("hot.c64") && plan.wants("append.c1"));
        assert!(!plan.wants("append.c64") && !plan.wants("no.such.metric"));
    }
}
