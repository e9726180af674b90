//! Tickets: how a decision says which appends it was made over before they were committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

const WAITING: u8 = 0;
const COMMITTED: u8 = 1;
const FAILED: u8 = 2;

/// What becomes of one append, for whoever builds on it before it is known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ticket(Arc<State>);

#[derive(Debug)]
struct State {
    outcome: AtomicU8,
    settled: Notify,
}

impl Ticket {
    pub(crate) fn new() -> Self {
        Self(Arc::new(State { outcome: AtomicU8::new(WAITING), settled: Notify::new() }))
    }

    /// Whether the append was committed; `None` while that is open. An append whose outcome nobody could find out
    /// counts as not committed: what was built on it is decided again.
    pub fn outcome(&self) -> Option<bool> {
        match self.0.outcome.load(Ordering::Acquire) {
            WAITING => None,
            outcome => Some(outcome == COMMITTED),
        }
    }

    /// Waits until it is known whether the append was committed.
    pub async fn settled(&self) -> bool {
        loop {
            let settled = self.0.settled.notified();
            tokio::pin!(settled);
            // From here on no notification is missed.
            settled.as_mut().enable();
            if let Some(committed) = self.outcome() {
                return committed;
            }
            settled.await;
        }
    }

    /// Says what became of it. What was said first stays.
    pub(crate) fn settle(&self, committed: bool) {
        let outcome = if committed { COMMITTED } else { FAILED };
        if self.0.outcome.compare_exchange(WAITING, outcome, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.0.settled.notify_waiters();
        }
    }

    /// Which append it is for, among those that live at the same time.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_and_the_first_word_counts() {
        for committed in [true, false] {
            let ticket = Ticket::new();
            assert_eq!(ticket.outcome(), None);
            let waiting = tokio::spawn({
                let ticket = ticket.clone();
                async move { ticket.settled().await }
            });
            tokio::task::yield_now().await;
            ticket.settle(committed);
            ticket.settle(!committed);
            assert_eq!(waiting.await.expect("an answer"), committed);
            assert_eq!(ticket.outcome(), Some(committed));
        }
    }
}
