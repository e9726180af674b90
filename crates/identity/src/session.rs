//! Sessions: from one login until it ends.

use daybook_core::{Aggregate, Event};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Somebody signed in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionStarted {
    /// The account that they signed in to.
    pub account_id: Uuid,
}

impl Event for SessionStarted {
    const TYPE: &'static str = "session.started";
    const VERSION: u32 = 1;
}

/// The session is over: none of its tokens is good any more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionEnded {
    /// Why.
    pub reason: EndReason,
}

impl Event for SessionEnded {
    const TYPE: &'static str = "session.ended";
    const VERSION: u32 = 1;
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// Its holder signed out.
    Logout,
    /// One of its refresh tokens was used a second time, so somebody else may hold a copy.
    Reused,
}

daybook_core::event_set! {
    /// What happens to a session.
    pub enum SessionEvent { SessionStarted, SessionEnded }
}

/// A session, as decisions see it.
#[derive(Debug, Clone, Default)]
pub struct Session {
    account_id: Option<Uuid>,
    ended: bool,
}

impl Session {
    /// The account that it is of.
    pub fn account_id(&self) -> Option<Uuid> {
        self.account_id
    }

    /// Whether it is over.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

impl Aggregate for Session {
    const CATEGORY: &'static str = "session";
    type Event = SessionEvent;

    fn apply(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::SessionStarted(started) => self.account_id = Some(started.account_id),
            SessionEvent::SessionEnded(_) => self.ended = true,
        }
    }
}
