//! One projection in this process: sees to it that it has a generation, and works on each that is to be fed.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_database::{Fault, fault};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::generation::{Generation, Phase, is_given_up, served};
use crate::ranges::{Standing, Standings};
use crate::store::generations::NewGeneration;
use crate::views::View;
use crate::worker::Worker;
use crate::{Settings, ViewError, Views};

/// The longest time between two looks for generations that had their time.
const DROP_INTERVAL_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Projector {
    views: Views,
    view: Arc<View>,
    owner: String,
    settings: Settings,
    /// How the generations stood when the leases were renewed last.
    standings: watch::Receiver<Standings>,
    stopping: watch::Receiver<bool>,
    /// When what had its time is dropped next.
    drop_at: Instant,
    /// The workers, each with its generation, and how to stop it.
    workers: JoinSet<i64>,
    running: HashMap<i64, watch::Sender<bool>>,
}

impl Projector {
    pub(crate) fn new(
        views: &Views,
        view: &Arc<View>,
        owner: &str,
        settings: &Settings,
        standings: watch::Receiver<Standings>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            views: views.clone(),
            view: view.clone(),
            owner: owner.to_owned(),
            settings: settings.clone(),
            standings,
            stopping,
            drop_at: Instant::now(),
            workers: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Works until it is asked to stop.
    pub(crate) async fn run(mut self) {
        let projection = self.view.table.projection;
        let mut changed = self.view.generations_changed.subscribe();
        // What was just begun or given up is not in the standings yet.
        let mut looks = true;
        while !*self.stopping.borrow() {
            changed.mark_unchanged();
            self.standings.mark_unchanged();
            if (std::mem::take(&mut looks) || !self.is_settled())
                && let Err(error) = self.look().await
            {
                tracing::warn!(projection, %error, "could not look for generations");
            }
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => {}
                Some(Ok(ended)) = self.workers.join_next() => drop(self.running.remove(&ended)),
                told = changed.changed() => looks = told.is_ok(),
                // Nobody keeps its leases any more.
                seen = self.standings.changed() => if seen.is_err() { break },
            }
        }
        for stop in self.running.values() {
            stop.send_replace(true);
        }
        while self.workers.join_next().await.is_some() {}
    }

    /// Whether there is a worker for each generation that is to be fed, and for no other, and nothing to be dropped.
    fn is_settled(&self) -> bool {
        let standings = self.standings.borrow();
        let Some(standings) = standings.as_deref() else { return false };
        let (projection, version) = (self.view.table.projection, self.view.table.version);
        let own = || standings.iter().filter(|one| one.projection == projection);
        let fed: BTreeSet<i64> = own().filter(|one| one.version == version).map(|one| one.generation).collect();
        let is_old = |one: &Standing| one.board.phase == Phase::Retired || one.version < version;
        let is_any_due = Instant::now() >= self.drop_at && own().any(is_old);
        !fed.is_empty() && fed.iter().eq(&self.running.keys().copied().collect::<BTreeSet<_>>()) && !is_any_due
    }

    /// Starts and stops workers, as the generations have it.
    async fn look(&mut self) -> Result<(), ViewError> {
        let (projection, version) = (self.view.table.projection, self.view.table.version);
        let mut generations = self.views.store().generations(projection).await?;
        let is_ours = |one: &Generation| one.version == version && one.phase.is_fed();
        if !generations.iter().any(is_ours) && !is_given_up(&generations, version) {
            self.begin(&generations).await?;
            generations = self.views.store().generations(projection).await?;
        }
        let is_old = |one: &Generation| one.phase == Phase::Retired || one.version < version && one.phase.is_fed();
        let is_any_old = generations.iter().any(is_old);
        generations.retain(is_ours);
        for (id, stop) in &self.running {
            if !generations.iter().any(|one| one.id == *id) {
                stop.send_replace(true);
            }
        }
        for generation in generations {
            if self.running.contains_key(&generation.id) {
                continue;
            }
            if generation.phase != Phase::Replay {
                self.views.store().set_shards(generation.id, self.settings.shards).await?;
            }
            let (stop, stopping) = watch::channel(false);
            let (settings, standings) = (&self.settings, self.standings.clone());
            let worker =
                Worker::new(&self.views, &self.view, &generation, &self.owner, settings, standings, stopping);
            let id = generation.id;
            let (mut stopped, pause) = (stop.subscribe(), self.settings.retry_stopped);
            self.running.insert(id, stop);
            self.workers.spawn(async move {
                // What it holds is taken over by the one that is started next.
                if AssertUnwindSafe(worker.run()).catch_unwind().await.is_err() {
                    tracing::error!(generation = id, ?pause, "a mistake in the program: the projector panicked");
                    let _ = timeout(pause, stopped.wait_for(|stop| *stop)).await;
                }
                id
            });
        }
        if Instant::now() >= self.drop_at && is_any_old {
            let settings = &self.settings;
            self.drop_at =
                Instant::now() + (settings.retire_after / 8).clamp(settings.lease / 2, DROP_INTERVAL_MAX);
            self.drop_outlived().await?;
        }
        Ok(())
    }

    /// Comes last, and is not tried again soon: whoever reads such a table for long keeps it from being dropped.
    async fn drop_outlived(&self) -> Result<(), ViewError> {
        let (store, view) = (self.views.store(), &self.view.table);
        for outlived in store.outlived(view, self.settings.retire_after).await? {
            let table = view.of(&outlived);
            if store.remove(&outlived, &table, Phase::Dropped).await? {
                tracing::info!(table = table.name, "it was not served any more, and is dropped");
            }
        }
        Ok(())
    }

    /// Begins the first generation of this version. It is served from the beginning when nothing else is.
    async fn begin(&self, generations: &[Generation]) -> Result<(), ViewError> {
        let head = self.views.log().head().await?;
        let (phase, shards) = match served(generations, self.view.table.version) {
            Some(_) => (Phase::Replay, 1),
            None => (Phase::Live, self.settings.shards),
        };
        let new = NewGeneration {
            phase,
            shards,
            confirm_diff: false,
            started_by: self.settings.process.clone(),
            start: self.views.log().checkpoint(&head, None),
        };
        match self.views.store().begin(&self.view.table, &new).await {
            // Another process came first.
            Err(error) if fault(&error) == Fault::Duplicate => Ok(()),
            begun => Ok(begun.map(drop)?),
        }
    }
}
