//! Where the projectors of a process read, as the engine counts it.

use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SetRecorderError, SharedString, Unit,
};

use super::check::Note;
use super::process::Notes;

/// What the engine counts the events by that projectors have read.
const READ_EVENTS: &str = "daybook_projection_read_events_total";

/// Has it noted down from now on what the projectors of this process read where.
///
/// # Errors
///
/// When somebody else counts already.
pub(super) fn note_down(notes: &Notes) -> Result<(), SetRecorderError<impl Recorder + use<>>> {
    metrics::set_global_recorder(Counting { notes: notes.clone() })
}

struct Counting {
    notes: Notes,
}

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let source = key.labels().find(|label| label.key() == "source");
        match source.filter(|_| key.name() == READ_EVENTS) {
            Some(source) => {
                let (source, notes) = (source.value().to_owned(), self.notes.clone());
                Counter::from_arc(Arc::new(Read { source, notes }))
            }
            None => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What was read of one source.
struct Read {
    source: String,
    notes: Notes,
}

impl CounterFn for Read {
    fn increment(&self, events: u64) {
        if let Err(error) = self.notes.write(&Note::Fed { source: self.source.clone(), events }) {
            tracing::error!(%error, "nothing can be noted down");
        }
    }

    fn absolute(&self, _: u64) {}
}
