//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

/// How often to look.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `look` answers something, and answers that.
///
/// # Panics
///
/// When `limit` has passed.
pub async fn wait_for<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "after {limit:?} still waiting for {what}");
        tokio::time::sleep(POLL).await;
    }
}
