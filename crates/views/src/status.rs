//! How far each projection is.

use std::collections::BTreeSet;
use std::time::Duration;

use daybook_core::Position;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use crate::generation::{Generation, Phase, is_given_up, served};
use crate::store::Progress;
use crate::{ViewError, Views, owner};

/// How long whoever asks for metrics waits for what has to be looked up; the gauges stay as they were then.
const REPORT_LIMIT: Duration = Duration::from_secs(3);

/// How far a projection is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Projection")]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// The version that is served: an older one, until this program's has been built.
    pub version: u32,
    /// The number of the generation that is served; nothing as long as nobody has begun one.
    pub generation: Option<u32>,
    /// The generation that is being built beside it.
    pub building: Option<Building>,
    /// This program's version, when somebody gave it up before it was served: nobody begins it again until a rebuild is
    /// asked for.
    pub given_up: Option<u32>,
    /// The last position that it has taken in.
    #[schemars(with = "u64")]
    pub position: Position,
    /// How many events it has not taken in yet.
    pub lag_events: u64,
    /// How long ago the oldest event that it has not taken in was recorded, in seconds; 0 when there is none.
    pub lag_seconds: f64,
    /// Who folds it at this moment.
    pub owners: BTreeSet<String>,
    /// Where they read the newest events: `log`, or a source beside it.
    pub sources: BTreeSet<String>,
    /// Why it stands still, when it does.
    pub stopped: Option<Stopped>,
    /// How many dead letters it has.
    pub dead_letters: u64,
}

/// A generation that is being built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Building {
    /// Its number.
    pub generation: u32,
    /// Its version: a newer one than is served, when the program was changed.
    pub version: u32,
    /// What is being done.
    pub phase: Phase,
    /// Whether it waits until somebody lets it go on.
    pub paused: bool,
    /// The last position that it has taken in.
    #[schemars(with = "u64")]
    pub position: Position,
    /// Who works on it at this moment.
    pub owners: BTreeSet<String>,
    /// Why it stands still, when it does.
    pub stopped: Option<Stopped>,
    /// How many dead letters it has: once it is served, their documents lack these events.
    pub dead_letters: u64,
}

/// Why a projection stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stopped {
    /// The position of the event that it cannot take in; when it was no event's fault, how far it has come.
    #[schemars(with = "u64")]
    pub position: Position,
    /// What is wrong.
    pub reason: String,
}

/// How far a generation is.
struct Reached {
    position: Position,
    owners: BTreeSet<String>,
    stopped: Option<Stopped>,
}

impl Reached {
    fn of(generation: Option<&Generation>, progress: &[Progress]) -> Self {
        let own = || progress.iter().filter(|range| generation.is_some_and(|one| one.id == range.generation));
        let lowest = own().map(|range| range.position).min().unwrap_or_default();
        Self {
            position: generation.map_or(lowest, |one| one.position(lowest)),
            owners: own().filter_map(|range| range.owner.clone()).collect(),
            stopped: own().find_map(|range| range.stopped.clone()),
        }
    }
}

impl Views {
    /// How far each registered projection is, in the order of their names.
    ///
    /// # Errors
    ///
    /// When the log or the views are not available.
    pub async fn status(&self) -> Result<Vec<Status>, ViewError> {
        let mut all = Vec::new();
        for view in self.views() {
            all.push((view, self.store().generations(view.table.projection).await?));
        }
        let ids: Vec<i64> = all.iter().flat_map(|(_, generations)| generations).map(|one| one.id).collect();
        let progress = self.store().progress(&ids).await?;
        let dead_letters = self.store().dead_letters_of(&ids).await?;
        let count =
            |one: Option<&Generation>| one.and_then(|one| dead_letters.get(&one.id).copied()).unwrap_or_default();
        // Behind the checkpoints.
        let head = self.log().head().await?;
        let mut statuses = Vec::new();
        for (view, generations) in all {
            let version = view.table.version;
            let served = served(&generations, version);
            let reached = Reached::of(served, &progress);
            let built = generations.iter().rfind(|one| one.version == version && one.phase.is_built());
            let building = built.map(|one| {
                let Reached { position, owners, stopped } = Reached::of(Some(one), &progress);
                let (generation, version, phase, paused) = (one.number, one.version, one.phase, one.paused);
                let dead_letters = count(Some(one));
                Building { generation, version, phase, paused, position, owners, stopped, dead_letters }
            });
            let lag = self.log().lag(reached.position, &head).await?;
            statuses.push(Status {
                name: view.table.projection,
                version: served.map_or(version, |served| served.version),
                generation: served.map(|served| served.number),
                building,
                given_up: is_given_up(&generations, version).then_some(version),
                position: reached.position,
                lag_events: lag.events,
                lag_seconds: lag.seconds,
                sources: reached.owners.iter().map(|owner| owner::source(owner).to_owned()).collect(),
                owners: reached.owners,
                stopped: reached.stopped,
                dead_letters: count(served),
            });
        }
        Ok(statuses)
    }

    /// Sets the gauges that say how far each view is, whoever folds it and whether it moves or not. To be called when
    /// somebody asks for them: until then, nothing is counted.
    pub async fn report(&self) {
        match timeout(REPORT_LIMIT, self.status()).await {
            Ok(Ok(statuses)) => statuses.iter().for_each(report),
            Ok(Err(error)) => tracing::debug!(%error, "could not read how far the views are"),
            Err(_) => tracing::debug!("could not read in time how far the views are"),
        }
    }
}

/// Of the phases of a generation that is built there is one gauge each, 1 for the phase that it is in.
fn report(one: &Status) {
    metrics::gauge!("daybook_projection_lag_events", "projection" => one.name).set(one.lag_events as f64);
    metrics::gauge!("daybook_projection_lag_seconds", "projection" => one.name).set(one.lag_seconds);
    let generation = one.generation.map_or(0.0, f64::from);
    metrics::gauge!("daybook_projection_generation", "projection" => one.name).set(generation);
    metrics::gauge!("daybook_projection_dead_letters", "projection" => one.name).set(one.dead_letters as f64);
    for phase in Phase::ALL.into_iter().filter(|phase| phase.is_built()) {
        let is_it = one.building.as_ref().is_some_and(|building| building.phase == phase);
        let labels = [("projection", one.name), ("phase", phase.as_str())];
        metrics::gauge!("daybook_projection_rebuild", &labels).set(f64::from(u8::from(is_it)));
    }
}
