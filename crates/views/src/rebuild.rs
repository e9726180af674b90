//! What operators see of a view's generations, and what they can do about them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_core::{Metadata, Position};
use daybook_database::{Fault, fault};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::acts::{RebuildAborted, RebuildConfirmed, RebuildPaused, RebuildRequested, RebuildResumed, RolledBack};
use crate::generation::{Generation, Phase};
use crate::store::generations::NewGeneration;
use crate::views::View;
use crate::{ViewError, Views};

/// How long a rollback waits until the generation that is to be served again has caught up.
const ROLLBACK_LIMIT: Duration = Duration::from_secs(10);

/// How long it is tried to put that one in place, once it was as far as the one that is served.
const CUT_OVER_LIMIT: Duration = Duration::from_secs(3);

/// How often it is looked, or tried.
const ROLLBACK_INTERVAL: Duration = Duration::from_millis(50);

/// A generation of a view.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Generation")]
pub struct GenerationStatus {
    /// The projection.
    pub projection: String,
    /// Its version.
    pub version: u32,
    /// Counts the generations of the projection, from 1.
    pub number: u32,
    /// What it is there for.
    pub phase: Phase,
    /// Whether it waits until somebody lets it go on.
    pub paused: bool,
    /// Whether somebody has to agree when it differs from the one that is served.
    pub confirm_diff: bool,
    /// How far it has come.
    #[schemars(with = "u64")]
    pub position: Position,
    /// Where the log ends.
    #[schemars(with = "u64")]
    pub target: Position,
    /// How many events a second it has taken in so far, while it is built. What it was paused does not count.
    pub events_per_second: Option<f64>,
    /// How many seconds it will take at this rate, while it is built.
    pub eta_seconds: Option<f64>,
    /// How many dead letters it has: its documents lack these events.
    pub dead_letters: u64,
    /// In what it differed from the one that was served, where both had come to the `position` in here.
    pub report: Option<Value>,
    /// Who began it.
    pub started_by: String,
    /// When.
    pub started_at: DateTime<Utc>,
    /// When its phase began.
    pub phase_at: DateTime<Utc>,
}

/// What operators do about the generations of a view, once there is one to do it about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// See [`Views::pause`].
    Pause,
    /// See [`Views::resume`].
    Resume,
    /// See [`Views::abort`].
    Abort,
    /// See [`Views::confirm`].
    Confirm,
    /// See [`Views::rollback`].
    Rollback,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Abort, Self::Confirm, Self::Rollback];

    /// Its name, on the command line and in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Confirm => "confirm",
            Self::Rollback => "rollback",
        }
    }

    /// What stands in the metadata of its event, where commands have their names.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Pause => "daybook.projection.pause",
            Self::Resume => "daybook.projection.resume",
            Self::Abort => "daybook.projection.abort",
            Self::Confirm => "daybook.projection.confirm",
            Self::Rollback => "daybook.projection.rollback",
        }
    }

    /// Does it; answers the number of the generation.
    ///
    /// # Errors
    ///
    /// When there is no such generation.
    pub async fn carry_out(self, views: &Views, view: &str, metadata: &Metadata) -> Result<u32, ViewError> {
        match self {
            Self::Pause => views.pause(view, metadata).await,
            Self::Resume => views.resume(view, metadata).await,
            Self::Abort => views.abort(view, metadata).await,
            Self::Confirm => views.confirm(view, metadata).await,
            Self::Rollback => views.rollback(view, metadata).await,
        }
    }
}

/// What a rebuild is called in the metadata of its event, where commands have their names.
pub const REBUILD: &str = "daybook.projection.rebuild";

impl Views {
    /// All generations of a view, the oldest first.
    ///
    /// # Errors
    ///
    /// When there is no such view, or it is not available.
    pub async fn generations(&self, view: &str) -> Result<Vec<GenerationStatus>, ViewError> {
        let view = self.view(view)?;
        let generations = self.store().generations(view.table.projection).await?;
        let ids: Vec<i64> = generations.iter().map(|one| one.id).collect();
        let progress = self.store().progress(&ids).await?;
        let dead_letters = self.store().dead_letters_of(&ids).await?;
        let head = self.log().head().await?.position;
        let status = |one: Generation| {
            let lowest =
                progress.iter().filter(|range| range.generation == one.id).map(|range| range.position).min();
            let dead_letters = dead_letters.get(&one.id).copied().unwrap_or_default();
            status(one, lowest.unwrap_or_default(), head, dead_letters)
        };
        Ok(generations.into_iter().map(status).collect())
    }

    /// Has a view built anew, in this program's version and beside whichever is served; answers the number of the
    /// generation.
    ///
    /// # Errors
    ///
    /// When one is being built already.
    pub async fn rebuild(&self, view: &str, confirm_diff: bool, metadata: &Metadata) -> Result<u32, ViewError> {
        let (view, generations) = self.of(view).await?;
        let (projection, version) = (view.table.projection, view.table.version);
        if generations.iter().any(|one| one.version == version && one.phase.is_built()) {
            return Err(refused("it is being built already"));
        }
        self.record(RebuildRequested { projection: projection.to_owned(), confirm_diff }, metadata).await?;
        let head = self.log().head().await?;
        let new = NewGeneration {
            phase: Phase::Replay,
            shards: 1,
            confirm_diff,
            started_by: metadata.actor.clone().unwrap_or_default(),
            start: self.log().checkpoint(&head, None),
        };
        let begun = match self.store().begin(&view.table, &new).await {
            // Somebody else came first.
            Err(error) if fault(&error) == Fault::Duplicate => None,
            begun => begun?,
        };
        let begun = begun.ok_or_else(|| refused("it is being built already"))?;
        view.generations_changed.send_replace(());
        let retired = |one: &&Generation| one.version == version && one.phase == Phase::Retired;
        for one in generations.iter().filter(retired) {
            // It is begun all the same. Whoever reads the old one for long keeps it; projectors try again.
            if let Err(error) = self.store().remove(one, &view.table.of(one), Phase::Dropped).await {
                tracing::warn!(projection, generation = one.number, %error, "could not drop it yet");
            }
        }
        Ok(begun.number)
    }

    /// Lets the generation that is being built wait.
    ///
    /// # Errors
    ///
    /// When none is.
    pub async fn pause(&self, view: &str, metadata: &Metadata) -> Result<u32, ViewError> {
        let (_, one) = self.built(view).await?;
        let (projection, generation) = (one.projection, one.number);
        self.record(RebuildPaused { projection, generation }, metadata).await?;
        let waits = self.store().set_paused(one.id, true).await?;
        if waits { Ok(one.number) } else { Err(refused("it was just put in place")) }
    }

    /// Lets it go on. One that is held is compared again with the one that is served: what was found out before was true up
    /// to the position in its report.
    ///
    /// # Errors
    ///
    /// When none is being built.
    pub async fn resume(&self, view: &str, metadata: &Metadata) -> Result<u32, ViewError> {
        let (view, one) = self.built(view).await?;
        let (projection, generation) = (one.projection, one.number);
        self.record(RebuildResumed { projection, generation }, metadata).await?;
        let goes_on = self.store().set_paused(one.id, false).await?;
        if one.phase == Phase::Held && one.confirm_diff {
            self.store().set_phase(one.id, Phase::Held, Phase::Verify).await?;
        }
        view.generations_changed.send_replace(());
        if goes_on { Ok(one.number) } else { Err(refused("it was just put in place")) }
    }

    /// Gives up the generation that is being built. When nothing of its version was served yet, it is begun again only
    /// with [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    ///
    /// When none is.
    pub async fn abort(&self, view: &str, metadata: &Metadata) -> Result<u32, ViewError> {
        let (view, one) = self.built(view).await?;
        let (projection, generation) = (one.projection.clone(), one.number);
        self.record(RebuildAborted { projection, generation }, metadata).await?;
        let is_gone = self.store().remove(&one, &view.table.of(&one), Phase::Aborted).await?;
        view.generations_changed.send_replace(());
        if is_gone { Ok(one.number) } else { Err(refused("it was just put in place")) }
    }

    /// Agrees that the generation that is being built is served though it differs.
    ///
    /// # Errors
    ///
    /// When none is held, or it is paused.
    pub async fn confirm(&self, view: &str, metadata: &Metadata) -> Result<u32, ViewError> {
        let (view, one) = self.built(view).await?;
        let not_held = || refused("it is not held, or paused: there is nothing to agree to yet");
        if one.phase != Phase::Held || one.paused {
            return Err(not_held());
        }
        let (projection, generation) = (one.projection, one.number);
        self.record(RebuildConfirmed { projection, generation }, metadata).await?;
        let is_confirmed = self.store().confirm(one.id).await?;
        view.generations_changed.send_replace(());
        if is_confirmed { Ok(one.number) } else { Err(not_held()) }
    }

    /// Serves the generation again that was served before. No reader goes backwards: it waits until that one is as far.
    ///
    /// # Errors
    ///
    /// When there is none any more, or it does not get as far in time.
    pub async fn rollback(&self, view: &str, metadata: &Metadata) -> Result<u32, ViewError> {
        let (view, generations) = self.of(view).await?;
        let version = view.table.version;
        let find = |phase| {
            let is_it = |one: &&Generation| one.version == version && one.phase == phase;
            generations.iter().filter(is_it).max_by_key(|one| one.phase_at)
        };
        let (Some(retired), Some(live)) = (find(Phase::Retired), find(Phase::Live)) else {
            return Err(refused("there is no generation to go back to"));
        };
        let behind = || refused("the generation to go back to does not get as far as the one that is served");
        let deadline = Instant::now() + ROLLBACK_LIMIT;
        while !self.is_as_far(retired.id, live.id).await? {
            if Instant::now() > deadline {
                return Err(behind());
            }
            tokio::time::sleep(ROLLBACK_INTERVAL).await;
        }
        let (projection, generation) = (view.table.projection.to_owned(), retired.number);
        self.record(RolledBack { projection, generation }, metadata).await?;
        let deadline = Instant::now() + CUT_OVER_LIMIT;
        while !self.store().cut_over((retired.id, Phase::Retired), Some((live.id, true))).await? {
            if Instant::now() > deadline {
                return Err(behind());
            }
            tokio::time::sleep(ROLLBACK_INTERVAL).await;
        }
        Ok(retired.number)
    }

    /// Whether a generation has taken in all that another one has. One that is gone has nothing.
    async fn is_as_far(&self, generation: i64, other: i64) -> Result<bool, ViewError> {
        let progress = self.store().progress(&[generation, other]).await?;
        let lowest = |id| progress.iter().filter(|range| range.generation == id).map(|range| range.position).min();
        Ok(lowest(generation).is_some_and(|lowest_of_it| Some(lowest_of_it) >= lowest(other)))
    }

    async fn of(&self, view: &str) -> Result<(&View, Vec<Generation>), ViewError> {
        let view = self.view(view)?;
        let generations = self.store().generations(view.table.projection).await?;
        Ok((view, generations))
    }

    /// The generation that is being built.
    async fn built(&self, view: &str) -> Result<(&View, Generation), ViewError> {
        let (view, mut generations) = self.of(view).await?;
        generations.retain(|one| one.version == view.table.version && one.phase.is_built());
        Ok((view, generations.pop().ok_or_else(|| refused("none is being built"))?))
    }
}

fn refused(reason: &str) -> ViewError {
    ViewError::Refused(reason.to_owned())
}

fn status(one: Generation, lowest: Position, head: Position, dead_letters: u64) -> GenerationStatus {
    let position = one.position(lowest);
    let seconds = one.worked_seconds();
    let rate = (one.phase.is_built() && seconds > 0.0).then(|| position.get() as f64 / seconds);
    let left = head.get().saturating_sub(position.get()) as f64;
    GenerationStatus {
        projection: one.projection,
        version: one.version,
        number: one.number,
        phase: one.phase,
        paused: one.paused,
        confirm_diff: one.confirm_diff,
        position,
        target: head,
        events_per_second: rate,
        eta_seconds: rate.filter(|rate| *rate > 0.0).map(|rate| left / rate),
        dead_letters,
        report: one.report.and_then(|report| serde_json::from_str(&report).ok()),
        started_by: one.started_by,
        started_at: one.started_at,
        phase_at: one.phase_at,
    }
}
