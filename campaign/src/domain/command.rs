//! The domain as the engine sees it: one aggregate, one event, one command.

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, Event, NotLoaded, Reads, Rejection, Snapshots,
    StreamId, event_set,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::act::{Act, Claiming, Seen, TAKEN, Thing};

/// The category of the things' streams.
pub const CATEGORY: &str = "thing";

/// What kind of claim a name is.
pub const CLAIM: &str = "campaign.name";

/// After how many events of a thing another snapshot is made: those that everybody wants have many.
const SNAPSHOT_EVERY: u64 = 5;

/// A thing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// The token of the command.
    pub token: String,
    /// Which of the command's events this is, from 1, and how many there are.
    pub part: (usize, usize),
    /// The thing's new value.
    pub value: i64,
    /// What the command decided over.
    pub seen: Vec<Seen>,
}

impl Event for Changed {
    const TYPE: &'static str = "campaign.changed";
    const VERSION: u32 = 1;
}

event_set! {
    /// What happens to a thing.
    pub enum ThingEvent { Changed }
}

impl Aggregate for Thing {
    const CATEGORY: &'static str = CATEGORY;
    type Event = ThingEvent;
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(SNAPSHOT_EVERY, 1));

    fn apply(&mut self, ThingEvent::Changed(changed): &ThingEvent) {
        self.revision += 1;
        self.value = changed.value;
        self.tip.clone_from(&changed.token);
    }
}

/// Does one act, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
pub struct Perform {
    /// Unique to this command, however often it is sent. Also its idempotency key, when it has one.
    #[garde(skip)]
    pub token: String,
    /// What is to be done.
    #[garde(skip)]
    pub act: Act,
}

impl Command for Perform {
    const NAME: &'static str = "campaign.perform";
    const ACCESS: Access = Access::anyone();
    type Model = Vec<Entity<Thing>>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(CATEGORY, self.act.target())
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        self.act.read(|thing: &Entity<Thing>| thing.value, |name| reads.get(name))
    }

    fn handle(&self, things: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let values: Vec<_> = things.iter().map(|thing| thing.value).collect();
        let seen: Vec<_> = things.iter().map(seen).collect();
        let change = self.act.decide(&values).map_err(|code| Rejection::rule(code, shown(&seen)))?;
        let mut decision = Decision::new();
        let parts = change.values.len();
        for (part, (thing, value)) in (1..).zip(change.values) {
            let changed = Changed { token: self.token.clone(), part: (part, parts), value, seen: seen.clone() };
            decision = decision.emit(&things[thing], changed);
        }
        Ok(match change.claim {
            Some(Claiming::Take(name)) => {
                let taken = Rejection::conflict(TAKEN, shown(&seen));
                decision.claim(&things[0], CLAIM, name.to_string(), taken)
            }
            Some(Claiming::Release(name)) => decision.release(&things[0], CLAIM, name.to_string()),
            None => decision,
        })
    }
}

fn seen(thing: &Entity<Thing>) -> Seen {
    Seen { thing: thing.id().to_owned(), revision: thing.revision().get(), tip: thing.tip.clone() }
}

/// A rejection's message says what it was decided over.
fn shown(seen: &[Seen]) -> String {
    serde_json::to_string(seen).unwrap_or_default()
}

/// What a rejection says that it was decided over; nothing when it was not drawn from a state.
pub fn seen_in(rejection: &Rejection) -> Vec<Seen> {
    serde_json::from_str(&rejection.message).unwrap_or_default()
}
