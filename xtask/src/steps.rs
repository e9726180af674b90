//! Steps that are taken one after the other, each with its time.

use std::time::{Duration, Instant};

use anyhow::Context;

/// The steps that were taken.
#[derive(Default)]
pub(crate) struct Steps {
    taken: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    /// Takes a step, and prints what it is and how long it took.
    ///
    /// # Errors
    ///
    /// When the step fails; the error names it.
    pub(crate) async fn take<T>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = step.await;
        let time = start.elapsed();
        println!("    {name}: {} after {:.1} s", verdict(outcome.is_ok()), time.as_secs_f64());
        self.taken.push((name, time, outcome.is_ok()));
        outcome.with_context(|| format!("the step `{name}` failed"))
    }

    /// Prints all steps with their times.
    pub(crate) fn print_summary(&self) {
        println!();
        for (name, time, succeeded) in &self.taken {
            println!("{name:<20} {:>8.1} s  {}", time.as_secs_f64(), verdict(*succeeded));
        }
        let total: Duration = self.taken.iter().map(|(_, time, _)| time).sum();
        println!("{:<20} {:>8.1} s", "total", total.as_secs_f64());
    }
}

fn verdict(succeeded: bool) -> &'static str {
    if succeeded { "ok" } else { "FAILED" }
}
