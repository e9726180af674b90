//! What a command would do.

use std::collections::HashMap;

use daybook_core::{Decision, Encoded, Position, Revision, StreamId, show_fresh};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::DispatchError;

/// What a command would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Preview {
    /// Where the log was: nothing up to there would change it.
    #[schemars(with = "u64")]
    pub position: Position,
    /// The events, in their order. None: it would have nothing to do.
    pub events: Vec<PreviewEvent>,
}

/// An event that would be.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PreviewEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The version of its contract.
    pub schema_version: u32,
    /// The stream that it would be in.
    #[schemars(with = "String")]
    pub stream: StreamId,
    /// Its place in the stream.
    #[schemars(with = "u64")]
    pub revision: Revision,
    /// Its payload. What is personal and new in it is open; what was copied from what is stored is sealed.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub payload: Box<RawValue>,
}

impl Preview {
    pub(crate) fn new(position: Position, decision: &Decision) -> Result<Self, DispatchError> {
        let mut revisions: HashMap<&StreamId, Revision> =
            decision.expected.iter().map(|(stream, revision)| (stream, *revision)).collect();
        let mut events = Vec::with_capacity(decision.events.len());
        for new in &decision.events {
            let revision = revisions.entry(&new.stream).or_default();
            *revision = revision.plus(1);
            let Encoded { event_type, schema_version, payload } = new.event.encode()?;
            events.push(PreviewEvent {
                event_type: event_type.into(),
                schema_version,
                stream: new.stream.clone(),
                revision: *revision,
                payload: RawValue::from_string(show_fresh(&payload))?,
            });
        }
        Ok(Self { position, events })
    }
}
