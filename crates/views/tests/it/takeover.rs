//! One projector at a time: the others wait, and take over from the stopped and the dead.

use std::time::{Duration, Instant};

use daybook_core::projection;
use daybook_database::{Database, Location, on_both};
use daybook_views::{Projectors, Settings};

use crate::domain::{Added, Counters};
use crate::world::{World, at_least, event, until};

on_both!(
    &[Schema::Log, Schema::Views],
    a_second_projector_waits_and_takes_over_at_once_from_one_that_stopped,
    a_dead_projector_is_replaced_within_seconds,
);

fn named(process: &str, lease: Duration) -> Settings {
    Settings { process: process.into(), lease, ..Settings::default() }
}

async fn a_second_projector_waits_and_takes_over_at_once_from_one_that_stopped(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let is_owned_by = |name: &'static str| {
        move |status: &daybook_views::Status| {
            !status.owners.is_empty()
                && status.owners.iter().all(|owner| owner.starts_with(name))
                && status.lag_events == 0
        }
    };
    // Nobody can wait for this lease to run out.
    let first =
        Projectors::start(&world.views(&[projection::<Counters<1>>()]), named("first", Duration::from_secs(600)));
    until(&views, "counters", is_owned_by("first")).await;
    let second =
        Projectors::start(&world.views(&[projection::<Counters<1>>()]), named("second", Duration::from_secs(1)));
    for _ in 0..5 {
        let last = world.append(vec![event("a", &Added { by: 1 })]).await;
        views.get("counters", "a", at_least(last)).await.expect("in time");
        until(&views, "counters", is_owned_by("first")).await;
    }
    first.stop().await;
    until(&views, "counters", is_owned_by("second")).await;
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    let answer = views.get("counters", "a", at_least(last)).await.expect("in time");
    assert!(answer.data.expect("the document").body.get().contains('6'));
    second.stop().await;
    assert!(views.status().await.expect("available")[0].owners.is_empty());
    world.log.close().await;
}

async fn a_dead_projector_is_replaced_within_seconds(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let first = Projectors::start(&views, Settings::default());
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    views.get("counters", "a", at_least(last)).await.expect("in time");
    drop(first);
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    let begun = Instant::now();
    let second = Projectors::start(&views, Settings::default());
    views.get("counters", "a", at_least(last)).await.expect("in time");
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    second.stop().await;
    world.log.close().await;
}
