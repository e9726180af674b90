//! The appender: takes all appends that wait, commits them as one group, and tells each caller its own verdict.
//!
//! It is a thread with a runtime and a connection of its own: on the way from one group to the next nothing is
//! handed over to another thread, which makes groups a third faster. While one group commits the next one gathers;
//! nothing ever lingers for more. When some wait already, they are on their way before those before them are answered,
//! unless that blocks the thread.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_core::Position;
use daybook_database::Signal;
use futures_util::future::join;
use tokio::sync::mpsc::{self, Permit, error::TrySendError};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use uuid::Uuid;

use crate::group::{Group, Plan};
use crate::known::{Known, Tip};
use crate::log::Settings;
use crate::look_up::find_out;
use crate::prepare::Prepared;
use crate::seen::{Mark, Seen};
use crate::store::{Failure, Writer};
use crate::{LogError, Ticket, Verdict};

/// The most bytes of a group. An append that has more by itself is a group by itself.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// For how long nothing has to be appended until no other process is kept waiting for it. What was decided again is here
/// by then.
const REST_AFTER: Duration = Duration::from_millis(20);

/// For how long nothing has to be appended until what is known of the log is forgotten, to be found out again.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// An append that waits, and where its verdict goes.
#[derive(Debug)]
struct Waiting {
    prepared: Prepared,
    since: Instant,
    answer: oneshot::Sender<Result<Verdict, LogError>>,
}

impl Waiting {
    /// A caller that went away does not mind.
    fn answer(self, result: Result<Verdict, LogError>) {
        self.prepared.ticket.settle(matches!(result, Ok(Verdict::Committed(_))));
        let _ = self.answer.send(result);
    }
}

/// An append that was queued.
#[derive(Debug)]
pub struct Submitted {
    verdict: oneshot::Receiver<Result<Verdict, LogError>>,
}

/// An append that has its place in the queue, and is not in it yet. Dropped, it is given up.
#[derive(Debug)]
pub struct Reserved<'a> {
    ticket: Ticket,
    /// Nothing to queue when it could never be written.
    append: Result<(Permit<'a, Waiting>, Prepared), Verdict>,
}

impl Reserved<'_> {
    /// Tells others what becomes of it.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Queues it, behind all that were queued before.
    pub fn submit(self) -> Submitted {
        let (answer, verdict) = oneshot::channel();
        match self.append {
            Ok((place, prepared)) => place.send(Waiting { prepared, since: Instant::now(), answer }),
            Err(refused) => drop(answer.send(Ok(refused))),
        }
        Submitted { verdict }
    }
}

impl Submitted {
    /// Waits for its verdict.
    ///
    /// # Errors
    ///
    /// See [`Log::append`](crate::Log::append).
    pub async fn verdict(self) -> Result<Verdict, LogError> {
        // Without an answer the thread came to grief with the append in its hands.
        self.verdict.await.unwrap_or(Err(LogError::Unknown))
    }
}

/// The handle of an appender.
pub(crate) struct Appender {
    queue: mpsc::Sender<Waiting>,
    closing: watch::Sender<bool>,
    /// Never sent to; its other end goes away when the thread has ended.
    ended: watch::Receiver<()>,
}

impl Appender {
    /// Starts a thread that appends with `writer`, on all that was `seen`, and tells others how far it `appended`. It ends
    /// when it is closed, when its handle is gone, or when the log is not the one that it was.
    pub(crate) fn start(
        writer: Box<dyn Writer>,
        settings: &Settings,
        seen: Arc<Seen>,
        appended: Signal,
    ) -> Result<Self, io::Error> {
        let (queue, waiting) = mpsc::channel(settings.queue_appends_max.max(1));
        let (closing, closed) = watch::channel(false);
        let (running, ended) = watch::channel(());
        let mut worker = Worker {
            waiting,
            closed,
            seen,
            appended,
            writer,
            rested: true,
            known: None,
            unresolved: None,
            decided: None,
            group_appends_max: settings.group_appends_max.max(1),
            look_up_timeout: settings.look_up_timeout,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("daybook-appender".into()).spawn(move || {
            let _running = running;
            runtime.block_on(worker.run());
        })?;
        Ok(Self { queue, closing, ended })
    }

    /// Gives an append its place, when it could be written.
    pub(crate) fn reserve(&self, append: Result<Prepared, String>) -> Result<Reserved<'_>, LogError> {
        let prepared = match append {
            Ok(prepared) => prepared,
            Err(reason) => {
                let ticket = Ticket::new();
                ticket.settle(false);
                return Ok(Reserved { ticket, append: Err(Verdict::Invalid(reason)) });
            }
        };
        let place = self.queue.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => LogError::Busy,
            TrySendError::Closed(()) => LogError::Closed,
        })?;
        Ok(Reserved { ticket: prepared.ticket.clone(), append: Ok((place, prepared)) })
    }

    /// Takes no more appends, and waits until those that were taken are committed.
    pub(crate) async fn close(&self) {
        self.begin_to_close();
        self.ended().await;
    }

    /// Waits until the thread has ended, for whatever reason.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Takes no more appends.
    pub(crate) fn begin_to_close(&self) {
        self.closing.send_replace(true);
    }

    /// Whether it is closed or gone: for tasks that end with it.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

struct Worker {
    waiting: mpsc::Receiver<Waiting>,
    closed: watch::Receiver<bool>,
    seen: Arc<Seen>,
    appended: Signal,
    writer: Box<dyn Writer>,
    /// Whether there was nothing to write for a moment.
    rested: bool,
    /// What is known of the log; nothing before the first group.
    known: Option<Known>,
    /// The first event of a write of which nobody knows what became of it. It may still arrive.
    unresolved: Option<(Position, Uuid)>,
    /// A group whose callers are still to be told.
    decided: Option<(Vec<Waiting>, Vec<Verdict>)>,
    group_appends_max: usize,
    look_up_timeout: Duration,
}

impl Worker {
    async fn run(&mut self) {
        let mut closing = false;
        let mut taken = Vec::new();
        loop {
            // Nobody is told while the thread is blocked.
            if self.waiting.is_empty() || self.writer.blocks() {
                tell(self.decided.take());
            }
            let count = tokio::select! {
                biased;
                _ = self.closed.wait_for(|closed| *closed), if !closing => None,
                count = self.waiting.recv_many(&mut taken, self.group_appends_max) => Some(count),
                () = sleep(REST_AFTER), if !self.rested => {
                    self.rested = true;
                    self.writer.rest().await;
                    continue;
                }
                () = sleep(KNOWN_FOR), if self.rested && self.known.is_some() => {
                    self.known = None;
                    continue;
                }
            };
            match count {
                // Closed or dropped. What is in the queue is still received.
                None => {
                    closing = true;
                    self.waiting.close();
                }
                Some(0) => return tell(self.decided.take()),
                Some(_) => {
                    self.gather(&mut taken).await;
                    self.commit_all(std::mem::take(&mut taken)).await;
                    self.rested = false;
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
        if let Some(error) = self.seen.lost() {
            return answer_all(group, || error.clone().into());
        }
        let before = self.decided.take();
        // The database is given its work first.
        match join(self.try_commit(&group), async { tell(before) }).await.0 {
            Ok(verdicts) => {
                settle(&group, &verdicts);
                self.decided = Some((group, verdicts));
            }
            Err(Failure::Unavailable(reason)) => {
                tracing::warn!(reason, appends = group.len(), "the database is not available for appending");
                answer_all(group, || LogError::Unavailable(reason.clone()));
            }
            Err(Failure::Unknown) => answer_all(group, || LogError::Unknown),
            Err(Failure::Refused(error)) => self.refused(group, error).await,
            Err(Failure::History(error)) => {
                tracing::error!(%error, "this is not the log that was appended to: nothing more is appended");
                answer_all(group, || error.clone().into());
                self.seen.lose(error);
                self.waiting.close();
            }
        }
    }

    /// Has the appends of a refused group go one by one, so that only the one that is to blame fails.
    async fn refused(&mut self, group: Vec<Waiting>, error: LogError) {
        tracing::error!(%error, appends = group.len(), "the database refused to append");
        match <[Waiting; 1]>::try_from(group) {
            Ok([alone]) => alone.answer(Err(error)),
            Err(group) => {
                for waiting in group {
                    Box::pin(self.commit(vec![waiting])).await;
                }
            }
        }
    }

    async fn try_commit(&mut self, group: &[Waiting]) -> Result<Vec<Verdict>, Failure> {
        let appends: Vec<&Prepared> = group.iter().map(|waiting| &waiting.prepared).collect();
        let group = Group::new(&appends);
        if let Some(first) = self.unresolved {
            // What is said from here on must stay true: a look-up shuts out what is still on its way.
            self.writer.look_up(first).await?;
            self.unresolved = None;
        }
        let mut marks = self.seen.marks();
        let known = match self.known.take() {
            Some(known) => known,
            None => Known::new(self.writer.tip(&marks).await?),
        };
        let known = self.known.insert(known);
        if known.holds(&marks)
            && let Some(answers) = known.answers(&group)
        {
            let plan = group.decide(known.tip.position, &answers);
            if group.is_proven_by(&plan) {
                let written =
                    write_at(&mut *self.writer, &known.tip, &plan, &mut self.unresolved, self.look_up_timeout);
                if let Some(tip) = written.await? {
                    known.advance(tip, plan.changes());
                    self.make_known(&[], tip.mark());
                    return Ok(plan.verdicts);
                }
            }
            metrics::counter!("daybook_append_groups_locked_total").increment(1);
        }
        marks.push(known.tip.mark());
        let written =
            write_locked(&mut *self.writer, known, &marks, &group, &mut self.unresolved, self.look_up_timeout);
        let verdicts = written.await?;
        let tip = known.tip.mark();
        self.make_known(&marks, tip);
        Ok(verdicts)
    }

    /// Lets everybody know where the log ends: here, and elsewhere.
    fn make_known(&self, checked: &[Mark], tip: Mark) {
        self.seen.confirm(checked, tip);
        self.appended.send(tip.position.get());
    }
}

/// Lets those who are decided next know what became of what they were built on.
fn settle(group: &[Waiting], verdicts: &[Verdict]) {
    for (waiting, verdict) in group.iter().zip(verdicts) {
        waiting.prepared.ticket.settle(matches!(verdict, Verdict::Committed(_)));
    }
}

/// Tells the callers of a group.
fn tell(decided: Option<(Vec<Waiting>, Vec<Verdict>)>) {
    let Some((group, verdicts)) = decided else { return };
    metrics::histogram!("daybook_append_group_size").record(group.len() as f64);
    let duration = metrics::histogram!("daybook_append_duration_seconds");
    let mut events = 0;
    for (waiting, verdict) in group.into_iter().zip(verdicts) {
        if let Verdict::Committed(receipt) = &verdict {
            events += receipt.events.len() as u64;
        }
        duration.record(waiting.since.elapsed());
        waiting.answer(Ok(verdict));
    }
    metrics::counter!("daybook_events_appended_total").increment(events);
}

/// Writes a plan if the log still ends at `tip`, and answers where it ends then.
async fn write_at(
    writer: &mut dyn Writer,
    tip: &Tip,
    plan: &Plan<'_>,
    unresolved: &mut Option<(Position, Uuid)>,
    look_up_timeout: Duration,
) -> Result<Option<Tip>, Failure> {
    if plan.is_empty() {
        let newest = writer.tip(&[tip.mark()]).await?;
        return Ok((newest.id == tip.id).then_some(newest));
    }
    match writer.write_at(tip, plan).await {
        Err(Failure::Unknown) => {
            *unresolved = plan.first();
            find_out(writer, unresolved, look_up_timeout).await
        }
        written => written,
    }
    .map(|recorded_at| recorded_at.map(|recorded_at| plan.tip(tip, recorded_at)))
}

/// Writes a group while all other writers are kept out, and says what became of each append.
async fn write_locked(
    writer: &mut dyn Writer,
    known: &mut Known,
    seen: &[Mark],
    group: &Group<'_>,
    unresolved: &mut Option<(Position, Uuid)>,
    look_up_timeout: Duration,
) -> Result<Vec<Verdict>, Failure> {
    let written = writer.write_locked(&known.tip, seen, group).await?;
    if let Err(first) = written.commit {
        *unresolved = first;
        if find_out(writer, unresolved, look_up_timeout).await?.is_none() {
            return Err(Failure::Unavailable("the connection broke before the group was committed".into()));
        }
    }
    match written.changes {
        Some(changes) => known.advance(written.tip, changes),
        None => *known = Known::new(written.tip),
    }
    Ok(written.verdicts)
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
        waiting.answer(Err(error()));
    }
}

#[cfg(test)]
mod tests;
