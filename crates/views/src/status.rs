//! How far each projection is.

use std::collections::BTreeSet;

use chrono::Utc;
use daybook_core::Position;
use serde::Serialize;

use crate::generation::served;
use crate::store::Progress;
use crate::{ViewError, Views};

/// How far a projection is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// The version that is served: an older one, until this program's has been built.
    pub version: u32,
    /// The last position that it has taken in.
    pub position: Position,
    /// How many events it has not taken in yet.
    pub lag_events: u64,
    /// How long ago the oldest event that it has not taken in was recorded, in seconds; 0 when there is none.
    pub lag_seconds: f64,
    /// Who folds it at this moment.
    pub owners: BTreeSet<String>,
    /// Why it stands still, when it does.
    pub stopped: Option<Stopped>,
}

/// Why a projection stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// The position of the event that it cannot take in; when it was no event's fault, how far it has come.
    pub position: Position,
    /// What is wrong.
    pub reason: String,
}

impl Views {
    /// How far each registered projection is, in the order of their names.
    ///
    /// # Errors
    ///
    /// When the log or the views are not available.
    pub async fn status(&self) -> Result<Vec<Status>, ViewError> {
        let mut serving = Vec::new();
        for view in self.views() {
            let generations = self.store().generations(view.table.projection).await?;
            serving.push((view, served(&generations, view.table.version).cloned()));
        }
        let ids: Vec<i64> = serving.iter().flat_map(|(_, served)| served).map(|served| served.id).collect();
        let progress = self.store().progress(&ids).await?;
        // Read after the checkpoints, so that no view can seem to be ahead of the log.
        let head = self.log().head().await?.position;
        let mut statuses = Vec::new();
        for (view, served) in serving {
            let is_of = |range: &&Progress| served.as_ref().is_some_and(|served| served.id == range.generation);
            let ranges: Vec<&Progress> = progress.iter().filter(is_of).collect();
            let version = served.as_ref().map_or(view.table.version, |served| served.version);
            statuses.push(self.status_of(view.table.projection, version, &ranges, head).await?);
        }
        Ok(statuses)
    }

    /// `ranges` are in the order of their positions.
    async fn status_of(
        &self,
        name: &'static str,
        version: u32,
        ranges: &[&Progress],
        head: Position,
    ) -> Result<Status, ViewError> {
        let position = ranges.first().map_or(Position::START, |range| range.position);
        let lag_events = head.get().saturating_sub(position.get());
        let waiting = if lag_events > 0 { self.log().event(position.plus(1)).await? } else { None };
        let age = waiting.map(|event| Utc::now() - event.recorded_at);
        Ok(Status {
            name,
            version,
            position,
            lag_events,
            lag_seconds: age.map_or(0.0, |age| age.as_seconds_f64().max(0.0)),
            owners: ranges.iter().filter_map(|range| range.owner.clone()).collect(),
            stopped: ranges.iter().find_map(|range| range.stopped.clone()),
        })
    }
}
