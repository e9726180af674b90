//! What a campaign came to.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Backend;
use crate::check::{Counts, Violation};
use crate::journal::{Answer, Micros, Record};

/// How many violations are printed.
const SHOWN_MAX: usize = 10;

/// What a campaign came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// On which store.
    pub backend: Backend,
    /// What its dice started from.
    pub seed: u64,
    /// How long it took.
    pub time: Duration,
    /// How often what went wrong.
    pub faults: BTreeMap<String, u64>,
    /// How much was looked at.
    pub counts: Counts,
    /// How many states are kept beside the log in the end.
    pub snapshots: u64,
    /// How long nobody's command was acknowledged.
    pub silence: Silence,
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Why it proves less than it was to.
    pub shortcomings: Vec<String>,
}

impl Summary {
    /// How many faults there were.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many of them broke a connection off while something was written on it.
    pub fn cuts(&self) -> u64 {
        let cuts = self.faults.iter().filter(|(name, _)| name.starts_with("cut"));
        cuts.map(|(_, count)| count).sum()
    }

    /// Whether the log kept its word, and had to.
    pub fn succeeded(&self) -> bool {
        self.violations.is_empty() && self.shortcomings.is_empty()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        let (faults, seed) = (self.faults(), self.seed);
        writeln!(f, "log on {:?}, seed {seed}: {faults} faults in {seconds:.0} s", self.backend)?;
        for (name, count) in &self.faults {
            writeln!(f, "  {count:>7}  {name}")?;
        }
        writeln!(f, "  {:>7}  cuts of a connection in all", self.cuts())?;
        let counts = &self.counts;
        let lines = [
            (counts.events, "events in the log"),
            (counts.acknowledged, "commands acknowledged"),
            (counts.refused, "commands refused"),
            (counts.tried_out, "commands tried out"),
            (self.snapshots, "snapshots in the end"),
            (counts.unknown_resolved, "unknown, and answered when asked for again"),
            (counts.unknown_for_ever, "unknown, and never asked for again"),
            (counts.not_done, "answers that nothing was done"),
            (counts.gave_up, "answers that nobody waited for"),
            (counts.twins_disagree, "refused by one process while another one did it"),
        ];
        for (count, what) in lines {
            writeln!(f, "  {count:>7}  {what}")?;
        }
        for (time, when) in [(self.silence.longest, "at most"), (self.silence.around_crash, "around a crash")] {
            writeln!(f, "  {:>7.2}  seconds without any acknowledgement, {when}", time.as_secs_f64())?;
        }
        writeln!(f, "  {:>7}  violations", self.violations.len())?;
        let mut kinds = BTreeMap::new();
        for violation in &self.violations {
            *kinds.entry(violation.breach).or_insert(0) += 1;
        }
        for (breach, count) in kinds {
            writeln!(f, "  {count:>7}  {breach:?}")?;
        }
        for violation in self.violations.iter().take(SHOWN_MAX) {
            writeln!(f, "{violation}")?;
        }
        for shortcoming in &self.shortcomings {
            writeln!(f, "It proves too little: {shortcoming}.")?;
        }
        Ok(())
    }
}

/// The longest times between two acknowledgements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silence {
    /// While the server was not crashed.
    pub longest: Duration,
    /// While it was.
    pub around_crash: Duration,
}

impl Silence {
    /// Of writers that noted these down, on a server that was down within these times.
    pub(super) fn new(journals: &[(String, Vec<Record>)], crashes: &[RangeInclusive<Micros>]) -> Self {
        let mut times: Vec<_> = journals
            .iter()
            .flat_map(|(_, records)| records)
            .filter_map(|record| match record {
                Record::Answered { at, answer: Answer::Done(_), .. } => Some(*at),
                _ => None,
            })
            .collect();
        times.sort_unstable();
        let mut silence = Self::default();
        for pair in times.windows(2) {
            let crashed = crashes.iter().any(|down| *down.start() <= pair[1] && pair[0] <= *down.end());
            let longest = if crashed { &mut silence.around_crash } else { &mut silence.longest };
            *longest = Duration::from_micros(pair[1] - pair[0]).max(*longest);
        }
        silence
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Position, Receipt};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_what_touches_a_crash_counts_as_around_it() {
        let receipt =
            Receipt { id: "1".into(), command_id: Uuid::nil(), position: Position::START, events: Vec::new() };
        let answered =
            |at| Record::Answered { token: "1".into(), attempt: 1, at, answer: Answer::Done(receipt.clone()) };
        let journals = [("1.1".to_owned(), [0, 50, 60, 90, 91, 131].map(answered).to_vec())];
        let silence = |crashes: &[_]| {
            let Silence { longest, around_crash } = Silence::new(&journals, crashes);
            [longest, around_crash].map(|time| time.as_micros())
        };
        assert_eq!(silence(&[]), [50, 0]);
        assert_eq!(silence(&[40..=55]), [40, 50]);
        assert_eq!(silence(&[40..=55, 100..=110]), [30, 50]);
    }
}
