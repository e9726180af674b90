//! What nobody needs any more is removed.

use std::time::Duration;

use daybook_core::projection;
use daybook_database::testing::{self, Backend};
use daybook_database::{Database, Location, Schema, on_both};
use daybook_views::{AtLeast, Phase, Projectors, Settings, Views};
use tokio::time::{Instant, sleep};

use crate::domain::{Closed, Counters, Opened, Openings, Superstitious};
use crate::world::{LIMIT, World, at_least, event, found, metadata, quick, until};

on_both!(
    &[Schema::Log, Schema::Views],
    changes_and_removed_documents_are_forgotten,
    what_is_not_served_any_more_is_dropped,
);

async fn becomes(world: &World, sql: &str, wanted: i64) {
    found(async || (sql, world.count(sql).await), |(_, count)| *count == wanted).await;
}

async fn phases_are(views: &Views, wanted: &[(u32, u32, Phase)]) {
    let look = async || {
        let all = views.generations("counters").await.expect("available");
        all.iter().map(|one| (one.version, one.number, one.phase)).collect::<Vec<_>>()
    };
    found(look, |phases| phases == wanted).await;
}

async fn changes_and_removed_documents_are_forgotten(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let kept = Projectors::start(&views, quick());
    let open = |key| event(key, &Opened { owner: "me".into() });
    let last = world.append(vec![open("a"), open("b")]).await;
    views.get("counters", "a", at_least(last)).await.expect("in time");
    let last = world.append(vec![event("a", &Closed {})]).await;
    views.get("counters", "a", at_least(last)).await.expect("in time");
    let removed = "SELECT count(*) FROM view_counters_v1_g1 WHERE body IS NULL";
    assert_eq!(world.count(removed).await, 1);
    assert!(world.count("SELECT count(*) FROM view_changes").await > 0);
    kept.stop().await;

    let settings = Settings { changes_kept: Duration::from_millis(50), ..quick() };
    let forgotten = Projectors::start(&views, settings);
    let last = world.append(vec![open("c")]).await;
    views.get("counters", "c", at_least(last)).await.expect("in time");
    // The newest that is old stays.
    becomes(&world, "SELECT count(*) FROM view_changes", 1).await;
    becomes(&world, removed, 0).await;
    assert!(views.get("counters", "b", None).await.expect("an answer").data.is_some());
    forgotten.stop().await;
    world.log.close().await;
}

async fn what_is_not_served_any_more_is_dropped(_: Location, database: Database) {
    let world = World::new(database).await;
    let older = world.views(&[projection::<Counters<1>>()]);
    let settings = || Settings { retire_after: Duration::from_millis(500), ..quick() };
    let of_older = Projectors::start(&older, settings());
    let last = world.append(vec![event("a", &Opened { owner: "me".into() })]).await;
    older.get("counters", "a", at_least(last)).await.expect("in time");
    older.rebuild("counters", false, &metadata()).await.expect("begun");
    phases_are(&older, &[(1, 1, Phase::Dropped), (1, 2, Phase::Live)]).await;

    // One that others feed stays.
    let newer = world.views(&[projection::<Counters<2>>()]);
    let of_newer = Projectors::start(&newer, settings());
    until(&newer, "counters", |status| status.version == 2).await;
    phases_are(&newer, &[(1, 1, Phase::Dropped), (1, 2, Phase::Live), (2, 3, Phase::Live)]).await;
    of_older.stop().await;
    phases_are(&newer, &[(1, 1, Phase::Dropped), (1, 2, Phase::Dropped), (2, 3, Phase::Live)]).await;
    assert!(newer.get("counters", "a", None).await.expect("an answer").data.is_some());
    of_newer.stop().await;
    world.log.close().await;
}

/// A backup, say, or an analyst.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_what_is_to_be_dropped_keeps_nothing_else_waiting() {
    testing::run(Backend::Postgres, &[Schema::Log, Schema::Views], nothing_else_waits).await;
}

async fn nothing_else_waits(_: Location, database: Database) {
    let Database::Postgres(pool) = &database else { panic!("PostgreSQL was asked for") };
    let world = World::new(database.clone()).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = Projectors::start(&views, quick());
    let open = |key| event(key, &Opened { owner: "me".into() });
    let last = world.append(vec![open("a")]).await;
    views.get("counters", "a", at_least(last)).await.expect("in time");
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    phases_are(&views, &[(1, 1, Phase::Retired), (1, 2, Phase::Live)]).await;

    let mut reading = pool.begin().await.expect("begun");
    sqlx::query("SELECT count(*) FROM view_counters_v1_g1").execute(&mut *reading).await.expect("read");
    views
        .rebuild("counters", false, &metadata())
        .await
        .expect("begun, though the one before cannot be dropped yet");
    phases_are(&views, &[(1, 1, Phase::Retired), (1, 2, Phase::Retired), (1, 3, Phase::Live)]).await;
    projectors.stop().await;

    let projectors = Projectors::start(&views, Settings { retire_after: Duration::ZERO, ..quick() });
    let last = world.append(vec![open("b")]).await;
    let soon = AtLeast { position: last, deadline: Instant::now() + Duration::from_secs(4) };
    views.get("counters", "b", Some(soon)).await.expect("before dropping is given up");
    reading.rollback().await.expect("ended");
    phases_are(&views, &[(1, 1, Phase::Dropped), (1, 2, Phase::Dropped), (1, 3, Phase::Live)]).await;
    projectors.stop().await;
    world.log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_cost_a_few_statements_a_second_while_nothing_is_appended() {
    testing::run(Backend::Postgres, &[Schema::Log, Schema::Views], a_few_statements_a_second).await;
}

/// However many projections there are. PostgreSQL counts a transaction up to some seconds after it has ended, so what was
/// done at the start may be counted late.
async fn a_few_statements_a_second(_: Location, database: Database) {
    const SECONDS: u32 = 3;
    let world = World::new(database).await;
    let all = [projection::<Counters<1>>(), projection::<Openings>(), projection::<Superstitious>()];
    let views = world.views(&all);
    let projectors = Projectors::start(&views, Settings::default());
    let last = world.append(vec![event("a", &Opened { owner: "me".into() })]).await;
    for view in ["counters", "openings", "superstitious"] {
        views.get(view, "a", at_least(last)).await.expect("in time");
    }
    let deadline = Instant::now() + LIMIT;
    let transactions =
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    loop {
        let before = world.count(transactions).await;
        sleep(Duration::from_secs(SECONDS.into())).await;
        let done = world.count(transactions).await - before;
        if (1..=i64::from(5 * SECONDS)).contains(&done) {
            break;
        }
        assert!(Instant::now() < deadline, "{done} transactions in {SECONDS} s");
    }
    projectors.stop().await;
    world.log.close().await;
}
