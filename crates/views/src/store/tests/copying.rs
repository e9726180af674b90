//! The first documents of a rebuild go by COPY, in two streams, which take as long as they take: nobody is kept waiting
//! for good, and nobody takes over meanwhile, unless it is from who is dead or frozen.

use std::sync::mpsc;

use daybook_core::GivenAway;
use daybook_database::testing::{Backend, run, wait_for};
use daybook_database::{Location, Schema};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::postgres::Postgres;

/// Makes a test of one that is given a generation in its replay, and a connection of its own to its database.
macro_rules! on_postgres {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::on_copying(super::$test).await;
            }
        })+
    };
}

on_postgres!(
    a_copy_locks_the_table_before_the_ranges,
    who_gives_a_rebuild_up_waits_for_its_copy_and_no_longer,
    a_copy_that_dies_lets_go_of_everything,
    nobody_waits_for_a_lock_for_ever,
    a_copy_that_takes_longer_than_its_lease_keeps_it,
    who_takes_over_from_the_frozen_ends_their_copy,
    who_gives_a_rebuild_up_ends_the_copy_of_the_frozen,
);

/// The test's own connection.
type Beside = PgConnection;

async fn on_copying<F: Future<Output = ()> + Send + 'static>(test: fn(Arc<Ready>, Beside) -> F) {
    run(Backend::Postgres, &[Schema::Views], move |location, database| async move {
        let Location::Postgres(options) = location else { unreachable!("it was asked for") };
        let ready = Ready::begun(database, &table(), Phase::Replay).await;
        let beside = PgConnection::connect_with(&options).await.expect("the test server answers");
        test(Arc::new(ready), beside).await;
    })
    .await;
}

/// Has a copy take this long over each of its two documents that are slow.
async fn slow_down(beside: &mut Beside, seconds: f64) {
    let sql = format!(
        "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql \
            AS $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE INSERT ON view_orders_v1_g1 FOR EACH ROW WHEN (NEW.key LIKE 'slow%') \
            EXECUTE FUNCTION take_long()"
    );
    beside.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("it is slow from now on");
}

type Copy = JoinHandle<Result<bool, sqlx::Error>>;

fn copy(ready: &Arc<Ready>) -> Copy {
    let documents = ["a", "slow b", "c", "slow d"].map(|key| put(key, "{}"));
    copy_of(ready, ready.claim, Box::new(documents.into_iter().map(Ok)))
}

fn copy_of(ready: &Arc<Ready>, claim: Claim, documents: GivenAway) -> Copy {
    let ready = ready.clone();
    tokio::spawn(async move {
        let ranges = [claim];
        let commit = Commit { announced: false, ..ready.to_commit(&ranges, 0, 5, &[]) };
        ready.store.write_bulk(&commit, documents, true).await
    })
}

/// A copy that stands still, as that of a process that is frozen: both streams wait for what is next, until the first of
/// what is answered is dropped.
async fn frozen(ready: &Arc<Ready>, beside: &mut Beside) -> (mpsc::Sender<Changed>, Copy) {
    let (sender, documents) = mpsc::channel();
    sender.send(put("frozen", "{}")).expect("somebody listens");
    let copy = copy_of(ready, ready.claim, Box::new(documents.into_iter().map(Ok)));
    let waiting = "SELECT count(*) / 2 FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event = 'ClientRead' AND query LIKE 'COPY %' \
                     AND state = 'active'";
    until(beside, "both streams to wait", waiting).await;
    (sender, copy)
}

/// Lets the lease of `a` run out.
async fn run_out(ready: &Ready) {
    ready.store.renew("a", Duration::from_millis(1)).await.expect("renewed, for a moment");
    wait_for("the lease to run out", async || ready.progress().await.owner.is_none().then_some(())).await;
}

async fn ended(copy: Copy) {
    let refused = copy.await.expect("no panic").expect_err("it was ended");
    assert_eq!(fault(&refused), Fault::Unavailable, "{refused}");
}

/// Waits until there is something of what is counted.
async fn until(beside: &mut Beside, what: &str, counted: &'static str) {
    let beside = tokio::sync::Mutex::new(beside);
    wait_for(what, async || {
        let mut beside = beside.lock().await;
        let count: i64 = sqlx::query_scalar(counted).fetch_one(&mut **beside).await.expect("a number");
        (count > 0).then_some(())
    })
    .await;
}

async fn copying(beside: &mut Beside) {
    let asleep = "SELECT count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event = 'PgSleep' AND query LIKE 'COPY %'";
    until(beside, "the copy", asleep).await;
}

async fn give_up(ready: &Ready) -> Result<bool, sqlx::Error> {
    let seen = ready.store.generations("orders").await.expect("an answer").remove(0);
    ready.store.remove(&seen, &ready.table, Phase::Aborted).await
}

/// Giving up takes them in this order, too; whoever took them in another would wait for it, and it for them.
async fn a_copy_locks_the_table_before_the_ranges(ready: Arc<Ready>, mut beside: Beside) {
    let mut first = beside.begin().await.expect("a transaction");
    first.execute("LOCK TABLE view_orders_v1_g1 IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
    let copy = copy(&ready);
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'view_orders_v1_g1'::regclass AND NOT granted";
    until(&mut first, "the copy to wait", waiting).await;
    let ranges = "SELECT FROM view_ranges FOR UPDATE NOWAIT";
    first.execute(ranges).await.expect("nobody has the ranges");
    first.rollback().await.expect("the lock is given back");
    assert!(copy.await.expect("no panic").expect("an answer"));
    assert_eq!(ready.all(Selection::default()).await, ["a", "c", "slow b", "slow d"]);
}

async fn who_gives_a_rebuild_up_waits_for_its_copy_and_no_longer(ready: Arc<Ready>, mut beside: Beside) {
    slow_down(&mut beside, 0.3).await;
    let copy = copy(&ready);
    copying(&mut beside).await;
    assert!(give_up(&ready).await.expect("neither waits for the other"));
    assert!(copy.await.expect("no panic").expect("it was done before"));
    assert!(ready.store.board(ready.generation, "a", LONG).await.expect("an answer").is_none());
}

async fn a_copy_that_dies_lets_go_of_everything(ready: Arc<Ready>, mut beside: Beside) {
    slow_down(&mut beside, 0.3).await;
    let copy = copy(&ready);
    copying(&mut beside).await;
    copy.abort();
    assert!(copy.await.expect_err("it was ended").is_cancelled());
    // Somebody else begins from the beginning, or nobody.
    assert!(ready.store.empty(ready.generation, &ready.table, &[ready.claim]).await.expect("an answer"));
    assert!(ready.all(Selection::default()).await.is_empty());
    assert!(give_up(&ready).await.expect("nothing stands in its way"));
}

async fn nobody_waits_for_a_lock_for_ever(ready: Arc<Ready>, mut beside: Beside) {
    let mut frozen = beside.begin().await.expect("a transaction");
    frozen.execute("LOCK TABLE view_orders_v1_g1 IN ACCESS SHARE MODE").await.expect("the lock");
    let claims = [ready.claim];
    let both = async { tokio::join!(give_up(&ready), ready.store.empty(ready.generation, &ready.table, &claims)) };
    let (given_up, emptied) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither waits on");
    for refused in [given_up, emptied] {
        assert_eq!(fault(&refused.expect_err("it is locked")), Fault::Unavailable);
    }
    frozen.rollback().await.expect("the lock is given back");
    assert!(give_up(&ready).await.expect("it is as it was before"));
}

async fn a_copy_that_takes_longer_than_its_lease_keeps_it(ready: Arc<Ready>, mut beside: Beside) {
    run_out(&ready).await;
    let (go_on, copy) = frozen(&ready, &mut beside).await;
    // It gives a sign of life meanwhile.
    ready.store.renew("a", LONG).await.expect("nothing stands in its way");
    assert!(!ready.take("b", 1).await, "it is held");
    let refused = give_up(&ready).await.expect_err("whoever lives is not ended");
    assert_eq!(fault(&refused), Fault::Unavailable, "{refused}");
    assert!(!copy.is_finished(), "it waits for nothing but its documents");
    drop(go_on);
    assert!(copy.await.expect("no panic").expect("an answer"));
    assert_eq!(ready.progress().await.position, Position::new(5));
    assert_eq!(ready.all(Selection::default()).await, ["frozen"]);
}

async fn who_takes_over_from_the_frozen_ends_their_copy(ready: Arc<Ready>, mut beside: Beside) {
    let (thaw, copy) = frozen(&ready, &mut beside).await;
    run_out(&ready).await;
    assert!(ready.take("b", 1).await, "nobody locks the ranges");
    let claim = Claim { lease_epoch: 2, ..ready.claim };
    assert!(ready.store.empty(ready.generation, &ready.table, &[claim]).await.expect("nobody locks the table"));
    let another = copy_of(&ready, claim, Box::new(std::iter::once(Ok(put("b", "{}")))));
    assert!(another.await.expect("no panic").expect("an answer"));

    drop(thaw);
    ended(copy).await;
    assert!(!ready.store.empty(ready.generation, &ready.table, &[ready.claim]).await.expect("an answer"));
    assert!(!self::copy(&ready).await.expect("no panic").expect("an answer"), "its lease is lost");
    assert_eq!(ready.all(Selection::default()).await, ["b"]);
}

async fn who_gives_a_rebuild_up_ends_the_copy_of_the_frozen(ready: Arc<Ready>, mut beside: Beside) {
    let (thaw, copy) = frozen(&ready, &mut beside).await;
    run_out(&ready).await;
    assert!(give_up(&ready).await.expect("nothing stands in its way"));
    drop(thaw);
    ended(copy).await;
    assert!(ready.store.board(ready.generation, "a", LONG).await.expect("an answer").is_none());
}

/// As one would be that freezes while it puts a generation in the place of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_freezes_within_a_transaction_is_cut_off() {
    run(Backend::Postgres, &[Schema::Views], |_, database| freeze_within_a_transaction(database)).await;
}

async fn freeze_within_a_transaction(database: Database) {
    let ready = Ready::of_orders(database.clone()).await;
    let Database::Postgres(pool) = database else { unreachable!("it was asked for") };
    let ((frozen, is_frozen), (thaw, thawed)) = (oneshot::channel(), oneshot::channel::<()>());
    let transaction = tokio::spawn(async move {
        let store = Postgres(pool);
        let run = store.in_transaction(move |mut transaction| {
            Box::pin(async move {
                sqlx::query("SELECT FROM view_ranges FOR SHARE").execute(&mut *transaction).await?;
                let _ = frozen.send(());
                let _ = thawed.await;
                transaction.commit().await
            })
        });
        run.await
    });
    is_frozen.await.expect("it has the lock");
    assert!(ready.commit(&[ready.claim], 0, 5, &[]).await.expect("it was cut off"));
    drop(thaw);
    let refused = transaction.await.expect("no panic").expect_err("it was cut off");
    assert_eq!(fault(&refused), Fault::Unavailable, "{refused}");
}
