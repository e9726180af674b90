//! What a command answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Position, Revision, StreamId};

/// What a command answers: what it made, and where in the log that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The id of the command's own aggregate.
    pub id: String,
    /// The command's id.
    pub command_id: Uuid,
    /// The position of its last event; the log's head when it made none. A view that has reached it shows
    /// what the command did.
    #[schemars(with = "u64")]
    pub position: Position,
    /// Its events, in the order of their positions.
    pub events: Vec<ReceiptEvent>,
}

/// One event of a [`Receipt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptEvent {
    /// The contract's name.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its stream.
    #[schemars(with = "String")]
    pub stream: StreamId,
    /// Its place in the stream.
    #[schemars(with = "u64")]
    pub revision: Revision,
    /// Its place in the log.
    #[schemars(with = "u64")]
    pub position: Position,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receipt is stored with its idempotency key, and read by whatever program runs then.
    #[test]
    fn a_receipt_is_written_as_it_was_read() {
        for stored in [include_str!("../stored/receipt.json"), include_str!("../stored/receipt.empty.json")] {
            let stored = stored.trim_end();
            let read: Receipt = serde_json::from_str(stored).expect("a receipt");
            assert_eq!(serde_json::to_string(&read).expect("JSON"), stored);
        }
    }
}
