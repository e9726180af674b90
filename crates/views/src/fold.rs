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

/// Folds a page into the documents. What cannot be applied goes into `failed`; `None` when there is any of that: then
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
    let before = failed.len();
    for one in &not_applied {
        if let Some(error) = &one.error {
            failed.insert(one.key.clone(), (events[one.index].position, error.clone()));
        }
    }
    if failed.len() > before {
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
