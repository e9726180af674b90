//! How long a reader waits before it tries again what it could not do.

use std::time::Duration;

/// Pauses, each twice as long as the one before, for as long as nothing moves.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first` on, and never longer than `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait this time.
    pub fn pause(&mut self) -> Duration {
        let after = self.next.saturating_mul(2).min(self.longest);
        std::mem::replace(&mut self.next, after)
    }

    /// Something moved: whatever is in the way next has nothing to do with what was before.
    pub fn moved(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_nothing_moves_and_falls_back_when_something_does() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        for _ in 0..2 {
            let pauses: Vec<f64> = (0..8).map(|_| backoff.pause().as_secs_f64()).collect();
            assert_eq!(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]);
            backoff.moved();
        }
    }
}
