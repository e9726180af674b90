//! Reading the log in its order, ahead of whoever takes it in.

use daybook_core::RecordedEvent;
use tokio::sync::mpsc;

use crate::{Checkpoint, Log, LogError};

/// The events behind a checkpoint, page after page, up to where the log ends by then: what replays, exports and
/// projectors read.
///
/// It reads ahead, so that the database finds the next page while the last one is taken in: one page waits, and one is
/// under way. Each is a statement of its own: however long it takes until all are taken in, no old state of the
/// database is held.
#[derive(Debug)]
pub struct Scan {
    pages: mpsc::Receiver<Next>,
}

/// A page; `None` at the end. That is said: whatever reads ahead may also come to grief.
type Next = Result<Option<Vec<RecordedEvent>>, LogError>;

impl Scan {
    /// Begins behind `reached`. Each page has `limit` events, save the last one.
    pub(crate) fn new(log: Log, reached: Checkpoint, limit: usize) -> Self {
        let (sender, pages) = mpsc::channel(1);
        tokio::spawn(async move {
            let end = read_ahead(&log, reached, limit, &sender).await.map(|()| None);
            // It may be that nobody asks any more.
            let _ = sender.send(end).await;
        });
        Self { pages }
    }

    /// The next page, which has at least one event; `None` at the end of the log.
    ///
    /// # Errors
    ///
    /// See [`Log::read_on`]. Nothing comes behind the end or an error: whoever asks is told [`LogError::Closed`].
    pub async fn next(&mut self) -> Next {
        self.pages.recv().await.unwrap_or(Err(LogError::Closed))
    }
}

/// Reads until the end, an error, or nobody wants any more.
async fn read_ahead(
    log: &Log,
    mut reached: Checkpoint,
    limit: usize,
    pages: &mpsc::Sender<Next>,
) -> Result<(), LogError> {
    loop {
        let page = log.read_on(&reached, limit).await?;
        let is_last = page.len() < limit;
        if let Some(last) = page.last() {
            reached = reached.at(last);
            if pages.send(Ok(Some(page))).await.is_err() {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}
