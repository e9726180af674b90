//! What operators do about projections. All of it is in the log; what they do about dead letters is carried out from there,
//! in the log's order, so that a rebuild honours it by itself.

use daybook_core::{DecodeError, Event, EventSet, Metadata, Position, RecordedEvent, StreamId, event_set};
use daybook_log::{Append, NewRecord, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ViewError, Views};

macro_rules! acts {
    ($($(#[$meta:meta])* $name:ident = $type:literal { $($(#[$doc:meta])* $field:ident: $kind:ty),* $(,)? })+) => {
        $($(#[$meta])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The projection.
            pub projection: String,
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Event for $name {
            const TYPE: &'static str = $type;
            const VERSION: u32 = 1;
        })+
    };
}

acts! {
    /// A view is to be built anew.
    RebuildRequested = "daybook.projection.rebuild_requested" {
        /// Whether it is served though it differs only once somebody agrees.
        confirm_diff: bool,
    }
    /// A generation that is being built is to wait.
    RebuildPaused = "daybook.projection.rebuild_paused" {
        /// Which generation of the projection.
        generation: u32,
    }
    /// It goes on.
    RebuildResumed = "daybook.projection.rebuild_resumed" {
        /// Which generation of the projection.
        generation: u32,
    }
    /// A generation that is being built is given up.
    RebuildAborted = "daybook.projection.rebuild_aborted" {
        /// Which generation of the projection.
        generation: u32,
    }
    /// A generation is to be served though it differs.
    RebuildConfirmed = "daybook.projection.rebuild_confirmed" {
        /// Which generation of the projection.
        generation: u32,
    }
    /// A generation that was served before is to be served again.
    RolledBack = "daybook.projection.rolled_back" {
        /// Which generation of the projection.
        generation: u32,
    }
    /// The dead letters of a document are tried again.
    DeadLetterRetried = "daybook.dead_letter.retried" {
        /// The document's key.
        key: String,
    }
    /// A document's first dead letter is passed over, and those behind it are tried again.
    DeadLetterSkipped = "daybook.dead_letter.skipped" {
        /// The document's key.
        key: String,
        /// The position of the event that is passed over.
        position: u64,
    }
}

event_set! {
    /// What operators do about projections.
    pub enum ProjectionEvent {
        RebuildRequested,
        RebuildPaused,
        RebuildResumed,
        RebuildAborted,
        RebuildConfirmed,
        RolledBack,
        DeadLetterRetried,
        DeadLetterSkipped,
    }
}

event_set! {
    /// What operators do about dead letters.
    pub(crate) enum DeadLetterAct { DeadLetterRetried, DeadLetterSkipped }
}

impl ProjectionEvent {
    fn projection(&self) -> &str {
        match self {
            Self::RebuildRequested(act) => &act.projection,
            Self::RebuildPaused(act) => &act.projection,
            Self::RebuildResumed(act) => &act.projection,
            Self::RebuildAborted(act) => &act.projection,
            Self::RebuildConfirmed(act) => &act.projection,
            Self::RolledBack(act) => &act.projection,
            Self::DeadLetterRetried(act) => &act.projection,
            Self::DeadLetterSkipped(act) => &act.projection,
        }
    }
}

impl DeadLetterAct {
    /// What an event says about the dead letters of a projection, if it says anything.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn of(event: &RecordedEvent, projection: &str) -> Result<Option<Self>, DecodeError> {
        let act = Self::decode(event)?;
        Ok(act.filter(|act| match act {
            Self::DeadLetterRetried(act) => act.projection == projection,
            Self::DeadLetterSkipped(act) => act.projection == projection,
        }))
    }

    /// The document's key, and the position of the event that is passed over, if any.
    pub(crate) fn parts(&self) -> (&str, Option<Position>) {
        match self {
            Self::DeadLetterRetried(act) => (&act.key, None),
            Self::DeadLetterSkipped(act) => (&act.key, Some(Position::new(act.position))),
        }
    }
}

/// The category of the streams that acts are recorded in, one for each projection.
const CATEGORY: &str = "daybook.projection";

/// The stream that acts about a projection are recorded in.
pub fn acts_stream(projection: &str) -> StreamId {
    StreamId::new(CATEGORY, projection)
}

impl Views {
    /// Puts on record what an operator does; answers where it stands in the log.
    pub(crate) async fn record(
        &self,
        act: impl Into<ProjectionEvent>,
        metadata: &Metadata,
    ) -> Result<Position, ViewError> {
        let act = act.into();
        let stream = acts_stream(act.projection());
        let record = NewRecord::new(stream, &act).map_err(|error| ViewError::Refused(error.to_string()))?;
        let append = Append {
            id: String::new(),
            command_id: metadata.command_id,
            events: vec![record],
            metadata: metadata.clone(),
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        match self.log().append(append).await? {
            Verdict::Committed(receipt) => Ok(receipt.position),
            verdict => Err(ViewError::Refused(format!("{verdict:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::testing::check_contracts;

    use super::*;

    #[test]
    fn contracts_are_kept() {
        check_contracts(env!("CARGO_MANIFEST_DIR"), &[ProjectionEvent::TYPES]);
    }
}
