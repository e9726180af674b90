//! Trying a projection out: what each event does to the documents that it touches. Nothing is written anywhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use daybook_core::{Changed, Position, RecordedEvent, Revision, StreamId, caught};
use serde::Serialize;
use serde_json::Value;

use crate::diff::{FieldDifference, differences};
use crate::refold::Refold;
use crate::views::View;
use crate::{ViewError, Views};

/// How many events are read at a time.
const PAGE: usize = 1_000;

/// Which events a projection is tried on.
#[derive(Debug, Clone)]
pub struct Window {
    /// Only what touches this document.
    pub key: Option<String>,
    /// From this position on; those before it are folded without a word.
    pub from: Position,
    /// At most so many that touch documents.
    pub limit: usize,
}

/// An event, and what it does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its position.
    pub position: Position,
    /// Its stream.
    pub stream: StreamId,
    /// Its revision there.
    pub revision: Revision,
    /// Its type.
    pub event_type: String,
    /// The documents that it touches.
    pub documents: Vec<Touched>,
}

/// A document that an event touches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Touched {
    /// Its key.
    pub key: String,
    /// What the event does to it.
    #[serde(flatten)]
    pub effect: Effect,
}

/// What an event does to a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// These of its fields are others now; none, when it leaves it as it was.
    Changes {
        /// The fields.
        fields: Vec<FieldDifference>,
    },
    /// It cannot be applied.
    Fails {
        /// Why.
        error: String,
    },
    /// It stands behind one that cannot be applied.
    Parked,
    /// An operator had it passed over.
    PassedOver,
}

impl Views {
    /// Folds the log with the projection as this program has it, and answers what each event of a window does.
    ///
    /// # Errors
    ///
    /// When there is no such view, an event cannot be taken in, or the log is not available.
    pub async fn steps(&self, view: &str, window: &Window) -> Result<Vec<Step>, ViewError> {
        let view = self.view(view)?;
        let events = self.touching(view, window).await?;
        let keys: BTreeSet<&str> = events.iter().flat_map(|(_, keys)| keys).map(String::as_str).collect();
        let mut refold = Refold::new(self, view, HashMap::new()).await?;
        let end = self.log().head().await?.position;
        let (wanted, last) = (|key: &str| keys.contains(key), |_: &str| end);
        let before = Position::new(window.from.get().saturating_sub(1));
        refold.go_on(before, &wanted, &last, usize::MAX).await?;
        refold.mend(&last).await?;
        let mut known: BTreeMap<String, Changed> = BTreeMap::new();
        known.extend(refold.changed()?.into_iter().map(|document| (document.key.clone(), document)));
        let mut steps = Vec::with_capacity(events.len());
        for (event, keys) in &events {
            refold.take_in(vec![event.clone()], &wanted, &last)?;
            let mut changed: BTreeMap<String, Changed> =
                refold.changed()?.into_iter().map(|document| (document.key.clone(), document)).collect();
            let mut documents = Vec::with_capacity(keys.len());
            for key in keys {
                let effect = match (refold.take_failure(key), changed.remove(key)) {
                    (Some(error), _) => {
                        refold.restore(key, known.get(key))?;
                        Effect::Fails { error }
                    }
                    (None, Some(document)) => {
                        let fields = differences(&json(known.get(key))?, &json(Some(&document))?);
                        known.insert(key.clone(), document);
                        Effect::Changes { fields }
                    }
                    (None, None) if refold.is_passed_over(key, event.position, end) => Effect::PassedOver,
                    (None, None) if refold.is_parked(key, event.position) => Effect::Parked,
                    (None, None) => Effect::Changes { fields: Vec::new() },
                };
                documents.push(Touched { key: key.clone(), effect });
            }
            steps.push(Step {
                position: event.position,
                stream: event.stream.clone(),
                revision: event.revision,
                event_type: event.event_type.clone(),
                documents,
            });
        }
        Ok(steps)
    }

    /// The events of a window that touch documents, and which.
    async fn touching(
        &self,
        view: &View,
        window: &Window,
    ) -> Result<Vec<(RecordedEvent, Vec<String>)>, ViewError> {
        let log = self.log();
        let before = log.event(Position::new(window.from.get().saturating_sub(1))).await?;
        if before.is_none() && window.from > Position::new(1) {
            return Ok(Vec::new());
        }
        let mut scan = log.scan(&log.checkpoint(&log.head().await?, before.as_ref()), PAGE);
        let wanted = |key: &str| window.key.as_deref().is_none_or(|only| only == key);
        let mut found = Vec::new();
        while let Some(events) = scan.next().await? {
            for event in events {
                if found.len() >= window.limit {
                    return Ok(found);
                }
                let at = event.position;
                let refused = |reason: String| ViewError::Refused(format!("the event at {at}: {reason}"));
                let opened = caught(|| view.projection.open([event.clone()].into(), &wanted)).map_err(refused)?;
                let batch = opened.map_err(|error| refused(error.to_string()))?;
                let keys: Vec<String> = batch.keys().into_iter().map(str::to_owned).collect();
                if !keys.is_empty() {
                    found.push((event, keys));
                }
            }
        }
        Ok(found)
    }
}

fn json(document: Option<&Changed>) -> Result<Value, ViewError> {
    let Some(Changed { key, body: Some(body), .. }) = document else { return Ok(Value::Null) };
    serde_json::from_str(body).map_err(|source| ViewError::Damaged { key: key.clone(), source })
}
