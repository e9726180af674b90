//! L11 under a projector at work: a log that is rolled back is noticed, and nothing of another history is folded in.

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::Views;

use crate::domain::{Added, Counters};
use crate::world::{World, at_least, event, start, until};

on_both!(
    &[Schema::Log, Schema::Views],
    a_projector_notices_that_the_log_was_rolled_back,
    a_projector_folds_nothing_of_a_log_that_was_rolled_back_and_went_on,
);

/// Takes the log back to where it ended at a position, as putting an older backup in its place does.
async fn roll_back(world: &World, position: u64) {
    let delete = format!("DELETE FROM events WHERE position > {position}");
    let [before, after] = match &world.database {
        Database::Postgres(_) => [
            "ALTER TABLE events DISABLE TRIGGER events_never_change",
            "ALTER TABLE events ENABLE ALWAYS TRIGGER events_never_change",
        ],
        Database::Sqlite(_) => ["DROP TRIGGER IF EXISTS events_never_delete", "SELECT 1"],
    };
    for statement in [before, &delete, after] {
        world.execute(statement).await;
    }
}

/// Three events, all of them in the view.
async fn three_events(world: &World, views: &Views) {
    let last = world.append((1..=3).map(|by| event("a", &Added { by })).collect()).await;
    views.get("counters", "a", at_least(last)).await.expect("in time");
}

async fn a_projector_notices_that_the_log_was_rolled_back(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    three_events(&world, &views).await;
    roll_back(&world, 2).await;
    let status = until(&views, "counters", |status| status.stopped.is_some()).await;
    let stopped = status.stopped.expect("just seen");
    assert!(stopped.reason.contains("rolled back"), "{}", stopped.reason);
    projectors.stop().await;
    world.log.close().await;
}

async fn a_projector_folds_nothing_of_a_log_that_was_rolled_back_and_went_on(_: Location, database: Database) {
    let world = World::new(database.clone()).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    three_events(&world, &views).await;
    roll_back(&world, 2).await;
    let other = World::new(database).await;
    let last = other.append((0..2).map(|_| event("a", &Added { by: 100 })).collect()).await;
    assert_eq!(last, Position::new(4));
    let folded = |status: &daybook_views::Status| status.position == last;
    let status = until(&views, "counters", |status| status.stopped.is_some() || folded(status)).await;
    let stopped = status.stopped.expect("it stands still, and does not go on to position 4");
    assert!(stopped.reason.contains("rolled back"), "{}", stopped.reason);
    assert_eq!(status.position, Position::new(3));
    projectors.stop().await;
    other.log.close().await;
    world.log.close().await;
}
