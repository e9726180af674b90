//! Folding a page, whatever the projection's code does.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use daybook_core::{AnyProjection, Batch, Changed, Contracts, DecodeError, Position, RecordedEvent, Revision};

/// Some event of a page cannot be taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// Which one, when that is known.
    pub(crate) position: Option<Position>,
    /// Why.
    pub(crate) reason: String,
}

impl Unfit {
    /// It is not known which event it was.
    pub(crate) fn somewhere(reason: String) -> Self {
        Self { position: None, reason }
    }
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        Self { position: Some(error.position), reason: error.to_string() }
    }
}

/// Decodes a page and finds out which documents it touches. Of what a projection does not want, this program has to
/// know that it exists: beside a newer program, it may be what the projection will want.
pub(crate) fn open<'a>(
    projection: &dyn AnyProjection,
    contracts: &Contracts,
    events: &'a [RecordedEvent],
) -> Result<Box<dyn Batch + 'a>, Unfit> {
    events.iter().try_for_each(|event| contracts.check(event))?;
    Ok(caught(|| projection.open(events))??)
}

/// Folds a page into the documents that it touches.
pub(crate) fn fold(
    batch: Box<dyn Batch + '_>,
    stored: &HashMap<String, (String, Revision)>,
) -> Result<Vec<Changed>, Unfit> {
    caught(|| batch.fold(stored))?
        .map_err(|error| Unfit::somewhere(format!("a document does not have the view's shape: {error}")))
}

/// Runs a projection's code. It is pure and owns what it works on, so a panic leaves nothing half-done behind.
fn caught<T>(code: impl FnOnce() -> T) -> Result<T, Unfit> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Unfit::somewhere(format!("the projection panicked: {message}"))
    })
}

/// How many events to try next when the first `count` of a page could not be taken in: those before the culprit when
/// it is known, else half of them. 0 when the culprit is the first.
pub(crate) fn fewer(events: &[RecordedEvent], count: usize, unfit: &Unfit) -> usize {
    match unfit.position {
        Some(culprit) => events[..count].partition_point(|event| event.position < culprit).min(count - 1),
        None => count / 2,
    }
}
