//! A document as it was: what the log says of it up to a position, folded by the projection as this program has it.
//!
//! No state of the past is kept, so this costs reading: where a projection declares its documents' streams, their events
//! up to there; else all of the log up to there, by one reader at a time, and not for long.

use std::time::Duration;

use daybook_core::Position;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::refold::{Refold, stream};
use crate::{Document, ViewError, Views};

/// How long the log is gone through for one document.
const SCAN_LIMIT: Duration = Duration::from_secs(5);

impl Views {
    /// The document with a key as it was at a position: everything up to there is in it, and nothing later.
    ///
    /// # Errors
    ///
    /// [`ViewError::TooLong`] and [`ViewError::Busy`] only where the projection does not declare the document's streams.
    pub async fn as_of(&self, view: &str, key: &str, at: Position) -> Result<Option<Document>, ViewError> {
        let first = self.dead_letters(view, Some(key), None).await?.into_iter().next();
        let parked = first.map(|letter| (letter.key, letter.position)).into_iter().collect();
        let view = self.view(view)?;
        let mut refold = Refold::new(self, view, parked).await?;
        let (wanted, last) = (|other: &str| other == key, |_: &str| at);
        match view.projection.streams(key) {
            Some(streams) => {
                let mut events = Vec::new();
                for one in streams {
                    events.extend(stream(self.log(), one, at).await?);
                }
                events.sort_by_key(|event| event.position);
                refold.take_in(events.clone(), &wanted, &last)?;
                // Where one of them cannot be applied, those before it are all that is in the document.
                if refold.take_failure(key).is_some() {
                    refold.take_in(events, &wanted, &last)?;
                }
            }
            None => {
                let _one = self.scan().try_acquire().map_err(|_| ViewError::Busy)?;
                let folded = async {
                    refold.go_on(at, &wanted, &last, usize::MAX).await?;
                    refold.mend(&last).await
                };
                timeout(SCAN_LIMIT, folded).await.map_err(|_| ViewError::TooLong)??;
            }
        }
        let document = refold.changed()?.pop();
        let document = document.and_then(|document| Some((document.body?, document.position, document.revision)));
        let Some((body, position, revision)) = document else { return Ok(None) };
        let key = key.to_owned();
        match RawValue::from_string(body) {
            Ok(body) => Ok(Some(Document { key, body, position, revision })),
            Err(source) => Err(ViewError::Damaged { key, source }),
        }
    }
}
