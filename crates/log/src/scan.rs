//! Reading the log in its order, ahead of whoever takes it in.

use daybook_core::RecordedEvent;
use tokio::sync::mpsc;

use crate::{Checkpoint, Log, LogError};

/// The events behind a checkpoint, page after page, up to where the log ends by then: what replays, exports and views
/// that are far behind read.
///
/// Two pages are read ahead, so that the database finds the next one while the last one is taken in. Each is a
/// statement of its own: however long it takes until all are taken in, no old state of the database is held.
#[derive(Debug)]
pub struct Scan {
    pages: mpsc::Receiver<Result<Vec<RecordedEvent>, LogError>>,
}

impl Scan {
    /// Begins behind `reached`. Each page has `limit` events, save the last one.
    pub(crate) fn new(log: Log, reached: Checkpoint, limit: usize) -> Self {
        // One page waits here, and one in the hands of whoever reads.
        let (sender, pages) = mpsc::channel(1);
        tokio::spawn(read(log, reached, limit, sender));
        Self { pages }
    }

    /// The next page, which has at least one event; `None` at the end of the log.
    ///
    /// # Errors
    ///
    /// See [`Log::read_on`]. There is nothing more after an error.
    pub async fn next(&mut self) -> Result<Option<Vec<RecordedEvent>>, LogError> {
        self.pages.recv().await.transpose()
    }
}

/// Reads until the end, an error, or nobody wants any more.
async fn read(
    log: Log,
    mut reached: Checkpoint,
    limit: usize,
    pages: mpsc::Sender<Result<Vec<RecordedEvent>, LogError>>,
) {
    loop {
        let page = log.read_on(&reached, limit).await;
        let more = match &page {
            Ok(events) => {
                let Some(last) = events.last() else { return };
                reached = Checkpoint { position: last.position, event_id: last.id, ..reached };
                events.len() == limit
            }
            Err(_) => false,
        };
        if pages.send(page).await.is_err() || !more {
            return;
        }
    }
}
