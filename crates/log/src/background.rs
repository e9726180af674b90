//! What goes on beside appending and reading, until the appender is closed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use daybook_core::Position;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::appender::{Appender, advance};
use crate::store::Store;
use crate::{Head, LogError};

/// How often expired idempotency keys are removed.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(3_600);
/// How many of them at a time: each is a short transaction that no append waits for noticeably.
const REMOVED_AT_ONCE_MAX: u32 = 1_000;

/// Looks for what other processes have appended. Closes the log when it is not the one that it was: whatever this
/// process knows is about another history then (invariant L11).
pub(crate) async fn follow(
    store: Arc<dyn Store>,
    mut seen: Head,
    every: Duration,
    head: watch::Sender<Position>,
    appender: Weak<Appender>,
    mut closing: watch::Receiver<bool>,
) {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while wait(&mut ticks, &mut closing).await {
        match seen.checkpoint().check(store.as_ref()).await {
            Ok(newest) => {
                seen = newest;
                advance(&head, newest.position);
            }
            Err(LogError::History(error)) => {
                tracing::error!(%error, "this is not the log that was opened: nothing more is appended");
                return appender.upgrade().map_or((), |appender| appender.begin_to_close());
            }
            Err(error) => tracing::debug!(%error, "the log's head cannot be read"),
        }
    }
}

/// Removes idempotency keys that have expired. Until it comes by they count as not there.
pub(crate) async fn remove_expired(store: Arc<dyn Store>, mut closing: watch::Receiver<bool>) {
    let mut ticks = interval(REMOVAL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while wait(&mut ticks, &mut closing).await {
        loop {
            match store.remove_expired(REMOVED_AT_ONCE_MAX).await {
                Ok(count) if count >= REMOVED_AT_ONCE_MAX.into() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "expired idempotency keys cannot be removed");
                    break;
                }
            }
        }
    }
}

/// Waits for the next tick; false when there is none, since the log is closed.
async fn wait(ticks: &mut tokio::time::Interval, closing: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        // An error: the log was dropped without being closed.
        _ = closing.wait_for(|closing| *closing) => false,
        _ = ticks.tick() => true,
    }
}
