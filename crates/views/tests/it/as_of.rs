//! A document as it was is the fold of what had happened by then.

use daybook_core::{Envelope, Keys, Position, Projection, ProjectionSpec, StreamId, projection};
use daybook_database::{Database, Location, on_both};
use daybook_log::NewRecord;
use daybook_views::Views;

use crate::domain::{Added, Closed, Counter, CounterEvent, Counters, Superstitious, plain_fold};
use crate::world::{Dice, World, at_least, event, metadata, read_all, start};

on_both!(
    &[Schema::Log, Schema::Views],
    a_document_is_as_it_was_at_each_position,
    where_its_streams_are_declared_they_alone_are_read,
    what_was_parked_then_is_as_it_was_before,
    several_long_streams_are_read_in_the_order_of_the_log,
);

/// Counts a counter's own events.
struct Tally;

impl Projection for Tally {
    type Event = CounterEvent;
    type View = u64;

    fn spec() -> ProjectionSpec {
        ProjectionSpec { name: "tally", category: "counter", ..Superstitious::spec() }
    }

    fn keys(event: &Envelope<'_, CounterEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn categories() -> &'static [&'static str] {
        &["counter"]
    }

    fn apply(_: &str, view: &mut Option<u64>, event: &Envelope<'_, CounterEvent>) {
        *view = match event.event {
            CounterEvent::Closed(_) => None,
            _ => Some(view.unwrap_or(0) + 1),
        };
    }
}

async fn a_document_is_as_it_was_at_each_position(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append_any(&mut Dice(8), 120).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    read_all(&views, last).await;
    let history = world.history().await;
    for at in [0, 1, 17, 60, 119, 120] {
        let expected = plain_fold(&history[..at]);
        for key in ["c00", "c07", "c13", "none"] {
            let found = views.as_of("counters", key, Position::new(at as u64)).await.expect("an answer");
            let found = found.map(|document| {
                let body: Counter = serde_json::from_str(document.body.get()).expect("a counter");
                (body, document.position.get(), document.revision.get())
            });
            assert_eq!(found.as_ref(), expected.get(key), "{key} at {at}");
        }
    }
    projectors.stop().await;
    world.log.close().await;
}

async fn where_its_streams_are_declared_they_alone_are_read(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Tally>()]);
    let projectors = start(&views, 50);
    let add = |key| event(key, &Added { by: 1 });
    let last = world.append(vec![add("a"), add("b"), add("a"), event("a", &Closed {}), add("a")]).await;
    views.get("tally", "a", at_least(last)).await.expect("in time");
    for (at, expected) in [(0, None), (1, Some("1")), (2, Some("1")), (3, Some("2")), (4, None), (5, Some("1"))] {
        assert_eq!(body(&views, "tally", "a", at).await.as_deref(), expected, "at {at}");
    }
    projectors.stop().await;
    world.log.close().await;
}

/// What two counters were counted by, in order, as one number. It does not count by 13.
struct Order;

impl Projection for Order {
    type Event = CounterEvent;
    type View = u64;

    fn spec() -> ProjectionSpec {
        ProjectionSpec { name: "in_order", ..Superstitious::spec() }
    }

    fn keys(_: &Envelope<'_, CounterEvent>, keys: &mut Keys) {
        keys.add("both");
    }

    fn categories() -> &'static [&'static str] {
        &["counter", "other"]
    }

    fn apply(_: &str, view: &mut Option<u64>, event: &Envelope<'_, CounterEvent>) {
        if let CounterEvent::Added(added) = &event.event {
            assert_ne!(added.by, 13);
            *view = Some(next_of(view.unwrap_or(0), added.by as u64));
        }
    }
}

/// Depends on the order.
fn next_of(number: u64, by: u64) -> u64 {
    number.wrapping_mul(31).wrapping_add(by) % 1_000_003
}

fn in_category(category: &str, by: i64) -> NewRecord {
    NewRecord { stream: StreamId::new(category, "both"), ..event("both", &Added { by }) }
}

async fn several_long_streams_are_read_in_the_order_of_the_log(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Order>()]);
    let (mut dice, mut expected) = (Dice(3), vec![0]);
    for _ in 0..6 {
        let drawn: Vec<_> =
            (0..500).map(|_| (if dice.below(9) == 0 { "other" } else { "counter" }, dice.below(10))).collect();
        for (_, by) in &drawn {
            expected.push(next_of(expected[expected.len() - 1], *by));
        }
        let events = drawn.into_iter().map(|(category, by)| in_category(category, by as i64));
        world.append(events.collect()).await;
    }
    world.append([13, 1].map(|by| in_category("other", by)).into()).await;
    let projectors = start(&views, 2_000);
    for (at, expected) in [1, 999, 1_001, 2_500, 3_000, 3_002].map(|at| (at, expected[at.min(3_000)])) {
        assert_eq!(body(&views, "in_order", "both", at as u64).await, Some(expected.to_string()), "at {at}");
    }
    projectors.stop().await;
    world.log.close().await;
}

async fn body(views: &Views, view: &str, key: &str, at: u64) -> Option<String> {
    let document = views.as_of(view, key, Position::new(at)).await.expect("an answer");
    document.map(|document| document.body.get().to_owned())
}

async fn what_was_parked_then_is_as_it_was_before(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Superstitious>()]);
    let projectors = start(&views, 50);
    let last = world.append((11..=15).map(|by| event("a", &Added { by })).collect()).await;
    views.get("superstitious", "all", at_least(last)).await.expect("in time");
    assert_eq!(body(&views, "superstitious", "all", 5).await.as_deref(), Some("2"));
    let passed = views.skip("superstitious", "all", Position::new(3), &metadata()).await.expect("done");
    views.get("superstitious", "all", at_least(passed)).await.expect("in time");
    assert_eq!(body(&views, "superstitious", "all", 5).await.as_deref(), Some("2"), "it was passed over later");
    assert_eq!(body(&views, "superstitious", "all", passed.get()).await.as_deref(), Some("4"));
    projectors.stop().await;
    world.log.close().await;
}
