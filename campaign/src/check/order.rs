//! Positions, revisions and times, as they follow each other.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::evidence::{Breach, Entry, Violation};

/// Takes events in as they come, and says what does not follow from what came before.
#[derive(Debug, Default)]
pub struct Order {
    position: u64,
    recorded_at: DateTime<Utc>,
    revisions: HashMap<String, u64>,
}

impl Order {
    /// The position of the last event.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next event in.
    pub fn take(&mut self, entry: &Entry, violations: &mut Vec<Violation>) {
        let (at, stream) = (entry.position, &entry.stream);
        if at != self.position + 1 {
            let detail = format!("position {at} comes after {}", self.position);
            violations.push(Violation::new(Breach::Hole, detail));
        }
        let revision = self.revisions.entry(stream.clone()).or_default();
        if entry.revision != *revision + 1 {
            let detail =
                format!("at position {at}, `{stream}` goes from revision {revision} to {}", entry.revision);
            violations.push(Violation::new(Breach::RevisionHole, detail));
        }
        if entry.recorded_at < self.recorded_at {
            let detail = format!("position {at} is of {}, before {}", entry.recorded_at, self.recorded_at);
            violations.push(Violation::new(Breach::TimeBackwards, detail));
        }
        *revision = entry.revision;
        self.position = at;
        self.recorded_at = entry.recorded_at;
    }
}
