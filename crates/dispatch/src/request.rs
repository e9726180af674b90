//! Who sends a command, from where, and under which conditions.

use chrono::{DateTime, Utc};
use daybook_core::{Actor, Client, Metadata, Personal, Revision, account_subject, day_subject};
use uuid::Uuid;

/// Who sends a command, from where, and under which conditions.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who.
    pub actor: Actor,
    /// The account that it is about, when somebody without one asks for it: where they came from is its holder's.
    pub about: Option<Uuid>,
    /// The address that it came from.
    pub client_ip: Option<String>,
    /// The program that sent it.
    pub user_agent: Option<String>,
    /// Ties together everything that the request sets off.
    pub correlation_id: String,
    /// The W3C trace context, when there is one.
    pub traceparent: Option<String>,
    /// The event that made somebody send it; `None` when that was a person.
    pub causation_id: Option<Uuid>,
    /// The key under which a repeated command gets the first receipt.
    pub idempotency_key: Option<String>,
    /// The revision that the command's own aggregate has to be at.
    pub if_match: Option<Revision>,
}

impl Request {
    /// From a part of Daybook itself.
    pub fn system(part: &'static str) -> Self {
        Self {
            actor: Actor::System(part),
            about: None,
            client_ip: None,
            user_agent: None,
            correlation_id: Uuid::now_v7().to_string(),
            traceparent: None,
            causation_id: None,
            idempotency_key: None,
            if_match: None,
        }
    }

    /// The metadata of the events that `command` makes. Where it came from is about the actor; without one, about the
    /// holder of the account that is opened; otherwise about nobody in particular, under a subject of the day.
    pub fn metadata(&self, command: &str, command_id: Uuid, now: DateTime<Utc>) -> Metadata {
        let subject = match self.actor.account().or(self.about) {
            Some(account) => account_subject(account),
            None => day_subject(now.date_naive()),
        };
        let client = Client { ip: self.client_ip.clone(), user_agent: self.user_agent.clone() };
        let client = Some(client).filter(|client| client.ip.is_some() || client.user_agent.is_some());
        Metadata {
            actor: self.actor.name(),
            client: client.map(|client| Personal::new(subject, client)),
            command: command.to_owned(),
            command_id,
            causation_id: self.causation_id,
            correlation_id: self.correlation_id.clone(),
            traceparent: self.traceparent.clone(),
        }
    }
}
