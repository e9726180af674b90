//! When a position came to be: not before it was asked for, and not after somebody knew of it.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::evidence::{Breach, Entry, Sighting, Violation};
use crate::journal::Micros;

/// For each position, from 0, between which times it came to be. Both never fall along the log.
#[derive(Debug)]
pub(super) struct Times {
    earliest: Vec<Micros>,
    latest: Vec<Micros>,
}

impl Times {
    /// From when each command was sent first, and when its receipt was there.
    pub(super) fn new(
        log: &[Entry],
        sent: &HashMap<&str, Micros>,
        acknowledged: &[(u64, Micros)],
        sightings: &[Sighting],
        violations: &mut Vec<Violation>,
    ) -> Self {
        let end = log.last().map_or(0, |entry| entry.position) as usize;
        let mut earliest = vec![0; end + 1];
        for entry in log {
            let token = entry.changed.as_ref().map(|changed| changed.token.as_str());
            if let Some(sent) = token.and_then(|token| sent.get(token)) {
                earliest[entry.position as usize] = *sent;
            }
        }
        let mut latest = vec![Micros::MAX; end + 1];
        latest[0] = 0;
        let seen = sightings.iter().map(|sighting| (sighting.through, sighting.at));
        for (position, at) in acknowledged.iter().copied().chain(seen) {
            // What was acknowledged and is not there is another's business.
            if let Some(latest) = latest.get_mut(position as usize) {
                *latest = at.min(*latest);
            }
        }
        for position in 1..=end {
            earliest[position] = earliest[position].max(earliest[position - 1]);
        }
        for position in (0..end).rev() {
            latest[position] = latest[position].min(latest[position + 1]);
        }
        let times = Self { earliest, latest };
        if let Some(position) = (1..=end).find(|position| times.earliest[*position] > times.latest[*position]) {
            let detail = format!(
                "what stands at or after position {position} was known at {}, and something up to it was sent at {}",
                times.latest[position], times.earliest[position]
            );
            violations.push(Violation::new(Breach::Reordered, detail));
        }
        times
    }

    /// Whether somebody knew of a position before a time.
    pub(super) fn known_before(&self, position: u64, at: Micros) -> bool {
        self.latest.get(position as usize).is_some_and(|latest| *latest < at)
    }

    /// The positions after which the log may have ended at some time between two.
    pub(super) fn between(&self, from: Micros, to: Micros) -> RangeInclusive<u64> {
        let low = self.latest.partition_point(|latest| *latest < from).saturating_sub(1);
        let high = self.earliest.partition_point(|earliest| *earliest <= to).saturating_sub(1);
        low as u64..=high as u64
    }
}
