//! The work on one generation: take a share of its ranges, read a page, fold, commit, again.

mod advance;
mod ahead;
mod commit;
mod newest;
mod reader;
mod replay;
mod revive;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_core::{Changed, Contracts, Documents, Position, RecordedEvent};
use daybook_database::{Fault, fault};
use daybook_log::{Backoff, Checkpoint, Log, LogError};
use tokio::sync::{Semaphore, watch};

use self::reader::Reader;
use crate::fold::{Failed, Unfit};
use crate::generation::{Generation, Phase};
use crate::ranges::{Act, Claim, Range, Standings};
use crate::refold::{PassedOver, passed_over};
use crate::slices::slice;
use crate::status::Stopped;
use crate::store::Store;
use crate::store::dead_letters::NewDeadLetter;
use crate::store::rebuilds::Comparison;
use crate::table::Table;
use crate::views::View;
use crate::{Settings, ViewError, Views};

/// How long to wait before a database that was away is tried again: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How many times as long as at first a projection that is stopped waits at most.
const STOPPED_TIMES_MAX: u32 = 16;

/// How many times in a row the board is looked at: what is done about a range shows what is to be done next.
const LOOKS_MAX: usize = 4;

pub(crate) struct Worker {
    store: Arc<dyn Store>,
    log: Log,
    contracts: Arc<Contracts>,
    view: Arc<View>,
    generation: Generation,
    table: Arc<Table>,
    owner: String,
    settings: Settings,
    /// How the generations stood when the leases were renewed last.
    standings: watch::Receiver<Standings>,
    stopping: watch::Receiver<bool>,
    /// The memory for a replay, which is there once in this process.
    replays: Arc<Semaphore>,
    reader: Reader,
    /// The ranges that it holds, in the order of their slices.
    held: Vec<Range>,
    /// The documents that it wrote lately: nobody else changes them as long as it holds their ranges.
    documents: Box<dyn Documents>,
    /// The page behind the one that was committed last, which is in the documents already.
    folded: Option<Folded>,
    /// The keys in its ranges that have dead letters.
    parked: HashSet<String>,
    /// What operators passed over, be it that the generation has not come to that yet.
    passed_over: PassedOver,
    /// When what changed long ago is forgotten next.
    prune_at: Instant,
    /// In what it differed from the one that is served when it was looked at first.
    suspected: Option<Comparison>,
    /// How long to wait for a database that is away, and until what the projection stopped at may be mended.
    failed: Backoff,
    stopped: Backoff,
}

/// Why a worker does not go on at once.
#[derive(Debug)]
enum Halt {
    /// The process shuts down, or the generation is given up.
    Asked,
    /// A database is away, or cannot do what is asked.
    Failed(ViewError),
    /// Going on would skip something.
    Stopped(Stopped),
}

/// Why a part of a page was not committed.
enum Refused {
    /// One of its events cannot be taken in.
    Unfit(Unfit),
    /// The database does not take what became of some document, or it has no form to be stored in.
    Document { key: Option<String>, reason: String },
    /// A lease was lost, or others have written: nothing is known of the ranges any more.
    Lost,
    /// None of its events is to blame.
    Halt(Halt),
}

/// A page that was folded and not committed yet.
struct Folded {
    group: Group,
    events: Arc<[RecordedEvent]>,
    changed: Vec<Changed>,
    letters: Vec<NewDeadLetter>,
    failed: Failed,
}

/// Ranges that stand at one position, and how far they may go before others stand there too.
#[derive(Clone)]
struct Group {
    checkpoint: Checkpoint,
    claims: Vec<Claim>,
    limit: usize,
}

impl Group {
    fn has(&self, key: &str) -> bool {
        let slice = slice(key);
        self.claims.iter().any(|claim| claim.slices.contains(slice))
    }
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

/// Data that the database refuses, or that has no form to be sent in, comes from a document, and so from an event.
impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        match (fault(&error), &error) {
            (Fault::Data, _) | (_, sqlx::Error::Encode(_)) => {
                Self::Document { key: None, reason: error.to_string() }
            }
            (Fault::Unavailable | Fault::Duplicate | Fault::Other, _) => Self::Halt(error.into()),
        }
    }
}

impl Worker {
    pub(crate) fn new(
        views: &Views,
        view: &Arc<View>,
        generation: &Generation,
        owner: &str,
        settings: &Settings,
        standings: watch::Receiver<Standings>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store: views.store().clone(),
            log: views.log().clone(),
            contracts: views.contracts().clone(),
            view: view.clone(),
            generation: generation.clone(),
            table: Arc::new(view.table.of(generation)),
            owner: owner.to_owned(),
            settings: settings.clone(),
            standings,
            stopping,
            replays: views.replays().clone(),
            reader: Reader::new(views.log().clone(), settings, view.table.projection),
            held: Vec::new(),
            documents: view.projection.documents(),
            folded: None,
            parked: HashSet::new(),
            passed_over: PassedOver::new(),
            prune_at: Instant::now(),
            suspected: None,
            failed: Backoff::new(RETRY_MIN, RETRY_MAX),
            stopped: Backoff::new(settings.retry_stopped, settings.retry_stopped * STOPPED_TIMES_MAX),
        }
    }

    /// Works until it is asked to stop.
    pub(crate) async fn run(mut self) {
        let table = self.table.name.clone();
        loop {
            let halt = self.hold().await;
            self.forget();
            self.reader.clear();
            self.held.clear();
            let pause = match halt {
                Halt::Asked => return,
                // Its table went with it.
                Halt::Failed(_) if self.is_given_up().await => return,
                Halt::Failed(error) => {
                    let pause = self.failed.pause();
                    tracing::warn!(table, %error, ?pause, "the projector could not go on");
                    pause
                }
                Halt::Stopped(Stopped { position, reason }) => {
                    let pause = self.stopped.pause();
                    tracing::error!(table, %position, reason, ?pause, "the projection is stopped");
                    pause
                }
            };
            if self.pause(pause).await.is_err() {
                return;
            }
        }
    }

    /// Whether nobody is to feed its generation any more, as far as that can be told.
    async fn is_given_up(&mut self) -> bool {
        let id = self.generation.id;
        let generations = self.store.generations(self.table.projection).await;
        generations.is_ok_and(|all| !all.iter().any(|one| one.id == id && one.phase.is_fed()))
    }

    fn lowest(&self) -> Option<Position> {
        self.held.iter().map(|range| range.checkpoint.position).min()
    }

    /// Works for as long as it can, and gives back what it holds.
    async fn hold(&mut self) -> Halt {
        let Err(halt) = self.work().await;
        let stopped = if let Halt::Stopped(stopped) = &halt { Some(stopped) } else { None };
        let outcome = self.give_all_back(stopped).await;
        match outcome {
            Ok(()) => halt,
            // What stopped the projection must not be lost: it will be met again, and written down then.
            Err(error) if stopped.is_some() => error.into(),
            Err(error) => {
                tracing::debug!(%error, "could not give leases back: they will run out");
                halt
            }
        }
    }

    async fn give_all_back(&mut self, stopped: Option<&Stopped>) -> Result<(), sqlx::Error> {
        let stopped = self.lowest().zip(stopped);
        self.store.give_all_back(self.generation.id, &self.owner, stopped).await?;
        self.store.leave(self.generation.id, &self.owner).await
    }

    async fn work(&mut self) -> Result<std::convert::Infallible, Halt> {
        if !self.view.table.is_declared_like(&self.generation) {
            // So that it can be seen why.
            self.share().await?;
            return Err(Halt::Stopped(Stopped {
                position: self.lowest().unwrap_or_default(),
                reason: format!(
                    "the table {} has not the fields that the projection declares: its version has to be raised",
                    self.table.name
                ),
            }));
        }
        // Whether the board is looked at, however it seems to stand.
        let mut looks = true;
        loop {
            if *self.stopping.borrow() {
                return Err(Halt::Asked);
            }
            let begun = Instant::now();
            let committed = match self.folded.take() {
                Some(folded) => self.take_in_folded(folded).await?,
                None => {
                    if std::mem::take(&mut looks) || self.has_news() && !self.is_settled() {
                        self.share().await?;
                    }
                    if self.leads() {
                        self.prune().await?;
                    }
                    let Some(group) = self.next_group().filter(|_| !self.generation.paused) else {
                        self.wait().await?;
                        continue;
                    };
                    if self.generation.phase == Phase::Replay {
                        let memory = tokio::select! {
                            biased;
                            memory = self.replays.clone().acquire_owned() => memory.map_err(|_| Halt::Asked)?,
                            // It may be given up while it waits for another one.
                            waited = self.wait() => {
                                waited?;
                                continue;
                            }
                        };
                        self.replay(&group, memory).await?;
                        looks = true;
                        continue;
                    }
                    let events = self.reader.read(&group.checkpoint, group.limit).await?;
                    if events.is_empty() {
                        self.wait().await?;
                        continue;
                    }
                    self.take_in(&group, events.into()).await?
                }
            };
            match committed {
                Some(count) => self.measure(count, begun.elapsed()),
                None => looks = true,
            }
        }
    }

    /// Whether the leases were renewed since it was looked at how the ranges stand.
    fn has_news(&self) -> bool {
        self.standings.has_changed().is_ok_and(|news| news)
    }

    /// Whether the ranges stand as this worker knows them, and there is nothing to be done about them.
    fn is_settled(&mut self) -> bool {
        let standings = self.standings.borrow_and_update();
        let mut standings = standings.iter().flat_map(|standings| standings.iter());
        let Some(standing) = standings.find(|one| one.generation == self.generation.id) else { return false };
        let (board, own) = (&standing.board, Some(&*self.owner));
        let is_as_it_was = (board.phase, board.paused) == (self.generation.phase, self.generation.paused);
        is_as_it_was
            && !board.phase.is_built()
            && board.workers.contains(&self.owner)
            && board.ranges.iter().filter(|range| range.owner.as_deref() == own).eq(&self.held)
            && board.acts(&self.owner).is_empty()
    }

    /// Forgets what is in memory: it may not be what is stored.
    fn forget(&mut self) {
        self.documents.clear();
        self.folded = None;
    }

    /// Does its part in sharing the ranges, and learns which it holds.
    async fn share(&mut self) -> Result<(), Halt> {
        let (id, lease) = (self.generation.id, self.settings.lease);
        let mut board = self.store.board(id, &self.owner, lease).await?.ok_or(Halt::Asked)?;
        // One that is not built, and is as it was, has nothing to do with the others.
        let is_as_it_was = (board.phase, board.paused) == (self.generation.phase, self.generation.paused);
        let mut generations = Vec::new();
        if board.phase.is_built() || !is_as_it_was {
            generations = self.store.generations(self.table.projection).await?;
            let own = generations.iter().find(|one| one.id == id && one.phase.is_fed());
            self.generation.clone_from(own.ok_or(Halt::Asked)?);
        }
        self.reader.read_newest(!self.generation.phase.is_built());
        for _ in 0..LOOKS_MAX {
            let acts = board.acts(&self.owner);
            if acts.is_empty() {
                break;
            }
            for act in acts {
                match act {
                    Act::Take(claim) => drop(self.store.take(id, claim, &self.owner, lease).await?),
                    Act::GiveBack(claim) => self.store.give_back(id, claim).await?,
                    Act::Split(claim, at) => self.store.split(id, claim, at).await?,
                    Act::Merge(left, right) => self.store.merge(id, left, right).await?,
                }
            }
            board = self.store.board(id, &self.owner, lease).await?.ok_or(Halt::Asked)?;
        }
        let held: Vec<Range> =
            board.ranges.into_iter().filter(|range| range.owner.as_deref() == Some(&*self.owner)).collect();
        if held.iter().map(Range::claim).ne(self.held.iter().map(Range::claim)) {
            tracing::info!(
                table = self.table.name,
                ranges = held.len(),
                position = %held.iter().map(|range| range.checkpoint.position).min().unwrap_or_default(),
                "projecting"
            );
        }
        if self.generation.phase.is_built() || held != self.held {
            self.passed_over = passed_over(&self.log, self.table.projection).await.map_err(Halt::Failed)?;
        }
        if held != self.held {
            // Others may have written what is remembered.
            self.forget();
            self.held = held;
            self.parked = self.store.parked(id).await?.into_iter().collect();
            self.check().await?;
        }
        self.tell();
        if self.leads() && self.advance(&generations).await? {
            // The next step may be possible at once.
            self.standings.mark_changed();
        }
        Ok(())
    }

    /// Whether it is the one that does what is done once for a generation: it holds the first slice.
    fn leads(&self) -> bool {
        self.held.first().is_some_and(|range| range.slices.from == 0) && !self.generation.paused
    }

    /// Has what changed long ago forgotten, now and then.
    async fn prune(&mut self) -> Result<(), Halt> {
        if Instant::now() >= self.prune_at {
            self.store.prune(self.generation.id, &self.table, self.settings.changes_kept).await?;
            self.prune_at = Instant::now() + self.settings.changes_kept / 4;
        }
        Ok(())
    }

    /// Checks that the log is the one that the ranges were folded from.
    async fn check(&mut self) -> Result<(), Halt> {
        let mut checkpoints: Vec<Checkpoint> = self.held.iter().map(|range| range.checkpoint).collect();
        checkpoints.dedup();
        for checkpoint in checkpoints {
            match self.log.check(&checkpoint).await {
                Err(LogError::History(error)) => {
                    let position = checkpoint.position;
                    return Err(Halt::Stopped(Stopped { position, reason: error.to_string() }));
                }
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Wakes those in this process who wait for the view.
    fn tell(&self) {
        if let Some(lowest) = self.lowest().filter(|_| self.generation.phase == Phase::Live) {
            self.view.reached(lowest);
        }
    }

    /// The ranges that are furthest behind.
    fn next_group(&self) -> Option<Group> {
        let mut groups: BTreeMap<Position, (Checkpoint, Vec<Claim>)> = BTreeMap::new();
        for range in &self.held {
            let group = groups.entry(range.checkpoint.position);
            group.or_insert((range.checkpoint, Vec::new())).1.push(range.claim());
        }
        let mut groups = groups.into_values();
        let (checkpoint, claims) = groups.next()?;
        let page = self.settings.page_events_max.max(1);
        let to_next = groups.next().map(|(next, _)| next.position.get() - checkpoint.position.get());
        let limit = to_next.map_or(page, |to_next| page.min(usize::try_from(to_next).unwrap_or(page)));
        Some(Group { checkpoint, claims, limit })
    }

    /// Takes note of a commit.
    fn moved(&mut self, group: &Group, to: Checkpoint) {
        self.failed.moved();
        self.stopped.moved();
        for range in &mut self.held {
            if group.claims.contains(&range.claim()) {
                range.checkpoint = to;
            }
        }
        // What is not committed yet is nowhere else.
        if self.folded.is_none() && self.documents.bytes() > self.settings.memory_bytes_max {
            self.documents.clear();
        }
        self.tell();
    }

    fn measure(&self, events: usize, elapsed: Duration) {
        let projection = self.table.projection;
        metrics::counter!("daybook_projection_events_total", "projection" => projection).increment(events as u64);
        metrics::histogram!("daybook_projection_batch_seconds", "projection" => projection)
            .record(elapsed.as_secs_f64());
    }

    /// Waits until something is appended, or it is time to look anyway, for it or at the board.
    async fn wait(&mut self) -> Result<(), Halt> {
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stop| *stop) => Err(Halt::Asked),
            () = self.reader.appended() => Ok(()),
            seen = self.standings.changed() => {
                self.standings.mark_changed();
                // Nobody keeps its leases any more.
                seen.map_err(|_| Halt::Asked)
            }
            () = tokio::time::sleep(self.settings.idle_interval) => Ok(()),
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
