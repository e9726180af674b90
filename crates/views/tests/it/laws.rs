//! P1 and P2: a view equals the plain fold of the log, once, whatever happens to its projectors.

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};

use crate::domain::{Counters, plain_fold};
use crate::world::{Dice, World, at_least, read_all, start};

on_both!(
    &[Schema::Log, Schema::Views],
    a_view_equals_the_plain_fold_whatever_the_page_size,
    a_view_equals_the_plain_fold_though_its_projectors_die,
    two_projectors_never_apply_an_event_twice,
);

async fn a_view_equals_the_plain_fold_whatever_the_page_size(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append_any(&mut Dice(1), 250).await;
    let expected = plain_fold(&world.history().await);
    assert!(expected.len() > 10, "the dice made too little");
    let sizes = [
        (1, projection::<Counters<1>>()),
        (2, projection::<Counters<2>>()),
        (7, projection::<Counters<3>>()),
        (64, projection::<Counters<4>>()),
        (1_000, projection::<Counters<5>>()),
    ];
    for (size, counters) in sizes {
        let views = world.views(&[counters]);
        let projectors = start(&views, size);
        assert_eq!(read_all(&views, last).await, expected, "in pages of {size}");
        projectors.stop().await;
    }
    world.log.close().await;
}

async fn a_view_equals_the_plain_fold_though_its_projectors_die(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(2);
    let mut last = world.append_any(&mut dice, 60).await;
    for round in 0..6 {
        // A process of its own: it knows nothing of what the one before had in memory.
        let views = world.views(&[projection::<Counters<1>>()]);
        let projectors = start(&views, 5);
        last = world.append_any(&mut dice, 60).await;
        let some = Position::new(last.get() - dice.below(60));
        views.get("counters", "c00", at_least(some)).await.expect("in time");
        // Wherever they are: like a crash, without giving the lease back.
        if round % 2 == 0 { drop(projectors) } else { projectors.stop().await }
    }
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    projectors.stop().await;
    world.log.close().await;
}

async fn two_projectors_never_apply_an_event_twice(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(3);
    let mut working = Vec::new();
    let mut last = Position::START;
    for _ in 0..8 {
        let views = world.views(&[projection::<Counters<1>>()]);
        working.push((start(&views, 3), views));
        last = world.append_any(&mut dice, 40).await;
        // Makes every holder lose its lease in the middle of its work, without knowing it.
        world
            .execute(
                "UPDATE view_ranges \
                 SET lease_epoch = lease_epoch + 1, lease_owner = NULL, lease_until = NULL",
            )
            .await;
        if working.len() > 2 {
            drop(working.remove(0));
        }
    }
    let views = world.views(&[projection::<Counters<1>>()]);
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    for (projectors, _) in working {
        projectors.stop().await;
    }
    world.log.close().await;
}
