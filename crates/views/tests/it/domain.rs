//! A small domain: counters that are opened, added to, moved from one to another, and closed.

use std::collections::BTreeMap;

use daybook_core::{
    Access, Envelope, Event, Field, FieldKind, Keys, Projection, ProjectionSpec, RecordedEvent, event_set,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! events {
    ($($name:ident = $type:literal { $($field:ident: $kind:ty),* })+) => {
        $(#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        pub(crate) struct $name { $(pub(crate) $field: $kind),* }

        impl Event for $name {
            const TYPE: &'static str = $type;
            const VERSION: u32 = 1;
        })+
    };
}

events! {
    Opened = "counter.opened" { owner: String }
    Added = "counter.added" { by: i64 }
    Moved = "counter.moved" { by: i64, to: String }
    Closed = "counter.closed" {}
    Halved = "counter.halved" {}
}

event_set! {
    pub(crate) enum CounterEvent { Opened, Added, Moved, Closed }
}

event_set! {
    pub(crate) enum OpenedOnly { Opened }
}

event_set! {
    /// What a newer program knows.
    pub(crate) enum NewerEvent { Opened, Added, Moved, Closed, Halved }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counter {
    pub(crate) owner: Option<String>,
    pub(crate) sum: Sum,
    /// How many events were folded into it: one that is folded twice is seen here.
    pub(crate) events: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Sum {
    pub(crate) total: i64,
}

/// The counters. The version is a parameter, so that a test can have several views of one log.
pub(crate) struct Counters<const VERSION: u32>;

impl<const VERSION: u32> Projection for Counters<VERSION> {
    type Event = CounterEvent;
    type View = Counter;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "counters",
            version: VERSION,
            summary: "The counters.",
            category: "counter",
            fields: &[
                Field { name: "owner", path: &["owner"], kind: FieldKind::Text },
                Field { name: "total", path: &["sum", "total"], kind: FieldKind::Integer },
            ],
            indexes: &[],
            access: Access::anyone(),
            owner: Some("owner"),
        }
    }

    fn keys(event: &Envelope<'_, CounterEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
        if let CounterEvent::Moved(moved) = &event.event {
            keys.add(&moved.to);
        }
    }

    fn apply(key: &str, view: &mut Option<Counter>, event: &Envelope<'_, CounterEvent>) {
        if let CounterEvent::Closed(_) = event.event {
            *view = None;
            return;
        }
        let counter = view.get_or_insert_default();
        counter.events += 1;
        match &event.event {
            CounterEvent::Opened(opened) => counter.owner = Some(opened.owner.clone()),
            CounterEvent::Added(added) => counter.sum.total += added.by,
            CounterEvent::Moved(moved) if key == moved.to => counter.sum.total += moved.by,
            CounterEvent::Moved(moved) => counter.sum.total -= moved.by,
            CounterEvent::Closed(_) => {}
        }
    }
}

/// Wants few events and counts them in one document.
pub(crate) struct Openings;

impl Projection for Openings {
    type Event = OpenedOnly;
    type View = u64;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "openings",
            version: 1,
            summary: "How many counters were opened.",
            category: "openings",
            fields: &[],
            indexes: &[],
            access: Access::anyone(),
            owner: None,
        }
    }

    fn keys(_: &Envelope<'_, OpenedOnly>, keys: &mut Keys) {
        keys.add("all");
    }

    fn apply(_: &str, view: &mut Option<u64>, _: &Envelope<'_, OpenedOnly>) {
        *view = Some(view.unwrap_or(0) + 1);
    }
}

/// Panics where 13 is added.
pub(crate) struct Superstitious;

impl Projection for Superstitious {
    type Event = CounterEvent;
    type View = u64;

    fn spec() -> ProjectionSpec {
        ProjectionSpec { name: "superstitious", ..Openings::spec() }
    }

    fn keys(_: &Envelope<'_, CounterEvent>, keys: &mut Keys) {
        keys.add("all");
    }

    fn apply(_: &str, view: &mut Option<u64>, event: &Envelope<'_, CounterEvent>) {
        assert!(!matches!(event.event, CounterEvent::Added(Added { by: 13 })), "thirteen");
        *view = Some(view.unwrap_or(0) + 1);
    }
}

/// The counters as a newer program has them, which has not thought of everything.
pub(crate) struct Mistaken;

impl Projection for Mistaken {
    type Event = CounterEvent;
    type View = Counter;

    fn spec() -> ProjectionSpec {
        Counters::<2>::spec()
    }

    fn keys(event: &Envelope<'_, CounterEvent>, keys: &mut Keys) {
        Counters::<2>::keys(event, keys);
    }

    fn apply(key: &str, view: &mut Option<Counter>, event: &Envelope<'_, CounterEvent>) {
        assert!(!matches!(event.event, CounterEvent::Added(Added { by: 13 })), "thirteen");
        Counters::<2>::apply(key, view, event);
    }
}

/// A document of the view: its body, the position of the event that touched it last, and its stream's revision.
pub(crate) type Folded = BTreeMap<String, (Counter, u64, u64)>;

/// The plain fold: every event, one after the other.
pub(crate) fn plain_fold(events: &[RecordedEvent]) -> Folded {
    let mut documents = Folded::new();
    for record in events {
        let event = Envelope::<CounterEvent>::open(record).expect("readable").expect("a counter's event");
        let mut keys = vec![record.stream.id()];
        if let CounterEvent::Moved(moved) = &event.event
            && moved.to != record.stream.id()
        {
            keys.push(&moved.to);
        }
        for key in keys {
            let (mut view, mut revision) = match documents.remove(key) {
                Some((view, _, revision)) => (Some(view), revision),
                None => (None, 0),
            };
            Counters::<1>::apply(key, &mut view, &event);
            if key == record.stream.id() {
                revision = record.revision.get();
            }
            if let Some(view) = view {
                documents.insert(key.to_owned(), (view, record.position.get(), revision));
            }
        }
    }
    documents
}
