//! The projectors of a process: starting and stopping them, keeping their leases.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use daybook_log::Source;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::projector::Projector;
use crate::ranges::Standings;
use crate::slices::SLICES;
use crate::{Views, owner};

/// How the projectors of a process work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to call this process where it is shown who folds a projection.
    pub process: String,
    /// The most events that are folded and committed at once.
    pub page_events_max: usize,
    /// How long after its last sign of life a projector counts as dead, by the clock of the views' database. A live
    /// one gives four signs in that time, and two on SQLite, where each waits for the disk.
    pub lease: Duration,
    /// In how many ranges a view is folded: at most as many processes share the work on it. Changing it needs no rebuild.
    pub shards: u16,
    /// The most memory that the documents take which a projector keeps, so as not to read again what it has just
    /// written: for each view, in bytes.
    pub memory_bytes_max: usize,
    /// The most memory that the documents of a rebuild take before they are written, in bytes. Of several, one at a time takes
    /// it.
    pub rebuild_bytes_max: usize,
    /// How many events a rebuild reads at a time.
    pub rebuild_page_events: usize,
    /// How long other processes can learn what changed in a view, before that is forgotten.
    pub changes_kept: Duration,
    /// How long a generation is kept, and kept up to date, that was served before: so long it can be rolled back to. The
    /// next rebuild ends it earlier.
    pub retire_after: Duration,
    /// How often to look for events without a signal of the log, which gives one for what other processes append, too.
    pub idle_interval: Duration,
    /// When to try a projection again that was stopped. Doubled each time, up to sixteen times as long.
    pub retry_stopped: Duration,
    /// Where the newest events are to be read, when it is not the log: by the projectors of views that are served, or were.
    pub source: Option<Arc<dyn Source>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            process: format!("process {}", std::process::id()),
            page_events_max: 1_000,
            lease: Duration::from_secs(2),
            shards: 8,
            memory_bytes_max: 16 << 20,
            rebuild_bytes_max: 256 << 20,
            rebuild_page_events: 5_000,
            changes_kept: Duration::from_secs(300),
            retire_after: Duration::from_secs(24 * 3_600),
            idle_interval: Duration::from_secs(10),
            retry_stopped: Duration::from_secs(30),
            source: None,
        }
    }
}

/// The projectors of this process, at work. All processes that have some for a projection share its ranges of slices, and
/// take over from those that stop or die.
///
/// Dropping them ends them where they are, and others wait for their leases to run out; [`stop`](Self::stop) is the
/// orderly way.
pub struct Projectors {
    stop: watch::Sender<bool>,
    projectors: JoinSet<()>,
    /// Keeps their leases. Dropped with them.
    keeper: JoinSet<()>,
}

impl Projectors {
    /// Starts a projector for each projection.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn start(views: &Views, settings: Settings) -> Self {
        let settings = Settings { shards: settings.shards.clamp(1, SLICES), ..settings };
        let (stop, stopping) = watch::channel(false);
        // Of this start of this process alone: what it held before a crash is not its own any more.
        let owner = owner::name(&settings);
        let standings = watch::Sender::new(None);
        let mut projectors = JoinSet::new();
        for view in views.views() {
            let projector =
                Projector::new(views, view, &owner, &settings, standings.subscribe(), stopping.clone());
            projectors.spawn(projector.run());
        }
        let mut keeper = JoinSet::new();
        keeper.spawn(keep_leases(views.clone(), owner, settings.lease, standings));
        Self { stop, projectors, keeper }
    }

    /// Waits until one of them, or who keeps their leases, ends without having been asked to. That is a mistake in the program,
    /// and the error says which when it panicked.
    pub async fn ended(&mut self) -> Result<(), JoinError> {
        tokio::select! {
            Some(ended) = self.projectors.join_next() => ended,
            ended = self.keeper.join_next() => ended.unwrap_or(Ok(())),
        }
    }

    /// Lets each projector finish what it is committing and give its lease back.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.projectors.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a projector ended badly");
            }
        }
        self.keeper.shutdown().await;
    }
}

impl fmt::Debug for Projectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projectors").field("running", &self.projectors.len()).finish()
    }
}

/// Renews all leases of this process and looks how all generations stand, in one statement: however many projections there
/// are, it is all that they cost while nothing is appended. A lease that was lost stays lost; its projector notices when it
/// writes.
async fn keep_leases(views: Views, owner: String, lease: Duration, standings: watch::Sender<Standings>) {
    let mut ticks = tokio::time::interval(lease / 4);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = views.store().renew(&owner, lease).await;
        let seen = seen.inspect_err(|error| tracing::debug!(%error, "could not renew the projectors' leases"));
        standings.send_replace(seen.ok().map(Arc::from));
    }
}
