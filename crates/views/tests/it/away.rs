//! A database that breaks off.

use daybook_core::projection;
use daybook_database::testing::{Backend, run};
use daybook_database::{Database, Location, Schema};
use daybook_views::Phase;
use sqlx::{Connection, PgConnection};

use crate::domain::{Counters, plain_fold};
use crate::world::{Dice, World, found, metadata, read_all, start};

async fn broken_connections_lose_and_double_nothing(location: Location, database: Database) {
    let Location::Postgres(options) = location else { panic!("only a server's connections can be broken") };
    let world = World::new(database).await;
    let last = world.append_any(&mut Dice(4), 300).await;
    let expected = plain_fold(&world.history().await);
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1);
    let mut server = PgConnection::connect_with(&options).await.expect("the test server answers");
    for _ in 0..12 {
        // Whatever they are doing: reading, writing, or waiting for the answer to COMMIT.
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .execute(&mut server)
        .await
        .expect("the connections break");
        let before: i64 = position(&mut server).await;
        let deadline = tokio::time::Instant::now() + crate::world::LIMIT;
        while position(&mut server).await == before && before < last.to_i64() {
            assert!(tokio::time::Instant::now() < deadline, "the projector did not go on");
            tokio::task::yield_now().await;
        }
    }
    projectors.stop().await;

    // Read by a process with connections that were never broken.
    let database = Database::connect(&Location::Postgres(options), &daybook_database::Options::default()).await;
    let world = World::new(database.expect("the test's database answers")).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    assert_eq!(read_all(&views, last).await, expected);
    projectors.stop().await;
    world.log.close().await;
    world.database.close().await;
}

async fn position(server: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT coalesce(min(position), 0) FROM view_ranges")
        .fetch_one(server)
        .await
        .expect("an answer")
}

/// The two streams of a copy commit one after the other, and what comes in between leaves the documents of one behind.
async fn half_a_copy_is_thrown_away_and_not_folded_over(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    let last = world.append_any(&mut Dice(5), 200).await;
    let expected = read_all(&views, last).await;
    // The one that commits last moves the positions, and its commit fails.
    world
        .execute(
            "CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql \
             AS $$ BEGIN RAISE 'broken off' USING ERRCODE = 'admin_shutdown'; END $$",
        )
        .await;
    world
        .execute(
            "CREATE CONSTRAINT TRIGGER break_off AFTER UPDATE ON view_ranges \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
             WHEN (NEW.generation > 1 AND NEW.position > OLD.position) EXECUTE FUNCTION break_off()",
        )
        .await;
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    let left_behind = "SELECT count(*) FROM view_counters_v1_g2";
    found(async || world.count(left_behind).await, |count| *count > 0).await;
    let folded = "SELECT max(position) FROM view_ranges JOIN view_generations USING (generation) WHERE number = 2";
    assert_eq!(world.count(folded).await, 0);

    world.execute("DROP TRIGGER break_off ON view_ranges").await;
    let look = async || views.generations("counters").await.expect("available").remove(1);
    let built = found(look, |built| built.phase == Phase::Live).await;
    assert_eq!(built.report.expect("compared")["differing"], 0);
    assert_eq!(read_all(&views, last).await, expected);
    projectors.stop().await;
    world.log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections() {
    run(Backend::Postgres, &[Schema::Log, Schema::Views], broken_connections_lose_and_double_nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_copy() {
    run(Backend::Postgres, &[Schema::Log, Schema::Views], half_a_copy_is_thrown_away_and_not_folded_over).await;
}
