//! What goes on beside appending and reading, until the appender is closed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::appender::Appender;
use crate::checkpoint::check_log;
use crate::seen::{self, Seen, to_look_up};
use crate::store::Store;
use crate::{Head, LogError};

/// How often expired idempotency keys are removed.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(3_600);
/// How many of them at a time: each is a short transaction that no append waits for noticeably.
const REMOVED_AT_ONCE_MAX: u32 = 1_000;

/// Looks for what other processes have appended. Closes the log when it is not the one that it was, and has nothing
/// appended that waits: whatever this process knows is about another history then (invariant L11).
pub(crate) async fn follow(
    store: Arc<dyn Store>,
    here: Head,
    every: Duration,
    seen: Arc<Seen>,
    appender: Weak<Appender>,
    mut closing: watch::Receiver<bool>,
) {
    let every = every.max(Duration::from_millis(1));
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while wait(&mut ticks, &mut closing).await {
        match look(store.as_ref(), &here, &seen).await {
            Ok(()) => {}
            Err(LogError::History(error)) => {
                tracing::error!(%error, "this is not the log that was opened: nothing more is appended");
                seen.lose(error);
                return appender.upgrade().map_or((), |appender| appender.begin_to_close());
            }
            Err(error) => tracing::debug!(%error, "the log's head cannot be read"),
        }
    }
}

/// Looks where the log ends, and whether it holds what was seen of it.
async fn look(store: &dyn Store, here: &Head, seen: &Seen) -> Result<(), LogError> {
    let marks = seen.marks();
    let head = store.head().await?;
    check_log((here.log_id, here.epoch), (head.log_id, head.epoch))?;
    let mut ids = HashMap::new();
    for position in to_look_up(&marks, head.mark()) {
        if let Some(id) = store.event_id(position).await? {
            ids.insert(position, id);
        }
    }
    seen::check(&marks, head.mark(), &ids)?;
    seen.confirm(&marks, head.mark());
    Ok(())
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
