//! What goes on beside appending and reading, until the appender is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::store::Store;

/// How often expired idempotency keys are removed.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(3_600);
/// How many of them at a time: each is a short transaction that no append waits for noticeably.
const REMOVED_AT_ONCE_MAX: u32 = 1_000;

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
