//! From what a database holds to what the program works with. What does not fit is damage, and is said with the
//! position.

use std::collections::HashMap;

use daybook_core::{Missing, Position, Receipt, RecordedEvent, StreamId};
use uuid::Uuid;

use crate::LogError;
use crate::group::Kept;
use crate::seen::Mark;
use crate::store::{Fed, KeptSnapshot};

/// What is stored at a position is not what Daybook writes there.
pub(crate) fn damaged(position: i64, reason: impl ToString) -> LogError {
    LogError::Damaged { position: Position::from_i64(position), reason: reason.to_string() }
}

/// A column that holds something else than it should, outside of `events`.
pub(crate) fn misfit(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> LogError {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }.into()
}

/// The stream that holds a claim.
pub(crate) fn holder(text: &str) -> Result<StreamId, LogError> {
    text.parse().map_err(|error| misfit("holder", error))
}

/// What is kept under an idempotency key.
pub(crate) fn kept(body: &[u8], receipt: &str) -> Result<Kept, LogError> {
    let body = body.try_into().map_err(|error| misfit("body", error))?;
    let receipt: Receipt = serde_json::from_str(receipt).map_err(|error| misfit("receipt", error))?;
    Ok(Kept { body, receipt })
}

/// A row of snapshots: stream, revision, the state's version, the state, and the last event in it.
pub(crate) fn snapshot(row: (String, i64, i64, String, Uuid, i64)) -> (KeptSnapshot, Mark) {
    let (stream, revision, version, state, id, position) = row;
    let mark = Mark { position: Position::from_i64(position), id: Some(id) };
    (KeptSnapshot { stream, revision, version, state }, mark)
}

/// Streams that are being loaded.
pub(crate) struct Loading {
    streams: Vec<Fed>,
    places: HashMap<StreamId, usize>,
}

impl Loading {
    /// Begins with streams of which each is there once.
    pub(crate) fn new(streams: Vec<Missing>) -> Self {
        let places =
            streams.iter().enumerate().map(|(place, missing)| (missing.stream().clone(), place)).collect();
        Self { streams: streams.into_iter().map(|missing| (missing, None)).collect(), places }
    }

    /// Feeds an event to its stream.
    pub(crate) fn take(&mut self, event: &RecordedEvent) -> Result<(), LogError> {
        let Some((missing, last)) = self.places.get(&event.stream).and_then(|place| self.streams.get_mut(*place))
        else {
            return Ok(());
        };
        let next = missing.revision().plus(1);
        if event.revision != next {
            let reason = format!("`{}` goes on with revision {} and not {next}", event.stream, event.revision);
            return Err(LogError::Damaged { position: event.position, reason });
        }
        missing.apply(event)?;
        *last = Some(Mark { position: event.position, id: Some(event.id) });
        Ok(())
    }

    /// The streams, loaded.
    pub(crate) fn finish(self) -> Vec<Fed> {
        self.streams
    }
}
