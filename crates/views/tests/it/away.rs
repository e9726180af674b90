//! A database that breaks off.

use daybook_core::projection;
use daybook_database::testing::{Backend, run};
use daybook_database::{Database, Location, Schema};
use sqlx::{Connection, PgConnection};

use crate::domain::{Counters, plain_fold};
use crate::world::{Dice, World, read_all, start};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    run(Backend::Postgres, &[Schema::Log, Schema::Views], broken_connections_lose_and_double_nothing).await;
}
