//! P3: what cannot be applied to a document parks it, with all that is behind; nothing is skipped but by an operator.

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{DeadLetter, Projectors, Settings, ViewError, Views};

use crate::domain::{Added, Counter, Counters, Opened, Superstitious};
use crate::world::{World, at_least, event, metadata, quick, start};

on_both!(
    &[Schema::Log, Schema::Views],
    a_fold_that_panics_parks_its_document_and_what_is_behind,
    what_is_passed_over_or_tried_again_is_so_at_its_place_in_the_log,
    a_document_that_is_damaged_is_parked_until_it_is_mended,
    a_document_that_the_database_refuses_is_parked_and_no_other,
    of_many_dead_letters_the_first_that_is_refused_is_named,
);

fn positions(letters: &[DeadLetter]) -> Vec<u64> {
    letters.iter().map(|letter| letter.position.get()).collect()
}

async fn letters(views: &Views, view: &str) -> Vec<DeadLetter> {
    views.dead_letters(view, None, None).await.expect("available")
}

async fn document(views: &Views, view: &str, key: &str, at: Position) -> String {
    let answer = views.get(view, key, at_least(at)).await.expect("in time");
    answer.data.expect("the document").body.get().to_owned()
}

async fn a_fold_that_panics_parks_its_document_and_what_is_behind(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append((1..=20).map(|by| event("a", &Added { by })).collect()).await;
    // The second round is after a restart.
    for size in [1_000, 3] {
        let views = world.views(&[projection::<Superstitious>(), projection::<Counters<1>>()]);
        let projectors = start(&views, size);
        assert_eq!(document(&views, "superstitious", "all", last).await, "12");
        let found = letters(&views, "superstitious").await;
        assert_eq!(positions(&found), (13..=20).collect::<Vec<_>>());
        let error = found[0].error.as_deref().unwrap_or_default();
        assert!(error.contains("thirteen") && error.contains("domain.rs:"), "what, and where: {error}");
        assert!(found[1..].iter().all(|letter| letter.error.is_none()), "{found:?}");
        views.get("counters", "a", at_least(last)).await.expect("in time");
        projectors.stop().await;
    }
    world.log.close().await;
}

async fn what_is_passed_over_or_tried_again_is_so_at_its_place_in_the_log(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Superstitious>()]);
    let projectors = start(&views, 1_000);
    let last = world.append((10..=16).map(|by| event("a", &Added { by })).collect()).await;
    assert_eq!(document(&views, "superstitious", "all", last).await, "3");

    let tried = views.retry("superstitious", "all", &metadata()).await.expect("done");
    assert_eq!(document(&views, "superstitious", "all", tried).await, "3");
    assert_eq!(positions(&letters(&views, "superstitious").await), [4, 5, 6, 7]);

    let other = views.skip("superstitious", "all", Position::new(5), &metadata()).await;
    assert!(matches!(other, Err(ViewError::Refused(_))), "only the first can be passed over");
    let passed = views.skip("superstitious", "all", Position::new(4), &metadata()).await.expect("done");
    assert_eq!(document(&views, "superstitious", "all", passed).await, "6");
    assert!(letters(&views, "superstitious").await.is_empty());
    assert!(matches!(views.retry("superstitious", "all", &metadata()).await, Err(ViewError::Refused(_))));

    let last = world.append(vec![event("a", &Added { by: 1 }), event("b", &Added { by: 13 })]).await;
    assert_eq!(document(&views, "superstitious", "all", last).await, "7");
    assert_eq!(positions(&letters(&views, "superstitious").await), [last.get()]);
    projectors.stop().await;
    world.log.close().await;
}

async fn a_document_that_is_damaged_is_parked_until_it_is_mended(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    let both = || vec![event("a", &Added { by: 1 }), event("b", &Added { by: 1 })];
    let last = world.append(both()).await;
    document(&views, "counters", "a", last).await;
    projectors.stop().await;
    world.execute("UPDATE view_counters_v1_g1 SET body = '{\"sum\":7}' WHERE key = 'a'").await;
    let projectors = start(&views, 1_000);
    let last = world.append(both()).await;
    let counter = |body: String| serde_json::from_str::<Counter>(&body).expect("a counter");
    assert_eq!(counter(document(&views, "counters", "b", last).await).sum.total, 2);
    let found = letters(&views, "counters").await;
    assert_eq!(positions(&found), [3]);
    assert!(found[0].error.as_deref().is_some_and(|error| error.contains("shape")), "{found:?}");

    let mended = r#"{"owner":null,"sum":{"total":1},"events":1}"#;
    world.execute(&format!("UPDATE view_counters_v1_g1 SET body = '{mended}' WHERE key = 'a'")).await;
    let tried = views.retry("counters", "a", &metadata()).await.expect("done");
    assert_eq!(counter(document(&views, "counters", "a", tried).await).sum.total, 2);
    assert!(letters(&views, "counters").await.is_empty());
    projectors.stop().await;
    world.log.close().await;
}

async fn a_document_that_the_database_refuses_is_parked_and_no_other(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = Projectors::start(&views, Settings { shards: 1, ..quick() });
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    document(&views, "counters", "a", last).await;
    let guard = match &world.database {
        Database::Postgres(_) => "ALTER TABLE view_counters_v1_g1 ADD CHECK (key <> 'bad' OR total < 2)",
        Database::Sqlite(_) => {
            "CREATE TRIGGER guard BEFORE INSERT ON view_counters_v1_g1 \
             WHEN NEW.key = 'bad' AND NEW.body ->> '$.sum.total' >= 2 BEGIN SELECT RAISE(ABORT, 'no'); END"
        }
    };
    world.execute(guard).await;
    let mut events = vec![event("bad", &Opened { owner: "me".into() })];
    events.extend((0..3).flat_map(|_| [event("a", &Added { by: 1 }), event("bad", &Added { by: 1 })]));
    let last = world.append(events).await;
    let counter = |body: String| serde_json::from_str::<Counter>(&body).expect("a counter").sum.total;
    assert_eq!(counter(document(&views, "counters", "a", last).await), 4);
    assert_eq!(counter(document(&views, "counters", "bad", last).await), 1);
    assert_eq!(positions(&letters(&views, "counters").await), [6, 8]);
    projectors.stop().await;
    world.log.close().await;
}

/// More than are read at a time.
async fn of_many_dead_letters_the_first_that_is_refused_is_named(_: Location, database: Database) {
    const ALL: u64 = 2_500;
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = Projectors::start(&views, Settings { shards: 1, ..quick() });
    let last = world.append(vec![event("bad", &Added { by: 1 })]).await;
    document(&views, "counters", "bad", last).await;
    // Nothing but what is below is taken.
    let guard = async |below: u64| {
        let (remove, make) = match &world.database {
            Database::Postgres(_) => (
                "ALTER TABLE view_counters_v1_g1 DROP CONSTRAINT IF EXISTS guard",
                format!("ALTER TABLE view_counters_v1_g1 ADD CONSTRAINT guard CHECK (total < {below})"),
            ),
            Database::Sqlite(_) => (
                "DROP TRIGGER IF EXISTS guard",
                format!(
                    "CREATE TRIGGER guard BEFORE INSERT ON view_counters_v1_g1 \
                     WHEN NEW.body ->> '$.sum.total' >= {below} BEGIN SELECT RAISE(ABORT, 'no'); END"
                ),
            ),
        };
        world.execute(remove).await;
        world.execute(&make).await;
    };
    let total = async |at: Position| {
        let body = document(&views, "counters", "bad", at).await;
        serde_json::from_str::<Counter>(&body).expect("a counter").sum.total
    };
    guard(2).await;
    let mut last = last;
    for _ in 0..(ALL - 1) / 833 {
        last = world.append((0..833).map(|_| event("bad", &Added { by: 1 })).collect()).await;
    }
    assert_eq!((last.get(), total(last).await), (ALL, 1));

    for below in [1_234, 2_345] {
        guard(below).await;
        let tried = views.retry("counters", "bad", &metadata()).await.expect("done");
        assert_eq!(total(tried).await, below as i64 - 1);
        let left = letters(&views, "counters").await;
        assert_eq!(left[0].position.get(), below, "{:?}", left[0]);
        assert!(left[0].error.as_deref().is_some_and(|error| error.contains("cannot be stored")), "{:?}", left[0]);
        assert!(left[1..].iter().all(|letter| letter.error.is_none()), "{left:?}");
    }
    guard(ALL + 1).await;
    let passed = views.skip("counters", "bad", Position::new(2_345), &metadata()).await.expect("done");
    assert_eq!(total(passed).await, ALL as i64 - 1);
    assert!(letters(&views, "counters").await.is_empty());
    // It is parked no more.
    let last = world.append(vec![event("bad", &Added { by: 1 })]).await;
    assert_eq!(total(last).await, ALL as i64);
    projectors.stop().await;
    world.log.close().await;
}
