//! Pages of a replay, decoded ahead: on a thread of its own, while others are read and folded.

use std::sync::Arc;

use daybook_core::{Batch, Contracts, RecordedEvent};
use daybook_log::Scan;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::acts::DeadLetterAct;
use crate::fold;
use crate::views::View;

/// What comes next.
pub(super) enum Next {
    Page(Opened),
    /// The log ends here.
    End,
    /// Something that is no page of a replay: what cannot be read, or what was done about dead letters.
    Other,
}

/// A page, ready to be folded.
pub(super) struct Opened {
    pub(super) events: Arc<[RecordedEvent]>,
    pub(super) batch: Box<dyn Batch>,
}

/// Pages behind a checkpoint: one waits, one is being decoded, and a [`Scan`] is ahead of that.
pub(super) struct Ahead(mpsc::Receiver<Next>);

impl Ahead {
    pub(super) fn new(view: Arc<View>, contracts: Arc<Contracts>, mut scan: Scan) -> Self {
        let (sender, pages) = mpsc::channel(1);
        let runtime = Handle::current();
        // A task would run on the thread that has just read, and keep it from reading on.
        tokio::task::spawn_blocking(move || {
            loop {
                let next = match runtime.block_on(scan.next()) {
                    Ok(Some(page)) => open(&view, &contracts, page),
                    Ok(None) => Next::End,
                    Err(_) => Next::Other,
                };
                let is_page = matches!(next, Next::Page(_));
                // It may be that nobody asks any more.
                if sender.blocking_send(next).is_err() || !is_page {
                    return;
                }
            }
        });
        Self(pages)
    }

    /// The next page. Nothing comes behind what is none.
    pub(super) async fn next(&mut self) -> Next {
        self.0.recv().await.unwrap_or(Next::Other)
    }
}

fn open(view: &View, contracts: &Contracts, events: Vec<RecordedEvent>) -> Next {
    let is_act = |event| !matches!(DeadLetterAct::of(event, view.table.projection), Ok(None));
    if events.iter().any(is_act) {
        return Next::Other;
    }
    let events: Arc<[RecordedEvent]> = events.into();
    match fold::open(view.projection.as_ref(), contracts, events.clone(), &|_| true) {
        Ok(batch) => Next::Page(Opened { events, batch }),
        Err(_) => Next::Other,
    }
}
