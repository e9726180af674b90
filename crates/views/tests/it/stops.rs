//! P3's beginning: a projection stops where it cannot go on, says so, and stops no other.

use std::time::Duration;

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Projectors, Settings, Status, Stopped};

use crate::domain::{Added, Counters, Halved, NewerEvent, Opened, Openings};
use crate::world::{World, at_least, event, quick, raw, start, until};

on_both!(
    &[Schema::Log, Schema::Views],
    an_event_that_cannot_be_read_stops_its_projection_there,
    an_event_that_the_program_does_not_know_stops_every_projection_there,
    a_log_with_another_history_is_not_folded_over,
    a_table_with_other_fields_is_not_written,
    a_projection_that_was_stopped_goes_on_when_it_can,
);

async fn an_event_that_cannot_be_read_stops_its_projection_there(_: Location, database: Database) {
    let world = World::new(database).await;
    world.append((0..7).map(|_| event("a", &Added { by: 1 })).collect()).await;
    let bad = world.append(vec![raw("a", "counter.added", 1, r#"{"by":"one"}"#)]).await;
    let last = world.append(vec![event("b", &Opened { owner: "me".into() })]).await;
    let views = world.views(&[projection::<Counters<1>>(), projection::<Openings>()]);
    // The second round is after a restart.
    for _ in 0..2 {
        let projectors = start(&views, 1_000);
        // In the second round it is known from the first, while somebody goes to see once more.
        let is_over = |status: &Status| status.stopped.is_some() && status.owners.is_empty();
        let status = until(&views, "counters", is_over).await;
        let Some(Stopped { position, reason }) = status.stopped else { unreachable!() };
        assert_eq!(position, bad);
        assert!(reason.contains("(`counter.added` version 1) cannot be read: invalid type"), "{reason}");
        assert_eq!((status.position, status.lag_events), (Position::new(7), 2));
        assert!(status.lag_seconds >= 0.0);
        // Everything before is there, and is served with its honest position.
        let answer = views.get("counters", "a", None).await.expect("an answer");
        assert_eq!((answer.position, answer.data.expect("the document").revision.get()), (Position::new(7), 7));
        // Others flow on.
        views.get("openings", "all", at_least(last)).await.expect("in time");
        projectors.stop().await;
    }
    world.log.close().await;
}

async fn an_event_that_the_program_does_not_know_stops_every_projection_there(_: Location, database: Database) {
    let world = World::new(database).await;
    world.append(vec![event("a", &Opened { owner: "me".into() }), event("a", &Added { by: 1 })]).await;
    // The events of newer programs.
    let of_another_type = world.append(vec![event("a", &Halved {})]).await;
    let of_another_version = world.append(vec![raw("a", "counter.added", 9, r#"{"by":1}"#)]).await;
    world.append(vec![event("b", &Opened { owner: "me".into() })]).await;
    let projections = [projection::<Counters<1>>(), projection::<Openings>()];
    for (views, at, what) in [
        (world.views(&projections), of_another_type, "(`counter.halved` version 1)"),
        (world.views_of::<NewerEvent>(&projections), of_another_version, "(`counter.added` version 9)"),
    ] {
        let projectors = start(&views, 1_000);
        for name in ["counters", "openings"] {
            let is_there = |status: &Status| status.stopped.as_ref().is_some_and(|stopped| stopped.position == at);
            let status = until(&views, name, is_there).await;
            assert_eq!(status.position.plus(1), at);
            let reason = status.stopped.expect("just seen").reason;
            assert!(reason.contains(&format!("the event at position {at} {what} cannot be read")), "{reason}");
        }
        projectors.stop().await;
    }
    world.log.close().await;
}

async fn a_log_with_another_history_is_not_folded_over(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    views.get("counters", "a", at_least(last)).await.expect("in time");
    projectors.stop().await;

    world.execute("UPDATE view_ranges SET epoch = epoch + 1").await;
    world.append(vec![event("a", &Added { by: 1 })]).await;
    let projectors = start(&views, 1_000);
    let status = until(&views, "counters", |status| status.stopped.is_some()).await;
    let stopped = status.stopped.expect("just seen");
    assert_eq!((stopped.position, status.position), (last, last));
    assert!(stopped.reason.contains("restored"), "{}", stopped.reason);
    projectors.stop().await;
    world.log.close().await;
}

async fn a_table_with_other_fields_is_not_written(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Openings>()]);
    let projectors = start(&views, 1_000);
    until(&views, "openings", |status| !status.owners.is_empty()).await;
    projectors.stop().await;
    // As another program of the same version declared it.
    world
        .execute("UPDATE view_generations SET declaration = '{\"fields\":[],\"owner\":\"other\",\"indexes\":[]}'")
        .await;
    world.append(vec![event("a", &Opened { owner: "me".into() })]).await;
    let views = world.views(&[projection::<Openings>()]);
    let projectors = start(&views, 1_000);
    let status = until(&views, "openings", |status| status.stopped.is_some()).await;
    let stopped = status.stopped.expect("just seen");
    assert!(stopped.reason.contains("version has to be raised"), "{}", stopped.reason);
    projectors.stop().await;
    world.log.close().await;
}

async fn a_projection_that_was_stopped_goes_on_when_it_can(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    // One range, since what is done to all of them would miss those that are just being cut.
    let settings = Settings { retry_stopped: Duration::from_millis(20), shards: 1, ..quick() };
    let projectors = Projectors::start(&views, settings);
    views.get("counters", "a", at_least(last)).await.expect("in time");
    // As if it were of another history, until somebody mends it.
    world.execute("UPDATE view_ranges SET epoch = epoch + 1").await;
    until(&views, "counters", |status| status.stopped.is_some()).await;
    world.execute("UPDATE view_ranges SET epoch = epoch - 1").await;
    let last = world.append(vec![event("a", &Added { by: 2 })]).await;
    let answer = views.get("counters", "a", at_least(last)).await.expect("in time");
    assert!(answer.data.expect("the document").body.get().contains('3'));
    until(&views, "counters", |status| status.stopped.is_none() && status.lag_events == 0).await;
    projectors.stop().await;
    world.log.close().await;
}
