//! P6: processes share a view's ranges, and its number of ranges changes without a rebuild.

use std::collections::BTreeSet;

use daybook_core::projection;
use daybook_database::{Database, Location, on_both};
use daybook_views::{Projectors, Settings};

use crate::domain::{Counters, plain_fold};
use crate::world::{Dice, World, found, quick, read_all, until};

on_both!(
    &[Schema::Log, Schema::Views],
    processes_share_the_work_and_take_over_from_the_dead,
    the_number_of_ranges_changes_without_a_rebuild,
);

fn named(process: &str, shards: u16) -> Settings {
    Settings { process: process.into(), shards, page_events_max: 7, ..quick() }
}

async fn processes_share_the_work_and_take_over_from_the_dead(_: Location, database: Database) {
    let world = World::new(database).await;
    let (views, mut dice) = (world.views(&[projection::<Counters<1>>()]), Dice(11));
    let mut working: Vec<Projectors> = ["a ", "b ", "c "]
        .map(|name| Projectors::start(&world.views(&[projection::<Counters<1>>()]), named(name, 8)))
        .into();
    world.append_any(&mut dice, 200).await;
    let names = |owners: &BTreeSet<String>| owners.iter().map(|owner| owner[..1].to_owned()).collect::<String>();
    until(&views, "counters", |status| names(&status.owners) == "abc").await;
    let last = world.append_any(&mut dice, 200).await;
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    // One dies, with all that it holds; one stops.
    drop(working.remove(0));
    working.remove(0).stop().await;
    let last = world.append_any(&mut dice, 200).await;
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    until(&views, "counters", |status| names(&status.owners) == "c").await;
    working.remove(0).stop().await;
    world.log.close().await;
}

async fn the_number_of_ranges_changes_without_a_rebuild(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(12);
    let views = world.views(&[projection::<Counters<1>>()]);
    for shards in [8, 3, 1, 13] {
        let one = Projectors::start(&world.views(&[projection::<Counters<1>>()]), named("a", shards));
        let other = Projectors::start(&world.views(&[projection::<Counters<1>>()]), named("b", shards));
        let last = world.append_any(&mut dice, 150).await;
        assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await), "in {shards} ranges");
        let ranges = async || world.count("SELECT count(*) FROM view_ranges").await;
        found(ranges, |count| *count == i64::from(shards)).await;
        one.stop().await;
        other.stop().await;
    }
    assert_eq!(world.count("SELECT count(*) FROM view_generations").await, 1);
    world.log.close().await;
}
