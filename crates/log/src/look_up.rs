//! Looking up what became of a commit whose answer was lost (invariant L9).

use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_core::Position;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::store::{Failure, Writer};

/// How long to wait between two tries.
const INTERVAL: Duration = Duration::from_millis(100);

/// Finds out when a group was recorded, if it was, whose first event is this `unresolved` one, which it is until that is
/// known. A try is given up when the time is over: it may have to connect first, and to wait for the head.
pub(crate) async fn find_out(
    writer: &mut dyn Writer,
    unresolved: &mut Option<(Position, Uuid)>,
    within: Duration,
) -> Result<Option<DateTime<Utc>>, Failure> {
    let first = unresolved.ok_or(Failure::Unknown)?;
    let tries = async {
        loop {
            match writer.look_up(first).await {
                Ok(found) => return found,
                Err(failure) => {
                    tracing::debug!(?failure, position = %first.0, "cannot look up the outcome of a commit");
                    sleep(INTERVAL).await;
                }
            }
        }
    };
    match timeout(within, tries).await {
        Ok(found) => {
            *unresolved = None;
            tracing::warn!(position = %first.0, committed = found.is_some(), "looked up the outcome of a commit");
            Ok(found)
        }
        Err(_) => {
            tracing::error!(position = %first.0, "the outcome of a commit cannot be found out");
            Err(Failure::Unknown)
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::group::{Group, Plan};
    use crate::known::Tip;
    use crate::seen::Mark;
    use crate::store::Written;

    /// A database that takes a connection and says nothing.
    struct Silent;

    #[async_trait]
    impl Writer for Silent {
        async fn tip(&mut self, _: &[Mark]) -> Result<Tip, Failure> {
            std::future::pending().await
        }

        async fn write_at(&mut self, _: &Tip, _: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure> {
            std::future::pending().await
        }

        async fn write_locked(&mut self, _: &Tip, _: &[Mark], _: &Group<'_>) -> Result<Written, Failure> {
            std::future::pending().await
        }

        async fn look_up(&mut self, _: (Position, Uuid)) -> Result<Option<DateTime<Utc>>, Failure> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_try_that_gets_no_answer_ends_with_the_time() {
        let mut unresolved = Some((Position::new(1), Uuid::nil()));
        let found = find_out(&mut Silent, &mut unresolved, Duration::from_millis(1)).await;
        assert!(matches!(found, Err(Failure::Unknown)), "{found:?}");
        assert!(unresolved.is_some(), "it may still arrive");
    }
}
