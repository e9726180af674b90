//! *Given* events, *when* a command, *then* events: how any domain is tested.
//!
//! ```text
//! Scenario::new()
//!     .given::<StockItem>(product, [StockReceived { quantity: 5 }])
//!     .when(PlaceOrder { .. })
//!     .then([event::<Order>(order, OrderPlaced { .. }), event::<StockItem>(product, StockAllocated { .. })]);
//! ```

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Actor, Aggregate, AnyCommand, Command, Context, Decision, EventSet, JsonText, Judgement, Loaded, NewEvent,
    Outcome, Position, RecordedEvent, Revision, StreamId,
};

/// The history that a command meets.
#[derive(Debug)]
pub struct Scenario {
    events: BTreeMap<StreamId, Vec<RecordedEvent>>,
    context: Context,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    /// Nothing has happened; the system acts, on 1 January 2026 at midnight.
    pub fn new() -> Self {
        let context = Context {
            actor: Actor::System("test"),
            now: DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default(),
            command_id: Uuid::from_u128(0xc0),
            fresh_id: Uuid::from_u128(0xf0),
        };
        Self { events: BTreeMap::new(), context }
    }

    /// Who sends the command.
    #[must_use]
    pub fn actor(mut self, actor: Actor) -> Self {
        self.context.actor = actor;
        self
    }

    /// When it is sent.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.context.now = now;
        self
    }

    /// These events have happened to the aggregate `A` with this id.
    #[must_use]
    pub fn given<A: Aggregate>(
        mut self,
        id: impl fmt::Display,
        events: impl IntoIterator<Item = impl Into<A::Event>>,
    ) -> Self {
        let stream = StreamId::new(A::CATEGORY, id);
        for event in events {
            let before: usize = self.events.values().map(Vec::len).sum();
            let history = self.events.entry(stream.clone()).or_default();
            history.push(record(&stream, history.len(), before, &event.into(), &self.context));
        }
        self
    }

    /// The command is sent.
    pub fn when<C: Command>(self, command: C) -> Then {
        if let Err(report) = command.validate() {
            panic!("the command does not pass its own validation: {report}");
        }
        let mut loaded = Loaded::default();
        let result = loop {
            match AnyCommand::decide(&command, &loaded, &self.context) {
                Outcome::Missing(missing) => {
                    for mut stream in missing {
                        for record in self.events.get(stream.stream()).into_iter().flatten() {
                            stream.apply(record).unwrap_or_else(|error| panic!("{error}"));
                        }
                        loaded.insert(stream);
                    }
                }
                Outcome::Decided(judgement, _) => break judgement,
            }
        };
        Then(result)
    }
}

fn record<E: EventSet>(
    stream: &StreamId,
    revision: usize,
    position: usize,
    event: &E,
    context: &Context,
) -> RecordedEvent {
    let encoded = event.encode().unwrap_or_else(|error| panic!("{event:?} has no JSON form: {error}"));
    RecordedEvent {
        position: Position::new(position as u64 + 1),
        stream: stream.clone(),
        revision: Revision::new(revision as u64 + 1),
        id: Uuid::from_u128(position as u128 + 1),
        event_type: encoded.event_type.to_owned(),
        schema_version: encoded.schema_version,
        recorded_at: context.now,
        metadata: JsonText::new("null"),
        payload: JsonText::new(encoded.payload),
    }
}

/// An expected event, for [`Then::then`].
pub fn event<A: Aggregate>(id: impl fmt::Display, event: impl Into<A::Event>) -> NewEvent {
    NewEvent { stream: StreamId::new(A::CATEGORY, id), event: Box::new(event.into()) }
}

/// What became of the command.
#[derive(Debug)]
#[must_use = "say what is expected"]
pub struct Then(Judgement);

impl Then {
    /// It decided on exactly these events, in this order.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = NewEvent>) {
        let Judgement::Accepted(decision) = self.0 else { panic!("no decision but {:?}", self.0) };
        assert_eq!(plain(decision.events), plain(expected));
    }

    /// It decided, and this holds of the decision.
    #[track_caller]
    pub fn decision(self) -> Decision {
        match self.0 {
            Judgement::Accepted(decision) => decision,
            other => panic!("no decision but {other:?}"),
        }
    }

    /// A rule said no, with this code.
    ///
    /// # Panics
    ///
    /// When none did.
    #[track_caller]
    pub fn then_rejected(self, code: &str) {
        match self.0 {
            Judgement::Rejected(rejection) => assert_eq!(rejection.code, code, "{rejection}"),
            other => panic!("no rejection `{code}` but {other:?}"),
        }
    }

    /// Authorization said no.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn then_denied(self) {
        assert!(matches!(self.0, Judgement::Denied), "no denial but {:?}", self.0);
    }
}

fn plain(events: impl IntoIterator<Item = NewEvent>) -> Vec<(StreamId, &'static str, String)> {
    events
        .into_iter()
        .map(|new| {
            let encoded = new.event.encode().unwrap_or_else(|error| panic!("{:?}: {error}", new.event));
            (new.stream, encoded.event_type, encoded.payload)
        })
        .collect()
}
