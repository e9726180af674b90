//! Searching the log, a bounded piece at a time.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use daybook_core::Position;

use crate::store::{Page, Store};
use crate::{EventFilter, EventPage, LogError};

/// The most events of a page.
pub(crate) const PAGE_EVENTS_MAX: usize = 10_000;
/// The most events that one search looks at, when no index leads to what it looks for.
const LOOKED_AT_MAX: u64 = 10_000;

/// Looks for events.
pub(crate) async fn find(store: &dyn Store, filter: &EventFilter, limit: usize) -> Result<EventPage, LogError> {
    let limit = limit.clamp(1, PAGE_EVENTS_MAX);
    let mut after = filter.after;
    let mut end = store.head().await?.position;
    // Times never run backwards along the log, so each is a position.
    if let Some(since) = filter.since {
        after = after.max(store.last_before(round_up(since)).await?);
    }
    if let Some(until) = filter.until {
        end = end.min(store.last_before(round_up(until)).await?);
    }
    if after >= end {
        return Ok(EventPage { events: Vec::new(), next: None });
    }
    let through =
        if filter.stream.is_some() || filter.of_people { end } else { end.min(after.plus(LOOKED_AT_MAX)) };
    let events = store.page(Page { after, through, filter, limit }).await?;
    let reached = match events.last() {
        Some(last) if events.len() == limit => last.position,
        _ => through,
    };
    Ok(EventPage { events, next: (reached < end).then_some(reached) })
}

/// The position of the last event recorded by a time; the start when none was.
pub(crate) async fn last_by(store: &dyn Store, time: DateTime<Utc>) -> Result<Position, LogError> {
    let behind = time.trunc_subsecs(6).checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(time);
    store.last_before(behind).await
}

/// The log's times have microseconds: the first one that is not before `time`.
fn round_up(time: DateTime<Utc>) -> DateTime<Utc> {
    let down = time.trunc_subsecs(6);
    if down < time { down.checked_add_signed(TimeDelta::microseconds(1)).unwrap_or(down) } else { down }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_to_microseconds() {
        let nanos = |nanos| DateTime::<Utc>::from_timestamp(1, nanos).expect("a time");
        assert_eq!(round_up(nanos(5_000)), nanos(5_000));
        assert_eq!(round_up(nanos(5_001)), nanos(6_000));
    }
}
