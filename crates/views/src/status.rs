//! How far each projection is.

use chrono::Utc;
use daybook_core::Position;
use serde::Serialize;

use crate::store::Progress;
use crate::views::View;
use crate::{ViewError, Views};

/// How far a projection is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// The last position that it has taken in.
    pub position: Position,
    /// How many events it has not taken in yet.
    pub lag_events: u64,
    /// How long ago the oldest event that it has not taken in was recorded, in seconds; 0 when there is none.
    pub lag_seconds: f64,
    /// Who folds it at this moment.
    pub owner: Option<String>,
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
        let mut progress = self.store().progress().await?;
        // Read after the checkpoints, so that no view can seem to be ahead of the log.
        let head = self.log().head().await?.position;
        let mut statuses = Vec::new();
        for view in self.views() {
            let found = progress.iter().position(|progress| is_of(progress, view));
            let progress = found.map(|index| progress.swap_remove(index));
            statuses.push(self.status_of(view, progress, head).await?);
        }
        Ok(statuses)
    }

    async fn status_of(
        &self,
        view: &View,
        progress: Option<Progress>,
        head: Position,
    ) -> Result<Status, ViewError> {
        let position = progress.as_ref().map_or(Position::START, |progress| progress.position);
        let lag_events = head.get().saturating_sub(position.get());
        let waiting = if lag_events > 0 { self.log().event(position.plus(1)).await? } else { None };
        let age = waiting.map(|event| Utc::now() - event.recorded_at);
        let (owner, stopped) = progress.map_or((None, None), |progress| (progress.owner, progress.stopped));
        Ok(Status {
            name: view.table.projection,
            version: view.table.version,
            position,
            lag_events,
            lag_seconds: age.map_or(0.0, |age| age.as_seconds_f64().max(0.0)),
            owner,
            stopped,
        })
    }
}

fn is_of(progress: &Progress, view: &View) -> bool {
    progress.projection == view.table.projection && progress.version == i64::from(view.table.version)
}
