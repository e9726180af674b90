//! Loading a stream whose events were recorded in several versions.

use daybook_core::{
    Access, Actor, Aggregate, AnyCommand, Command, Context, Decision, Entity, Event, Judgement, Loaded, NotLoaded,
    Outcome, Reads, Rejection, StreamId, Upcaster, event_set,
};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, LogError, NewRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::fixture::{commit, event, nothing, open};

on_both!(
    &[Schema::Log],
    all_versions_of_an_event_are_applied_as_the_newest,
    an_event_of_a_version_that_is_not_known_stops_the_load,
);

/// Once it was `{"euros": 2}`, then `{"cents": 200}`, now it says which currency's.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Paid {
    amount: i64,
    currency: String,
}

impl Event for Paid {
    const TYPE: &'static str = "till.paid";
    const VERSION: u32 = 3;
    const UPCASTERS: &'static [Upcaster] = &[
        Upcaster {
            schema: "{}",
            lift: |payload| {
                let euros = payload.remove("euros").as_ref().and_then(Value::as_i64).ok_or("no euros")?;
                let cents = euros.checked_mul(100).ok_or("more cents than can be counted")?;
                payload.insert("cents".into(), cents.into());
                Ok(())
            },
        },
        Upcaster {
            schema: "{}",
            lift: |payload| {
                let cents = payload.remove("cents").ok_or("no cents")?;
                payload.extend([("amount".to_owned(), cents), ("currency".to_owned(), "EUR".into())]);
                Ok(())
            },
        },
    ];
}

event_set! {
    enum TillEvent { Paid }
}

#[derive(Debug, Clone, Default)]
struct Till {
    paid: Vec<String>,
}

impl Aggregate for Till {
    const CATEGORY: &'static str = "till";
    type Event = TillEvent;

    fn apply(&mut self, event: &TillEvent) {
        let TillEvent::Paid(paid) = event;
        self.paid.push(format!("{} {}", paid.amount, paid.currency));
    }
}

/// Reads the till, and rejects with what it has read.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema, garde::Validate)]
struct Look {}

impl Command for Look {
    const NAME: &'static str = "till.look";
    const ACCESS: Access = Access::anyone();
    type Model = Entity<Till>;

    fn target(&self, _: &Context) -> StreamId {
        till()
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(1)
    }

    fn handle(&self, till: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        Err(Rejection::rule("seen", till.paid.join(", ")))
    }
}

fn till() -> StreamId {
    StreamId::new("till", 1)
}

fn paid(schema_version: u32, payload: &str) -> NewRecord {
    NewRecord { event_type: "till.paid".into(), schema_version, payload: payload.into(), ..event(&till()) }
}

fn look(loaded: &Loaded) -> Outcome {
    let context = Context {
        actor: Actor::System("test"),
        now: chrono::DateTime::default(),
        command_id: Uuid::nil(),
        fresh_id: Uuid::nil(),
    };
    AnyCommand::decide(&Look {}, loaded, &context)
}

/// Loads the till from the database; what a decision sees in it.
async fn seen(database: &Database, events: Vec<NewRecord>) -> Result<String, LogError> {
    let log = open(database).await;
    commit(&log, Append { events, ..nothing() }).await;
    let mut loaded = Loaded::default();
    let Outcome::Missing(missing) = look(&loaded) else { panic!("nothing is loaded yet") };
    for stream in log.load(missing).await?.0 {
        loaded.insert(stream);
    }
    match look(&loaded) {
        Outcome::Decided(Judgement::Rejected(seen), _) => Ok(seen.message),
        other => panic!("all is loaded: {other:?}"),
    }
}

async fn all_versions_of_an_event_are_applied_as_the_newest(_: Location, database: Database) {
    let events = vec![
        paid(1, r#"{"euros":2}"#),
        paid(2, r#"{"cents":250}"#),
        paid(3, r#"{"amount":300,"currency":"JPY"}"#),
        paid(1, r#"{"euros":4}"#),
    ];
    assert_eq!(seen(&database, events).await.expect("it loads"), "200 EUR, 250 EUR, 300 JPY, 400 EUR");
}

async fn an_event_of_a_version_that_is_not_known_stops_the_load(_: Location, database: Database) {
    let events = vec![paid(1, r#"{"euros":2}"#), paid(4, r#"{"amount":300,"currency":"JPY"}"#)];
    match seen(&database, events).await {
        Err(LogError::Decode(error)) => {
            assert_eq!((error.position.get(), error.schema_version), (2, 4));
            assert_eq!(error.reason, "this program knows versions 1 to 3");
        }
        other => panic!("{other:?}"),
    }
}
