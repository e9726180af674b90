//! A document as it was: what the log says of it up to a position, folded by the projection as this program has it.
//!
//! No state of the past is kept, so this costs reading: where a projection declares its documents' streams, their events
//! up to there, for a few readers at a time; else all of the log up to there, by one reader at a time. Neither takes long, and
//! neither holds more than some pages of the log.

use std::time::Duration;

use daybook_core::Position;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::refold::Refold;
use crate::{Document, ViewError, Views};

/// How long is read for one document.
const LIMIT: Duration = Duration::from_secs(5);

impl Views {
    /// The document with a key as it was at a position: everything up to there is in it, and nothing later.
    ///
    /// # Errors
    ///
    /// [`ViewError::TooLong`] when there is too much to read, and [`ViewError::Busy`] while others read.
    pub async fn as_of(&self, view: &str, key: &str, at: Position) -> Result<Option<Document>, ViewError> {
        let first = self.dead_letters(view, Some(key), None).await?.into_iter().next();
        let parked = first.map(|letter| (letter.key, letter.position)).into_iter().collect();
        let view = self.view(view)?;
        let streams = view.projection.streams(key);
        let permit = match &streams {
            Some(_) => timeout(LIMIT, self.folds().acquire()).await.ok().and_then(Result::ok),
            None => self.scan().try_acquire().ok(),
        };
        let _permit = permit.ok_or(ViewError::Busy)?;
        let folded = async {
            let mut refold = Refold::new(self, view, parked).await?;
            match &streams {
                Some(streams) => refold.take_in_streams(key, streams, at).await?,
                None => {
                    let last = |_: &str| at;
                    refold.go_on(at, &|other| other == key, &last, usize::MAX).await?;
                    refold.mend(&last).await?;
                }
            }
            refold.changed()
        };
        let document = timeout(LIMIT, folded).await.map_err(|_| ViewError::TooLong)??.pop();
        let document = document.and_then(|document| Some((document.body?, document.position, document.revision)));
        let Some((body, position, revision)) = document else { return Ok(None) };
        let key = key.to_owned();
        match RawValue::from_string(body) {
            Ok(body) => Ok(Some(Document { key, body, position, revision })),
            Err(source) => Err(ViewError::Damaged { key, source }),
        }
    }
}
