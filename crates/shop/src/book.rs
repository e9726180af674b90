//! A log in memory, for tests that send many commands: each is decoded, decided and taken in as the engine does it.

use std::collections::HashMap;

use daybook_core::{
    AccountOpened, Actor, Aggregate, ClaimChange, Context, Decision, Domain, EventSet, JsonText, Judgement,
    Loaded, Outcome, Personal, Position, RecordedEvent, Rejection, Revision, Role, StreamId, account_subject,
};
use serde_json::Value;
use uuid::Uuid;

pub(crate) struct Book {
    domain: Domain,
    streams: HashMap<StreamId, Vec<RecordedEvent>>,
    claims: HashMap<(&'static str, String), StreamId>,
    accounts: u128,
    position: Position,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            domain: crate::domain(),
            streams: HashMap::new(),
            claims: HashMap::new(),
            accounts: 0,
            position: Position::START,
        }
    }
}

impl Book {
    /// Opens the next account.
    pub(crate) fn open_account(&mut self, role: Role) -> Actor {
        self.accounts += 1;
        let account_id = Uuid::from_u128(self.accounts);
        let personal = |value: &str| Personal::new(account_subject(account_id), value.to_owned());
        let (name, email) = (personal("Somebody"), personal("somebody@example.com"));
        let decision = (self.domain.on_account_opened)(&AccountOpened { account_id, name, email });
        self.append(decision).expect("a new account clashes with nothing");
        Actor::Account { id: account_id, roles: vec![role] }
    }

    /// Sends a command.
    pub(crate) fn send(&mut self, actor: &Actor, command: &str, body: &Value) -> Result<(), Rejection> {
        let spec = &self.domain.commands[command];
        let decoded = (spec.decode)(body.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{command} {body}: {error:?}"));
        let context = Context {
            actor: actor.clone(),
            now: chrono::DateTime::UNIX_EPOCH,
            command_id: Uuid::nil(),
            fresh_id: Uuid::from_u128(u128::from(self.position.get()) << 64),
        };
        let mut loaded = Loaded::default();
        loop {
            match decoded.decide(&loaded, &context) {
                Outcome::Missing(missing) => {
                    for mut stream in missing {
                        for record in self.streams.get(stream.stream()).into_iter().flatten() {
                            stream.apply(record).expect("an event of the stream's own");
                        }
                        loaded.insert(stream);
                    }
                }
                Outcome::Decided(Judgement::Denied, _) => panic!("{command} {body}: denied to {actor:?}"),
                Outcome::Decided(Judgement::Rejected(rejection), _) => return Err(rejection),
                Outcome::Decided(Judgement::Accepted(decision), _) => return self.append(decision),
            }
        }
    }

    /// The state of an aggregate.
    pub(crate) fn state<A: Aggregate>(&self, id: Uuid) -> A {
        let mut state = A::default();
        for record in self.streams.get(&StreamId::new(A::CATEGORY, id)).into_iter().flatten() {
            let event = A::Event::decode(record).expect("a readable event").expect("one of the aggregate's own");
            state.apply(&event);
        }
        state
    }

    fn append(&mut self, decision: Decision) -> Result<(), Rejection> {
        for claim in &decision.claims {
            if let ClaimChange::Take { name, key, holder, taken } = claim
                && self.claims.get(&(*name, key.clone())).is_some_and(|held| held != holder)
            {
                return Err(taken.clone());
            }
        }
        for (stream, revision) in &decision.expected {
            assert_eq!(self.streams.get(stream).map_or(0, Vec::len) as u64, revision.get(), "{stream}");
        }
        for claim in decision.claims {
            match claim {
                ClaimChange::Take { name, key, holder, .. } => self.claims.insert((name, key), holder),
                ClaimChange::Release { name, key, .. } => self.claims.remove(&(name, key)),
            };
        }
        for new in decision.events {
            let encoded = new.event.encode().expect("JSON");
            self.position = self.position.plus(1);
            let stream = self.streams.entry(new.stream.clone()).or_default();
            stream.push(RecordedEvent {
                position: self.position,
                stream: new.stream,
                revision: Revision::new(stream.len() as u64 + 1),
                id: Uuid::nil(),
                event_type: encoded.event_type.to_owned(),
                schema_version: encoded.schema_version,
                recorded_at: chrono::DateTime::UNIX_EPOCH,
                metadata: JsonText::new("null"),
                payload: JsonText::new(encoded.payload),
            });
        }
        Ok(())
    }
}
