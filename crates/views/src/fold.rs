//! Folding a page, whatever the projection's code does.

use std::collections::HashMap;
use std::sync::Arc;

use daybook_core::{AnyProjection, Batch, Contracts, DecodeError, Documents, Position, RecordedEvent, caught};

use crate::store::dead_letters::NewDeadLetter;

/// Some event of a page cannot be taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// Which one, when that is known.
    pub(crate) position: Option<Position>,
    /// Why.
    pub(crate) reason: String,
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        Self { position: Some(error.position), reason: error.to_string() }
    }
}

/// Decodes a page and finds out which documents it touches, of those that are `wanted`. Of what a projection does not
/// want, this program has to know that it exists: beside a newer program, it may be what the projection will want.
pub(crate) fn open(
    projection: &dyn AnyProjection,
    contracts: &Contracts,
    events: Arc<[RecordedEvent]>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Box<dyn Batch>, Unfit> {
    events.iter().try_for_each(|event| contracts.check(event))?;
    let opened = caught(|| projection.open(events, wanted));
    let panicked = |panic| Unfit { position: None, reason: format!("an event's keys are not known: {panic}") };
    Ok(opened.map_err(panicked)??)
}

/// Documents to which nothing is applied from a position on, with the reason.
pub(crate) type Failed = HashMap<String, (Position, String)>;

/// Folds a page into the documents. What could not be applied goes into `failed`; `None` when there was any of that: then
/// the documents are as good as unknown, and the page has to be folded again, without it.
pub(crate) fn fold(
    documents: &mut dyn Documents,
    batch: &mut dyn Batch,
    events: &[RecordedEvent],
    is_parked: &dyn Fn(&str) -> bool,
    failed: &mut Failed,
) -> Option<Vec<NewDeadLetter>> {
    let until = |key: &str| match is_parked(key) {
        true => Some(Position::START),
        false => failed.get(key).map(|(position, _)| *position),
    };
    let not_applied = documents.fold(batch, &until);
    let mut is_any = false;
    for one in &not_applied {
        if let Some(error) = &one.error {
            // Earlier than what it may have been known to fail at.
            failed.insert(one.key.clone(), (events[one.index].position, error.clone()));
            is_any = true;
        }
    }
    if is_any {
        documents.clear();
        return None;
    }
    // The first of each key has the reason; all others stand behind it.
    let mut damaged: HashMap<&str, &str> = HashMap::new();
    for (key, (_, reason)) in failed.iter().filter(|(_, (position, _))| *position == Position::START) {
        damaged.insert(key, reason);
    }
    let letter = |(key, index): (String, usize)| {
        let event = &events[index];
        let failed_here = failed.get(&key).filter(|(position, _)| *position == event.position);
        let error = failed_here.map(|(_, reason)| reason.clone());
        let error = error.or_else(|| damaged.remove(key.as_str()).map(str::to_owned));
        let (position, event_id, event_type) = (event.position, event.id, event.event_type.clone());
        NewDeadLetter { key, position, event_id, event_type, error }
    };
    Some(not_applied.into_iter().map(|one| (one.key, one.index)).map(letter).collect())
}

/// How many events to try next when a page could not be taken in: those before the culprit when it is known, else half of
/// them. 0 when the culprit is the first.
pub(crate) fn fewer(events: &[RecordedEvent], unfit: &Unfit) -> usize {
    match unfit.position {
        Some(culprit) => events.partition_point(|event| event.position < culprit).min(events.len() - 1),
        None => events.len() / 2,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use daybook_core::{
        Access, Envelope, Event, JsonText, Keys, Projection, ProjectionSpec, Revision, StreamId, event_set,
        projection,
    };
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    struct Counted {
        by: u32,
    }

    impl Event for Counted {
        const TYPE: &'static str = "counted";
        const VERSION: u32 = 1;
    }

    event_set! { enum Events { Counted } }

    /// Sums up in one document, and panics over 13.
    struct Sums;

    impl Projection for Sums {
        type Event = Events;
        type View = u32;

        fn spec() -> ProjectionSpec {
            ProjectionSpec {
                name: "sums",
                version: 1,
                summary: "",
                category: "sum",
                fields: &[],
                indexes: &[],
                access: Access::anyone(),
                owner: None,
            }
        }

        fn keys(_: &Envelope<'_, Events>, keys: &mut Keys) {
            keys.add("all");
        }

        fn apply(_: &str, view: &mut Option<u32>, event: &Envelope<'_, Events>) {
            let Events::Counted(Counted { by }) = event.event;
            assert_ne!(by, 13, "thirteen");
            *view = Some(view.unwrap_or(0) + by);
        }
    }

    fn counted(position: u64, by: u32) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position),
            stream: StreamId::new("sum", "all"),
            revision: Revision::new(position),
            id: Uuid::from_u128(u128::from(position)),
            event_type: "counted".into(),
            schema_version: 1,
            recorded_at: DateTime::UNIX_EPOCH,
            metadata: JsonText::new("{}"),
            payload: JsonText::new(format!("{{\"by\":{by}}}")),
        }
    }

    #[test]
    fn what_fails_earlier_than_it_was_known_to_leaves_what_stands_before_it() {
        let projection = projection::<Sums>();
        let events: Arc<[RecordedEvent]> =
            [(1, 1), (2, 13), (3, 1), (4, 1)].map(|(at, by)| counted(at, by)).into();
        let mut documents = projection.documents();
        // The fourth was passed over, as is known from later on in the log.
        let mut failed = Failed::from([("all".to_owned(), (Position::new(4), "it is passed over".to_owned()))]);
        let mut fold_again = |failed: &mut Failed| {
            let mut batch = projection.open(events.clone(), &|_| true).expect("readable");
            fold(&mut *documents, &mut *batch, &events, &|_| false, failed)
        };
        assert!(fold_again(&mut failed).is_none(), "it is to be folded again");
        let letters = fold_again(&mut failed).expect("all that fails is known");
        let parked: Vec<(u64, bool)> =
            letters.iter().map(|letter| (letter.position.get(), letter.error.is_some())).collect();
        assert_eq!(parked, [(2, true), (3, false), (4, false)]);
        let changed = documents.changed().expect("JSON");
        assert_eq!(changed.iter().map(|one| one.body.as_deref()).collect::<Vec<_>>(), [Some("1")]);
    }
}
