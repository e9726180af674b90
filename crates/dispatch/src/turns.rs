//! Turns: commands of this process that write the same streams go one after the other once they were found to be in
//! each other's way, in the order in which they came. So nobody loses again and again to whoever came later.
//!
//! Only a courtesy: that nothing is written over a state that has changed is the log's doing (invariant L4).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use daybook_core::StreamId;
use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The streams that somebody waits to write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<StreamId, Lock>>>);

/// It is one's turn, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Held, not read.
    _places: Vec<Place>,
}

/// A place in the queue for one stream.
#[derive(Debug)]
struct Place {
    turns: Turns,
    stream: StreamId,
    /// There until this is dropped.
    lock: Option<Lock>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Whether somebody queues for one of `streams`.
    pub(crate) fn are_taken(&self, streams: &BTreeSet<StreamId>) -> bool {
        let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !queues.is_empty() && streams.iter().any(|stream| queues.contains_key(stream))
    }

    /// Queues for all of `streams`. Everybody does so in the streams' order, so nobody waits in a circle.
    pub(crate) async fn wait(&self, streams: BTreeSet<StreamId>) -> Turn {
        let mut places = Vec::with_capacity(streams.len());
        for stream in streams {
            let lock =
                self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(stream.clone()).or_default().clone();
            let mut place = Place { turns: self.clone(), stream, lock: Some(lock.clone()), guard: None };
            place.guard = Some(lock.lock_owned().await);
            places.push(place);
        }
        Turn { _places: places }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Given up under the map's lock, so that of two who leave at once the second sees that it is the last.
        self.guard = None;
        self.lock = None;
        if queues.get(&self.stream).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            queues.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn streams(ids: &[u8]) -> BTreeSet<StreamId> {
        ids.iter().map(|id| StreamId::new("stock", id)).collect()
    }

    #[test]
    fn whoever_shares_a_stream_waits_and_nobody_else_does() {
        let turns = Turns::default();
        let first = turns.wait(streams(&[1, 2])).now_or_never().expect("nobody is in the way");
        assert!(turns.are_taken(&streams(&[2, 3])));
        assert!(!turns.are_taken(&streams(&[3])));
        let mut second = Box::pin(turns.wait(streams(&[2, 3])));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let second = second.now_or_never().expect("its turn");
        drop(second);
        assert!(!turns.are_taken(&streams(&[1, 2, 3])), "nothing is left behind");
    }

    #[test]
    fn whoever_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.wait(streams(&[1])).now_or_never().expect("nobody is in the way");
        let mut second = Box::pin(turns.wait(streams(&[1])));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        drop(second);
        assert!(!turns.are_taken(&streams(&[1])));
    }
}
