//! What an event needs to be explained later.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Personal, SealField, Sealing};

/// Who caused an event, how, and why. Every event in the log carries one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metadata {
    /// Who did it: an account's id, or `system:` and a part of Daybook (`system:seed`, `system:cli`);
    /// `None` for somebody who was not signed in.
    pub actor: Option<String>,
    /// The address that the command came from.
    pub client_ip: Option<Personal<String>>,
    /// The program that sent it.
    pub user_agent: Option<Personal<String>>,
    /// The command's name (`order.place`).
    pub command: String,
    /// The command's id.
    pub command_id: Uuid,
    /// The id of the event that made somebody send the command; `None` when that was a person.
    pub causation_id: Option<Uuid>,
    /// What ties together everything that one request set off.
    pub correlation_id: String,
    /// The W3C trace context of the request, when it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Metadata {
    /// Seals where the command came from.
    pub fn seal(mut self, seal: SealField<'_>) -> Sealing<Self> {
        let of = |field: &str| format!("{}/{field}", self.command_id);
        let fields = [(&mut self.client_ip, of("client_ip")), (&mut self.user_agent, of("user_agent"))];
        let mut missing = Vec::new();
        for (field, of) in fields {
            if let Some(Err(subject)) = field.as_mut().map(|field| field.seal(of, seal)) {
                missing.push(subject);
            }
        }
        if missing.is_empty() { Sealing::Sealed(self) } else { Sealing::Missing(self, missing) }
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
