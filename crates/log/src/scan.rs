//! Reading the log in its order, ahead of whoever takes it in.

use std::collections::VecDeque;

use daybook_core::RecordedEvent;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Checkpoint, Log, LogError};

/// How many pages are read at a time, each over a connection of its own. A database has a core for each, and what decodes
/// them is as fast as two.
const READS: usize = 2;

/// The events behind a checkpoint, page after page, up to where the log ends by then: what replays, exports and
/// projectors read.
///
/// It reads ahead, so that the database finds the next pages while the last one is taken in: one page waits, another is ready
/// to, and [`READS`] are under way once the log is known to go on. Each is a statement of its own, which ends whether anybody
/// takes its page in or not: however long it takes until all are taken in, no old state of the database is held.
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
///
/// Since positions have no holes, it is known where each page begins before the one before it has come.
async fn read_ahead(
    log: &Log,
    mut reached: Checkpoint,
    limit: usize,
    pages: &mpsc::Sender<Next>,
) -> Result<(), LogError> {
    let mut under_way = VecDeque::new();
    loop {
        let asked_for = match under_way.pop_front() {
            Some(read) => reached.gone_on_by(joined(read).await?)?,
            None => None,
        };
        let page = match asked_for {
            Some(page) => page,
            // It is the first, or was asked for too early: before there was the event that it goes on from.
            None => log.read_on(&reached, limit).await?,
        };
        let Some(last) = page.last() else { return Ok(()) };
        reached = reached.at(last);
        let is_last = page.len() < limit;
        while !is_last && under_way.len() < READS {
            let begin = reached.position.plus((under_way.len() * limit) as u64);
            let log = log.clone();
            under_way.push_back(tokio::spawn(async move { log.read_from(begin, limit).await }));
        }
        if pages.send(Ok(Some(page))).await.is_err() || is_last {
            return Ok(());
        }
    }
}

async fn joined(read: JoinHandle<Result<Vec<RecordedEvent>, LogError>>) -> Result<Vec<RecordedEvent>, LogError> {
    // It panicked, or the program ends.
    read.await.unwrap_or(Err(LogError::Closed))
}
