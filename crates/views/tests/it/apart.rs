//! Views in another database than their log, of the same kind or the other one.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use daybook_core::{AnyProjection, Position, projection};
use daybook_database::Schema;
use daybook_database::testing::{Backend, run};
use daybook_views::{GenerationStatus, Phase};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::domain::{Added, Counters, Superstitious, plain_fold};
use crate::world::{Dice, World, at_least, event, found, metadata, read_all, start};

macro_rules! apart {
    ($($name:ident: $log:ident, $views:ident;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            are_true(Backend::$log, Backend::$views).await;
        })+
    };
}

apart! {
    two_files: Sqlite, Sqlite;
    two_databases: Postgres, Postgres;
    a_log_in_a_file: Sqlite, Postgres;
    views_in_a_file: Postgres, Sqlite;
}

async fn are_true(log: Backend, views: Backend) {
    let (hand_over, handed_over) = oneshot::channel();
    let (done, is_done) = oneshot::channel::<()>();
    let keeping = run(log, &[Schema::Log], |_, log| async move {
        hand_over.send(log).expect("it is waited for");
        let _ = is_done.await;
    });
    let testing = run(views, &[Schema::Views], |_, views| async move {
        let _done = done;
        views_are_true(World::apart(handed_over.await.expect("it is made"), views).await).await;
    });
    let ((), outcome) = tokio::join!(keeping, AssertUnwindSafe(testing).catch_unwind());
    outcome.unwrap_or_else(|panic| resume_unwind(panic));
}

fn projections() -> [Arc<dyn AnyProjection>; 2] {
    [projection::<Counters<1>>(), projection::<Superstitious>()]
}

async fn views_are_true(world: World) {
    let mut dice = Dice(41);
    // One that dies, and one that comes behind it.
    let dying = start(&world.views(&projections()), 7);
    let some = world.append_any(&mut dice, 40).await;
    let views = world.views(&projections());
    views.get("counters", "c01", at_least(some)).await.expect("in time");
    drop(dying);
    let projectors = start(&views, 50);
    let last = world.append_any(&mut dice, 100).await;
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));

    let last = world.append([13, 1].map(|by| event("x", &Added { by })).into()).await;
    views.get("superstitious", "all", at_least(last)).await.expect("in time");
    let parked = Position::new(last.get() - 1);
    let passed = views.skip("superstitious", "all", parked, &metadata()).await.expect("done");
    views.get("superstitious", "all", at_least(passed)).await.expect("in time");
    assert!(views.dead_letters("superstitious", None, None).await.expect("available").is_empty());

    for view in ["counters", "superstitious"] {
        let number = views.rebuild(view, false, &metadata()).await.expect("begun");
        let look = async || views.generations(view).await.expect("available");
        let is_it = |one: &GenerationStatus| one.number == number && one.phase == Phase::Live;
        let all = found(look, |all| all.iter().any(is_it)).await;
        let built = all.into_iter().find(is_it).expect("just seen");
        assert_eq!(built.report.expect("compared")["differing"], 0, "{view}");
    }
    assert_eq!(views.rollback("counters", &metadata()).await.expect("done"), 1);
    let history = world.history().await;
    let own: Vec<_> = history.into_iter().filter(|event| event.stream.category() == "counter").collect();
    let last = world.log.head().await.expect("it answers").position;
    assert_eq!(read_all(&views, last).await, plain_fold(&own));
    projectors.stop().await;
    world.log.close().await;
}
