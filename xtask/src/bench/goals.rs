//! What is measured, and what is good enough.
//!
//! Figures differ from machine to machine, so a goal is a ratio to a baseline that the same run measures on the same
//! server, in turn. Only times and memory, which people wait for and pay for, have limits of their own.

/// A metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its name: a bench, a dot, and what is measured there.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

/// What is good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At least so many times the baseline.
    RatioAtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Goal {
    /// The number in it.
    pub(crate) fn number(self) -> f64 {
        match self {
            Self::RatioAtLeast(number) | Self::AtMost(number) => number,
        }
    }
}

impl Metric {
    /// The bench that measures it.
    pub(crate) fn bench(&self) -> &'static str {
        let end = self.name.find(['.', '_']).unwrap_or(self.name.len());
        &self.name[..end]
    }

    /// Whether `asked`, a bench or the beginning of metrics' names, means this one.
    pub(crate) fn is_meant_by(&self, asked: &str) -> bool {
        asked == "all"
            || asked == self.bench()
            || self.name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

const fn metric(name: &'static str, unit: &'static str, goal: Goal) -> Metric {
    Metric { name, unit, goal }
}

use Goal::{AtMost, RatioAtLeast};

/// All metrics, in the order in which they are printed.
pub(crate) const METRICS: &[Metric] = &[
    metric("append.c1", "events/s", RatioAtLeast(1.2)),
    metric("append.c64", "events/s", RatioAtLeast(6.0)),
    metric("append.c64.p99_ms", "ms", AtMost(4.0)),
    metric("append.c256", "events/s", RatioAtLeast(9.0)),
    metric("append.c256.p99_ms", "ms", AtMost(8.0)),
    metric("hot.c64", "commands/s", RatioAtLeast(0.7)),
    metric("hot.two_processes", "commands/s", RatioAtLeast(0.3)),
    metric("hot.two_processes.p99_ms", "ms", AtMost(100.0)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_asked_for_by_its_bench_or_its_name() {
        let metric = metric("append.c64.p99_ms", "ms", AtMost(4.0));
        for asked in ["all", "append", "append.c64", "append.c64.p99_ms"] {
            assert!(metric.is_meant_by(asked), "{asked}");
        }
        for asked in ["app", "append.c6", "append.c64.p99_ms.x", "hot", ""] {
            assert!(!metric.is_meant_by(asked), "{asked}");
        }
    }

    #[test]
    fn every_metric_is_named_once() {
        for (index, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[..index].iter().all(|other| other.name != metric.name), "{}", metric.name);
        }
    }
}
