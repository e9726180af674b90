//! The appender: takes all appends that wait, commits them as one group, and tells each caller its own verdict.
//!
//! It is a thread with a runtime and a connection of its own: on the way from one group to the next nothing is
//! handed over to another thread, which makes groups a third faster. While one group commits the next one gathers;
//! nothing ever lingers for more.

use std::io;
use std::time::Instant;

use daybook_core::Position;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{oneshot, watch};

use crate::group::Group;
use crate::log::Settings;
use crate::prepare::Prepared;
use crate::store::{Committed, Failure, Store};
use crate::{LogError, Verdict};

/// The most bytes of a group. An append that has more by itself is a group by itself.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// An append that waits, and where its verdict goes.
struct Waiting {
    prepared: Prepared,
    since: Instant,
    answer: oneshot::Sender<Result<Verdict, LogError>>,
}

/// The handle of an appender.
pub(crate) struct Appender {
    queue: mpsc::Sender<Waiting>,
    closing: watch::Sender<bool>,
    /// Never sent to; its other end goes away when the thread has ended.
    ended: watch::Receiver<()>,
}

impl Appender {
    /// Starts a thread that appends to `store` and tells `head` where the log ends. It ends when it is closed, or
    /// when its handle is gone.
    pub(crate) fn start(
        store: &dyn Store,
        settings: &Settings,
        head: watch::Sender<Position>,
    ) -> Result<Self, io::Error> {
        let (queue, waiting) = mpsc::channel(settings.queue_appends_max.max(1));
        let (closing, closed) = watch::channel(false);
        let (running, ended) = watch::channel(());
        let mut worker = Worker {
            waiting,
            closed,
            head,
            writer: store.writer(),
            group_appends_max: settings.group_appends_max.max(1),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("daybook-appender".into()).spawn(move || {
            let _running = running;
            runtime.block_on(worker.run());
        })?;
        Ok(Self { queue, closing, ended })
    }

    /// Queues an append, and waits for its verdict.
    pub(crate) async fn append(&self, prepared: Prepared) -> Result<Verdict, LogError> {
        let (answer, verdict) = oneshot::channel();
        self.queue.try_send(Waiting { prepared, since: Instant::now(), answer }).map_err(|error| match error {
            TrySendError::Full(_) => LogError::Busy,
            TrySendError::Closed(_) => LogError::Closed,
        })?;
        // Without an answer the thread came to grief with the append in its hands.
        verdict.await.unwrap_or(Err(LogError::Unknown))
    }

    /// Takes no more appends, and waits until those that were taken are committed.
    pub(crate) async fn close(&self) {
        self.closing.send_replace(true);
        self.ended().await;
    }

    /// Waits until the thread has ended, for whatever reason.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Whether it is closed or gone: for tasks that end with it.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

struct Worker {
    waiting: mpsc::Receiver<Waiting>,
    closed: watch::Receiver<bool>,
    head: watch::Sender<Position>,
    writer: Box<dyn crate::store::Writer>,
    group_appends_max: usize,
}

impl Worker {
    async fn run(&mut self) {
        let mut closing = false;
        let mut taken = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                _ = self.closed.wait_for(|closed| *closed), if !closing => None,
                count = self.waiting.recv_many(&mut taken, self.group_appends_max) => Some(count),
            };
            match count {
                // Closed or dropped. What is in the queue is still received.
                None => {
                    closing = true;
                    self.waiting.close();
                }
                Some(0) => return,
                Some(_) => {
                    self.gather(&mut taken).await;
                    self.commit_all(std::mem::take(&mut taken)).await;
                }
            }
        }
    }

    /// Lets callers that were woken together come in together.
    async fn gather(&mut self, taken: &mut Vec<Waiting>) {
        tokio::task::yield_now().await;
        while taken.len() < self.group_appends_max
            && let Ok(waiting) = self.waiting.try_recv()
        {
            taken.push(waiting);
        }
    }

    async fn commit_all(&mut self, mut taken: Vec<Waiting>) {
        while !taken.is_empty() {
            let later = taken.split_off(group_length(&taken));
            self.commit(taken).await;
            taken = later;
        }
    }

    async fn commit(&mut self, group: Vec<Waiting>) {
        match self.try_commit(&group).await {
            Ok(committed) => self.answer(group, committed),
            Err(Failure::Unavailable(reason)) => {
                tracing::warn!(reason, appends = group.len(), "the database is not available for appending");
                answer_all(group, || LogError::Unavailable(reason.clone()));
            }
            Err(Failure::Unknown) => answer_all(group, || LogError::Unknown),
            Err(Failure::Refused(error)) => self.refused(group, error).await,
        }
    }

    /// Has the appends of a refused group go one by one, so that only the one that is to blame fails.
    async fn refused(&mut self, group: Vec<Waiting>, error: LogError) {
        tracing::error!(%error, appends = group.len(), "the database refused to append");
        match <[Waiting; 1]>::try_from(group) {
            Ok([alone]) => drop(alone.answer.send(Err(error))),
            Err(group) => {
                for waiting in group {
                    Box::pin(self.commit(vec![waiting])).await;
                }
            }
        }
    }

    async fn try_commit(&mut self, group: &[Waiting]) -> Result<Committed, Failure> {
        let appends: Vec<&Prepared> = group.iter().map(|waiting| &waiting.prepared).collect();
        self.writer.commit(&Group::new(&appends)).await
    }

    fn answer(&self, group: Vec<Waiting>, committed: Committed) {
        advance(&self.head, committed.head);
        metrics::histogram!("daybook_append_group_size").record(group.len() as f64);
        let duration = metrics::histogram!("daybook_append_duration_seconds");
        let mut events = 0;
        for (waiting, verdict) in group.into_iter().zip(committed.verdicts) {
            if let Verdict::Committed(receipt) = &verdict {
                events += receipt.events.len() as u64;
            }
            duration.record(waiting.since.elapsed());
            // A caller that went away does not mind.
            let _ = waiting.answer.send(Ok(verdict));
        }
        metrics::counter!("daybook_events_appended_total").increment(events);
    }
}

/// How many of those that wait make one group.
fn group_length(waiting: &[Waiting]) -> usize {
    let mut bytes = 0_usize;
    let fitting = waiting.iter().take_while(|waiting| {
        bytes += waiting.prepared.bytes;
        bytes <= GROUP_BYTES_MAX
    });
    fitting.count().max(1)
}

fn answer_all(group: Vec<Waiting>, error: impl Fn() -> LogError) {
    for waiting in group {
        let _ = waiting.answer.send(Err(error()));
    }
}

/// Moves a watched position, forward only.
pub(crate) fn advance(head: &watch::Sender<Position>, position: Position) {
    head.send_if_modified(|known| {
        let ahead = position > *known;
        if ahead {
            *known = position;
        }
        ahead
    });
}
