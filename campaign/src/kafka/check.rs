//! Whether a topic holds a log. Pure: both are given.

use std::collections::{HashMap, HashSet};

use daybook_core::{Position, RecordedEvent, StreamId};
use daybook_kafka::{Origin, Published};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// How many messages tell of an event that another one tells of.
    pub twice: u64,
    /// What is wrong.
    pub breaches: Vec<String>,
}

/// Compares what readers of committed messages find in a topic, partition by partition, with the log that was published.
/// Every position is there at least once, to the byte; what is there is in the log; and a stream's first occurrences come in
/// its order, in one partition.
pub fn compare(log: &[RecordedEvent], origin: &Origin, topic: &[&[Published]]) -> Found {
    let mut found = Found::default();
    let events: HashMap<Position, &RecordedEvent> = log.iter().map(|event| (event.position, event)).collect();
    let mut seen = HashSet::new();
    let mut homes: HashMap<&StreamId, usize> = HashMap::new();
    for (partition, messages) in topic.iter().enumerate() {
        let mut newest: HashMap<&StreamId, u64> = HashMap::new();
        for Published { origin: from, event } in *messages {
            let (position, stream, revision) = (event.position, &event.stream, event.revision.get());
            match events.get(&position) {
                Some(recorded) if from == origin && line(recorded) == line(event) => {}
                Some(recorded) => {
                    found.breaches.push(format!("not what was recorded: {event:?} and {recorded:?}"))
                }
                None => found.breaches.push(format!("invented: {event:?}")),
            }
            if !seen.insert(position) {
                found.twice += 1;
            }
            if *homes.entry(stream).or_insert(partition) != partition {
                found.breaches.push(format!("{stream} lies in two partitions"));
            }
            let newest = newest.entry(stream).or_default();
            if revision > *newest + 1 {
                found.breaches.push(format!("reordered: revision {revision} of {stream} behind {newest}"));
            }
            *newest = revision.max(*newest);
        }
    }
    let lost = log.iter().filter(|event| !seen.contains(&event.position));
    found.breaches.extend(lost.map(|event| format!("lost: {event:?}")));
    found
}

/// An event to the byte.
fn line(event: &RecordedEvent) -> Option<String> {
    serde_json::to_string(event).ok()
}

#[cfg(test)]
mod tests {
    use daybook_core::{JsonText, Revision};
    use uuid::Uuid;

    use super::*;

    const ORIGIN: Origin = Origin { log_id: Uuid::from_u128(1), epoch: 1 };

    fn event(position: u64, stream: u64, revision: u64) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position),
            stream: StreamId::new("thing", stream),
            revision: Revision::new(revision),
            id: Uuid::from_u128(position.into()),
            event_type: "thing.done".into(),
            schema_version: 1,
            recorded_at: chrono::DateTime::UNIX_EPOCH,
            metadata: JsonText::new("{}"),
            payload: JsonText::new(format!(r#"{{ "position": {position} }}"#)),
        }
    }

    /// Two events of a stream and two of another.
    fn log() -> Vec<RecordedEvent> {
        vec![event(1, 1, 1), event(2, 2, 1), event(3, 1, 2), event(4, 2, 2)]
    }

    fn published(events: &[RecordedEvent]) -> Vec<Published> {
        events.iter().map(|event| Published { origin: ORIGIN, event: event.clone() }).collect()
    }

    /// What is said of these events, each stream in a partition of its own.
    fn judged(events: &[RecordedEvent]) -> Found {
        let of = |stream| events.iter().filter(|event| event.stream == stream).cloned().collect::<Vec<_>>();
        let topic = [1, 2].map(|number| published(&of(StreamId::new("thing", number))));
        compare(&log(), &ORIGIN, &topic.each_ref().map(Vec::as_slice))
    }

    fn breach(events: &[RecordedEvent], begins: &str) {
        let breaches = judged(events).breaches;
        assert!(!breaches.is_empty() && breaches.iter().all(|breach| breach.starts_with(begins)), "{breaches:?}");
    }

    #[test]
    fn a_whole_log_is_found_whole_however_often_it_was_published() {
        let whole = judged(&log());
        assert!(whole.breaches.is_empty() && whole.twice == 0, "{whole:?}");
        let again = judged(&[log(), log()].concat());
        assert!(again.breaches.is_empty() && again.twice == 4, "{again:?}");
    }

    #[test]
    fn what_is_lost_is_found() {
        breach(&log()[..3], "lost: ");
        breach(&[], "lost: ");
    }

    #[test]
    fn what_is_reordered_is_found() {
        let mut log = log();
        log.swap(0, 2);
        breach(&log, "reordered: ");
    }

    #[test]
    fn what_is_invented_is_found() {
        breach(&[log(), vec![event(5, 1, 3)]].concat(), "invented: ");
        let other = [
            RecordedEvent { payload: JsonText::new(r#"{"position":2}"#), ..event(2, 2, 1) },
            RecordedEvent { id: Uuid::from_u128(9), ..event(2, 2, 1) },
            RecordedEvent { metadata: JsonText::new("{ }"), ..event(2, 2, 1) },
        ];
        for other in other {
            breach(&[log(), vec![other]].concat(), "not what was recorded: ");
        }
        let of_another = vec![Published { origin: Origin { epoch: 2, ..ORIGIN }, event: event(1, 1, 1) }];
        let found = compare(&log()[..1], &ORIGIN, &[&of_another]);
        assert!(found.breaches[0].starts_with("not what was recorded: "), "{found:?}");
    }

    #[test]
    fn a_stream_that_is_torn_apart_is_found() {
        let log = log();
        let found = compare(&log, &ORIGIN, &[&published(&log[..2]), &published(&log[2..])]);
        assert!(found.breaches.iter().any(|breach| breach.contains("lies in two partitions")), "{found:?}");
    }
}
