//! What an event needs to be explained later.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Personal, SealField, Sealing};

/// Who caused an event, how, and why. Every event in the log carries one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metadata {
    /// Who did it: an account's id, or `system:` and a part of Daybook (`system:seed`, `system:cli`);
    /// `None` for somebody who was not signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Where the command came from. One field, since it is sealed with each command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Personal<Client>>,
    /// The command's name (`order.place`).
    pub command: String,
    /// The command's id.
    pub command_id: Uuid,
    /// The id of the event that made somebody send the command; `None` when that was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// What ties together everything that one request set off.
    pub correlation_id: String,
    /// The W3C trace context of the request, when it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Where a command came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The program that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Metadata {
    /// Seals where the command came from.
    pub fn seal(mut self, seal: SealField<'_>) -> Sealing<Self> {
        let of = format!("{}/client", self.command_id);
        match self.client.as_mut().map(|client| client.seal(of, seal)) {
            Some(Err(subject)) => Sealing::Missing(self, vec![subject]),
            Some(Ok(())) | None => Sealing::Sealed(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata is stored for ever: each of these was, or will be, in the log.
    #[test]
    fn metadata_is_written_as_it_was_read() {
        for stored in [
            include_str!("../stored/metadata.json"),
            include_str!("../stored/metadata.bare.json"),
            include_str!("../stored/metadata.caused.json"),
        ] {
            let stored = stored.trim_end();
            let read: Metadata = serde_json::from_str(stored).expect("metadata");
            assert_eq!(serde_json::to_string(&read).expect("JSON"), stored);
        }
    }
}
