//! Twins: the same command with the same idempotency key, at the same time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The digests of the idempotency keys that this process is working on.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashSet<[u8; 32]>>>);

/// Holds a key until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    all: InFlight,
    digest: [u8; 32],
}

impl InFlight {
    /// Holds a key; `None` when a twin holds it.
    pub(crate) fn enter(&self, digest: [u8; 32]) -> Option<Held> {
        let entered = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        entered.then(|| Held { all: self.clone(), digest })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_by_one_at_a_time() {
        let all = InFlight::default();
        let first = all.enter([1; 32]);
        assert!(first.is_some());
        assert!(all.enter([1; 32]).is_none());
        assert!(all.enter([2; 32]).is_some());
        drop(first);
        assert!(all.enter([1; 32]).is_some());
    }
}
