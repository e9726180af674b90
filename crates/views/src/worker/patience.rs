//! How long a worker waits before it tries again what it could not do: longer each time, for as long as nothing moves.

use std::time::Duration;

/// How long to wait before a database that was away is tried again: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How many times the pause of a projection that is stopped is doubled.
const STOPS_DOUBLED_MAX: u32 = 4;

pub(super) struct Patience {
    /// See [`Settings::retry_stopped`](crate::Settings::retry_stopped).
    retry_stopped: Duration,
    failures: u32,
    stops: u32,
}

impl Patience {
    pub(super) fn new(retry_stopped: Duration) -> Self {
        Self { retry_stopped, failures: 0, stops: 0 }
    }

    /// Something was committed: whatever is in the way next has nothing to do with what was before.
    pub(super) fn moved(&mut self) {
        (self.failures, self.stops) = (0, 0);
    }

    /// How long to wait for a database.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = (RETRY_MIN * 2_u32.pow(self.failures)).min(RETRY_MAX);
        self.failures = (self.failures + 1).min(16);
        pause
    }

    /// How long to wait until what stands in the way may be mended.
    pub(super) fn stopped(&mut self) -> Duration {
        let pause = self.retry_stopped * 2_u32.pow(self.stops);
        self.stops = (self.stops + 1).min(STOPS_DOUBLED_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(mut pause: impl FnMut() -> Duration) -> Vec<f64> {
        (0..8).map(|_| pause().as_secs_f64()).collect()
    }

    #[test]
    fn it_grows_while_nothing_moves_and_falls_back_when_something_does() {
        let mut patience = Patience::new(Duration::from_secs(30));
        let failures = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0];
        let stops = [30.0, 60.0, 120.0, 240.0, 480.0, 480.0, 480.0, 480.0];
        for _ in 0..2 {
            assert_eq!(seconds(|| patience.failed()), failures);
            assert_eq!(seconds(|| patience.stopped()), stops);
            patience.moved();
        }
    }

    #[test]
    fn it_has_an_end_however_often_something_fails() {
        let mut patience = Patience::new(Duration::from_secs(30));
        let longest = (0..1_000).map(|_| patience.failed().max(patience.stopped())).max();
        assert_eq!(longest, Some(Duration::from_secs(480)));
    }
}
