//! One projection's way: take the lease, read a page, fold, commit, again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_core::{Contracts, Position, RecordedEvent};
use daybook_database::{Fault, fault};
use daybook_log::{Checkpoint, Head, Log, LogError, Scan};
use tokio::sync::watch;

use crate::fold::{self, Unfit};
use crate::status::Stopped;
use crate::store::{Lease, Store};
use crate::views::View;
use crate::{Settings, ViewError, Views};

/// How long to wait before a database that was away is tried again: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How many times [`Settings::retry_stopped`] is doubled.
const STOPS_DOUBLED_MAX: u32 = 4;

pub(crate) struct Projector {
    store: Arc<dyn Store>,
    log: Log,
    contracts: Arc<Contracts>,
    view: Arc<View>,
    owner: String,
    settings: Settings,
    stopping: watch::Receiver<bool>,
}

/// Why a projector does not go on at once.
#[derive(Debug)]
enum Halt {
    /// The process shuts down.
    Asked,
    /// Another process took over.
    LeaseLost,
    /// A database is away, or cannot do what is asked.
    Failed(ViewError),
    /// Going on would skip something.
    Stopped(Stopped),
}

/// Why a part of a page was not committed.
enum Refused {
    /// One of its events cannot be taken in.
    Unfit(Unfit),
    /// None of its events is to blame.
    Halt(Halt),
}

impl From<LogError> for Halt {
    fn from(error: LogError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<sqlx::Error> for Halt {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// Data that the database refuses comes from a document, and so from an event.
impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Data => Self::Unfit(Unfit::somewhere(format!("a document cannot be stored: {error}"))),
            Fault::Unavailable | Fault::Duplicate | Fault::Other => Self::Halt(error.into()),
        }
    }
}

impl Projector {
    pub(crate) fn new(
        views: &Views,
        view: &Arc<View>,
        owner: &str,
        settings: &Settings,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store: views.store().clone(),
            log: views.log().clone(),
            contracts: views.contracts().clone(),
            view: view.clone(),
            owner: owner.to_owned(),
            settings: settings.clone(),
            stopping,
        }
    }

    /// Works until it is asked to stop.
    pub(crate) async fn run(mut self) {
        let projection = self.view.table.projection;
        let (mut failures, mut stops) = (0, 0);
        loop {
            let before = *self.view.committed.borrow();
            let halt = self.hold().await;
            if *self.view.committed.borrow() != before {
                (failures, stops) = (0, 0);
            }
            let pause = match halt {
                Halt::Asked => return,
                Halt::LeaseLost => {
                    tracing::info!(projection, "another process took the projection over");
                    Duration::ZERO
                }
                Halt::Failed(error) => {
                    let pause = (RETRY_MIN * 2_u32.pow(failures)).min(RETRY_MAX);
                    failures = (failures + 1).min(16);
                    tracing::warn!(projection, %error, ?pause, "the projector could not go on");
                    pause
                }
                Halt::Stopped(Stopped { position, reason }) => {
                    let pause = self.settings.retry_stopped * 2_u32.pow(stops);
                    stops = (stops + 1).min(STOPS_DOUBLED_MAX);
                    tracing::error!(projection, %position, reason, ?pause, "the projection is stopped");
                    pause
                }
            };
            if self.pause(pause).await.is_err() {
                return;
            }
        }
    }

    /// Waits for the lease, holds it for as long as it can, and gives it back.
    async fn hold(&mut self) -> Halt {
        let (lease, head) = match self.acquire().await {
            Ok(acquired) => acquired,
            Err(halt) => return halt,
        };
        let Err(halt) = self.follow(lease, &head).await;
        let stopped = if let Halt::Stopped(stopped) = &halt { Some(stopped) } else { None };
        match self.store.release(&self.view.table, lease.epoch, stopped).await {
            Ok(()) => halt,
            // What stopped the projection must not be lost: it will be met again, and written down then.
            Err(error) if stopped.is_some() => error.into(),
            Err(error) => {
                tracing::debug!(%error, "could not give a lease back: it will run out");
                halt
            }
        }
    }

    async fn acquire(&mut self) -> Result<(Lease, Head), Halt> {
        loop {
            let head = self.log.head().await?;
            let start = self.log.checkpoint(&head, None);
            let Settings { lease, .. } = self.settings;
            if let Some(lease) = self.store.acquire(&self.view.table, &self.owner, lease, &start).await? {
                return Ok((lease, head));
            }
            self.pause(lease / 8).await?;
        }
    }

    /// Takes in the log from the checkpoint on, for as long as the lease is held.
    async fn follow(&mut self, lease: Lease, head: &Head) -> Result<std::convert::Infallible, Halt> {
        let mut checkpoint = lease.checkpoint;
        self.prepare(&checkpoint).await?;
        self.view.reached(checkpoint.position);
        tracing::info!(
            projection = self.view.table.projection,
            position = %checkpoint.position,
            lease_epoch = lease.epoch,
            "projecting"
        );
        let mut appended = self.log.watch();
        loop {
            // Marked as seen before reading, so that whatever is appended from here on wakes.
            appended.mark_unchanged();
            let mut scan = self.log.scan(&checkpoint, self.settings.page_events_max);
            while let Some(events) = self.next(&mut scan, &checkpoint).await? {
                let mut left = &events[..];
                while !left.is_empty() {
                    if *self.stopping.borrow() {
                        return Err(Halt::Asked);
                    }
                    let begun = Instant::now();
                    let count = self.take_in(&lease, &mut checkpoint, head, left).await?;
                    self.view.reached(checkpoint.position);
                    self.measure(count, begun.elapsed());
                    left = &left[count..];
                }
            }
            self.wait(&mut appended).await?;
        }
    }

    /// Makes the table and checks that it, and the log, are those that the view was begun with.
    async fn prepare(&self, checkpoint: &Checkpoint) -> Result<(), Halt> {
        let stopped = |reason| Halt::Stopped(Stopped { position: checkpoint.position, reason });
        let table = &self.view.table;
        let mut columns = self.store.columns(table).await?;
        if columns.is_empty() {
            self.store.create(table).await?;
            columns = self.store.columns(table).await?;
        }
        if !table.has(&columns) {
            return Err(stopped(format!(
                "the table {} has not the fields that the projection declares: its version has to be raised",
                table.name
            )));
        }
        match self.log.check(checkpoint).await {
            Err(LogError::History(error)) => Err(stopped(error.to_string())),
            checked => Ok(checked?),
        }
    }

    /// The next page; `None` at the end of the log. Where the log is damaged, it ends before the damage.
    async fn next(&self, scan: &mut Scan, checkpoint: &Checkpoint) -> Result<Option<Vec<RecordedEvent>>, Halt> {
        let after = checkpoint.position;
        let mut limit = self.settings.page_events_max.max(1);
        loop {
            let (position, reason) = match scan.next().await {
                Ok(None) => return Ok(None),
                Ok(Some(events)) => return in_sequence(after, events).map(Some),
                Err(LogError::History(error)) => (after, error.to_string()),
                Err(LogError::Damaged { position, reason }) => (position, reason),
                Err(error) => return Err(error.into()),
            };
            let readable = position.get().saturating_sub(after.get() + 1) as usize;
            if readable == 0 || readable >= limit {
                return Err(Halt::Stopped(Stopped { position, reason }));
            }
            limit = readable;
            *scan = self.log.scan(checkpoint, limit);
        }
    }

    /// Commits a page, or as much of its beginning as can be taken in; says how many events that were.
    async fn take_in(
        &self,
        lease: &Lease,
        checkpoint: &mut Checkpoint,
        head: &Head,
        events: &[RecordedEvent],
    ) -> Result<usize, Halt> {
        let mut count = events.len();
        loop {
            let to = self.log.checkpoint(head, events[..count].last());
            match self.commit(lease, checkpoint.position, &to, &events[..count]).await {
                Ok(()) => {
                    *checkpoint = to;
                    return Ok(count);
                }
                Err(Refused::Halt(halt)) => return Err(halt),
                Err(Refused::Unfit(unfit)) => match fold::fewer(events, count, &unfit) {
                    0 => {
                        let position = events[0].position;
                        return Err(Halt::Stopped(Stopped { position, reason: unfit.reason }));
                    }
                    fewer => count = fewer,
                },
            }
        }
    }

    /// Commits a part of a page: all of it or nothing.
    async fn commit(
        &self,
        lease: &Lease,
        from: Position,
        to: &Checkpoint,
        events: &[RecordedEvent],
    ) -> Result<(), Refused> {
        let table = &self.view.table;
        let batch = fold::open(self.view.projection.as_ref(), &self.contracts, events)?;
        let keys = batch.keys();
        let changed = if keys.is_empty() {
            Vec::new()
        } else {
            // Read outside of the transaction that writes: only the holder of this lease changes them.
            let stored = self.store.stored(table, &keys).await?;
            fold::fold(batch, &stored)?
        };
        match self.store.commit(table, lease.epoch, from, to, &changed, self.settings.lease).await? {
            true => Ok(()),
            false => Err(Refused::Halt(Halt::LeaseLost)),
        }
    }

    fn measure(&self, events: usize, elapsed: Duration) {
        let projection = self.view.table.projection;
        metrics::counter!("daybook_projection_events_total", "projection" => projection).increment(events as u64);
        metrics::histogram!("daybook_projection_batch_seconds", "projection" => projection)
            .record(elapsed.as_secs_f64());
    }

    /// Waits until something is appended, or it is time to look anyway.
    async fn wait(&mut self, appended: &mut watch::Receiver<Position>) -> Result<(), Halt> {
        let idle = self.settings.idle_interval;
        tokio::select! {
            Ok(()) = appended.changed() => Ok(()),
            paused = self.pause(idle) => paused,
        }
    }

    /// Waits, unless it is asked to stop.
    async fn pause(&mut self, time: Duration) -> Result<(), Halt> {
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stop| *stop) => Err(Halt::Asked),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

/// The log has no holes (L2). One that has is not folded over.
fn in_sequence(after: Position, events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>, Halt> {
    let hole =
        (1..).zip(&events).map(|(nth, event)| (after.plus(nth), event.position)).find(|(due, is)| due != is);
    match hole {
        None => Ok(events),
        Some((due, is)) => {
            let reason = format!("the log has position {is} where {due} is due");
            Err(Halt::Stopped(Stopped { position: due, reason }))
        }
    }
}
