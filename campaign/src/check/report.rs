//! What the checker found.

use super::evidence::Violation;

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events in the log.
    pub events: u64,
    /// Intents that were acknowledged.
    pub acknowledged: u64,
    /// Intents that were refused: by a rule, or since something was not where it had to be.
    pub refused: u64,
    /// Intents that were only tried out, and answered with what would be or with a refusal.
    pub tried_out: u64,
    /// Intents that were answered "unknown" at least once, and in the end with yes or no.
    pub unknown_resolved: u64,
    /// Intents that were answered "unknown" and had no key to ask again with, or nobody who did.
    pub unknown_for_ever: u64,
    /// Answers that nothing was done.
    pub not_done: u64,
    /// Answers that nobody waited for.
    pub gave_up: u64,
    /// Intents that one process refused while another one, which never answered, had done it.
    pub twins_disagree: u64,
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// How much was looked at.
    pub counts: Counts,
}
