//! Looking for events.

use chrono::{DateTime, Utc};
use daybook_core::{Position, RecordedEvent, StreamId};

/// Which events to look for. Every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events after this position.
    pub after: Position,
    /// Only events of this stream.
    pub stream: Option<StreamId>,
    /// Only events that say who somebody is and what they are trusted with: those of accounts, of sessions, and of
    /// subjects who were forgotten. The log has an index of them.
    pub of_people: bool,
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Only events that this actor caused.
    pub actor: Option<String>,
    /// Only events of this correlation id.
    pub correlation_id: Option<String>,
    /// Only events recorded at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only events recorded before this time.
    pub until: Option<DateTime<Utc>>,
}

/// Some of the events that were looked for.
#[derive(Debug)]
pub struct EventPage {
    /// The events, in the order of the log.
    pub events: Vec<RecordedEvent>,
    /// Where to go on (as [`EventFilter::after`]); `None` when the end of the log was reached. A page may hold few
    /// events, or none, and still not be the last: a search looks at a bounded number of events at a time.
    pub next: Option<Position>,
}
