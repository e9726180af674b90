//! How a campaign says what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The most breaches that are printed.
const SHOWN_MAX: usize = 20;

/// What came of a campaign.
#[derive(Debug)]
pub struct Summary {
    /// What it was about.
    pub title: String,
    /// What all dice started from.
    pub seed: u64,
    /// How long it took.
    pub time: Duration,
    /// How often each thing went wrong, or was done.
    pub faults: BTreeMap<String, u64>,
    /// What else was counted.
    pub counts: Vec<(u64, &'static str)>,
    /// What was wrong.
    pub breaches: Vec<String>,
    /// What would have had to happen, so that it proves anything.
    pub shortcomings: Vec<&'static str>,
}

impl Summary {
    /// Whether all was right, and there was something that could have been wrong.
    pub fn succeeded(&self) -> bool {
        self.breaches.is_empty() && self.shortcomings.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, seed, time, .. } = self;
        writeln!(f, "{title}, seed {seed}, in {:.0} s", time.as_secs_f64())?;
        let violations = (self.breaches.len() as u64, "violations");
        let faults = self.faults.iter().map(|(name, count)| (*count, name.as_str()));
        for (count, what) in faults.chain(self.counts.iter().copied()).chain([violations]) {
            writeln!(f, "  {count:>7}  {what}")?;
        }
        self.breaches.iter().take(SHOWN_MAX).try_for_each(|breach| writeln!(f, "{breach}"))?;
        self.shortcomings.iter().try_for_each(|what| writeln!(f, "It proves too little: {what}."))
    }
}

/// What did not happen, of what has to.
pub(crate) fn shortcomings<const N: usize>(checked: [(bool, &'static str); N]) -> Vec<&'static str> {
    checked.into_iter().filter_map(|(is_short, what)| is_short.then_some(what)).collect()
}
