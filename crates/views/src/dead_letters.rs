//! What operators see of dead letters, and what they can do about them.

use chrono::{DateTime, Utc};
use daybook_core::{Metadata, Position};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::acts::{DeadLetterRetried, DeadLetterSkipped};
use crate::generation::served;
use crate::store::dead_letters::{Stored, Which};
use crate::{ViewError, Views};

/// What trying dead letters again is called in the metadata of its event, where commands have their names.
pub const RETRY: &str = "daybook.dead_letter.retry";

/// The same, of passing one over.
pub const SKIP: &str = "daybook.dead_letter.skip";

/// The most dead letters that are listed at once.
const LIST_MAX: u32 = 1_000;

/// An event that was not applied to a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeadLetter {
    /// The document's key.
    pub key: String,
    /// The event's position.
    #[schemars(with = "u64")]
    pub position: Position,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// Why it was not; nothing when it only stands behind one that could not be.
    pub error: Option<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

impl From<Stored> for DeadLetter {
    fn from(Stored { letter, created_at }: Stored) -> Self {
        let crate::store::dead_letters::NewDeadLetter { key, position, event_id, event_type, error } = letter;
        Self { key, position, event_id, event_type, error, created_at }
    }
}

impl Views {
    /// The dead letters of the generation of a view that is served, of one document or of all of them, at most 1,000; in
    /// the order of keys and positions, behind `after`.
    ///
    /// # Errors
    ///
    /// When there is no such view, or it is not available.
    pub async fn dead_letters(
        &self,
        view: &str,
        key: Option<&str>,
        after: Option<(String, Position)>,
    ) -> Result<Vec<DeadLetter>, ViewError> {
        let view = self.view(view)?;
        let generations = self.store().generations(view.table.projection).await?;
        let Some(served) = served(&generations, view.table.version) else { return Ok(Vec::new()) };
        let which = Which { key: key.map(str::to_owned), after, limit: LIST_MAX };
        let stored = self.store().dead_letters(served.id, &which).await?;
        Ok(stored.into_iter().map(DeadLetter::from).collect())
    }

    /// Has the dead letters of a document tried again; answers the position at which that is done.
    ///
    /// # Errors
    ///
    /// When there are none, or the log does not take it.
    pub async fn retry(&self, view: &str, key: &str, metadata: &Metadata) -> Result<Position, ViewError> {
        self.first_dead_letter(view, key).await?;
        let act = DeadLetterRetried { projection: view.to_owned(), key: key.to_owned() };
        self.record(act, metadata).await
    }

    /// Has the first dead letter of a document passed over, which has to be the one at `position`, and those behind it
    /// tried again; answers the position at which that is done.
    ///
    /// # Errors
    ///
    /// When another one is the first, when the view is being built anew, or the log does not take it.
    pub async fn skip(
        &self,
        view: &str,
        key: &str,
        position: Position,
        metadata: &Metadata,
    ) -> Result<Position, ViewError> {
        let first = self.first_dead_letter(view, key).await?.position;
        if first != position {
            return Err(ViewError::Refused(format!("the first dead letter of `{key}` is the one at {first}")));
        }
        // What is built may have applied by now what is to be passed over, and would keep it.
        let generations = self.store().generations(self.view(view)?.table.projection).await?;
        if generations.iter().any(|one| one.phase.is_built()) {
            let reason = "it is being built anew: what is passed over waits until that is served, or given up";
            return Err(ViewError::Refused(reason.into()));
        }
        let (projection, key) = (view.to_owned(), key.to_owned());
        self.record(DeadLetterSkipped { projection, key, position: position.get() }, metadata).await
    }

    async fn first_dead_letter(&self, view: &str, key: &str) -> Result<DeadLetter, ViewError> {
        let letters = self.dead_letters(view, Some(key), None).await?;
        letters.into_iter().next().ok_or_else(|| ViewError::Refused(format!("`{key}` has no dead letters")))
    }
}
