//! A reader that follows the log all the time, by `position > p` and nothing else, and remembers when it saw what.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use daybook_core::{Position, RecordedEvent};
use daybook_log::Log;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::check::{Breach, Entry, Order, Sighting, Violation};
use crate::journal::now;

/// The most events that are read at once.
const PAGE_EVENTS: usize = 1_000;
/// How long to wait for more when there is none, and when the log does not answer.
const PAUSE: Duration = Duration::from_millis(2);
const RETRY: Duration = Duration::from_millis(50);

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// The events.
    pub log: Vec<Entry>,
    /// When each page was there.
    pub sightings: Vec<Sighting>,
    /// What was wrong at first sight.
    pub violations: Vec<Violation>,
    /// Each event's digest.
    digests: Vec<u64>,
    order: Order,
}

impl Read {
    fn take(&mut self, events: &[RecordedEvent]) {
        for event in events {
            let entry = Entry::read(event).unwrap_or_else(|error| {
                let detail = format!("position {} cannot be read: {error}", event.position);
                self.violations.push(Violation::new(Breach::Changed, detail));
                Entry::of_place(event)
            });
            self.order.take(&entry, &mut self.violations);
            self.digests.push(digest(event));
            self.log.push(entry);
        }
        self.sightings.push(Sighting { through: self.order.position(), at: now() });
    }

    /// Reads the whole log again: whatever was seen once is so for ever.
    ///
    /// # Errors
    ///
    /// When the log does not answer.
    pub async fn compare(&mut self, log: &Log) -> anyhow::Result<()> {
        let mut seen = self.digests.iter();
        let mut after = Position::START;
        loop {
            let page = log.read(after, PAGE_EVENTS).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            let other = page.iter().find(|event| seen.next() != Some(&digest(event)));
            if let Some(event) = other {
                let detail = format!("what stands at position {} now is not what was read there", event.position);
                self.violations.push(Violation::new(Breach::Changed, detail));
                return Ok(());
            }
        }
        if seen.next().is_some() {
            let detail = format!("the log ends at {after}, and was read up to {}", self.order.position());
            self.violations.push(Violation::new(Breach::Changed, detail));
        }
        Ok(())
    }
}

fn digest(event: &RecordedEvent) -> u64 {
    let mut hasher = DefaultHasher::new();
    let at = (event.position, &event.stream, event.revision, event.id, &event.event_type, event.schema_version);
    (at, event.recorded_at, event.metadata.get(), event.payload.get()).hash(&mut hasher);
    hasher.finish()
}

/// A reader at work.
#[derive(Debug)]
pub struct Reader {
    stop: watch::Sender<bool>,
    reading: JoinHandle<Read>,
}

impl Reader {
    /// Starts to read.
    pub fn start(log: Log) -> Self {
        let (stop, stopping) = watch::channel(false);
        Self { stop, reading: tokio::spawn(follow(log, stopping)) }
    }

    /// Reads to the end, and stops.
    ///
    /// # Errors
    ///
    /// When it has come to grief.
    pub async fn finish(self) -> anyhow::Result<Read> {
        self.stop.send_replace(true);
        Ok(self.reading.await?)
    }
}

async fn follow(log: Log, stopping: watch::Receiver<bool>) -> Read {
    let mut read = Read::default();
    loop {
        let last = *stopping.borrow();
        match log.read(Position::new(read.order.position()), PAGE_EVENTS).await {
            Ok(page) if page.is_empty() && last => return read,
            Ok(page) if page.is_empty() => sleep(PAUSE).await,
            Ok(page) => read.take(&page),
            Err(_) => sleep(RETRY).await,
        }
    }
}
