//! On SQLite, where one writes at a time, the first documents of a rebuild go piece by piece: others come in between, and
//! nothing is left of what was not written to its end.

use std::sync::mpsc;

use daybook_database::testing::{Backend, run};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// More documents than go at a time.
const MANY: usize = 6_000;

/// Others wait no longer than this.
const SOON: Duration = Duration::from_secs(2);

/// A part of which a piece was written, and which waits for what is next, until what is answered is dropped.
async fn half_written(built: &Arc<Ready>) -> (mpsc::Sender<Changed>, JoinHandle<Result<bool, sqlx::Error>>) {
    let (sender, documents) = mpsc::channel();
    (0..MANY).for_each(|nth| sender.send(put(&format!("k{nth}"), "{}")).expect("somebody listens"));
    let ready = built.clone();
    let writing = tokio::spawn(async move {
        let ranges = [ready.claim];
        let commit = Commit { announced: false, ..ready.to_commit(&ranges, 0, 5, &[]) };
        ready.store.write_bulk(&commit, Box::new(documents.into_iter().map(Ok)), true).await
    });
    let piece = async { while built.all(Selection::default()).await.is_empty() {} };
    timeout(10 * SOON, piece).await.expect("others see a piece before all is there");
    (sender, writing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_write_while_a_part_is_written() {
    run(Backend::Sqlite, &[Schema::Views], |_, database| others_write(database)).await;
}

async fn others_write(database: Database) {
    let served = Ready::of_orders(database.clone()).await;
    let built = Arc::new(Ready::begun(database, &table(), Phase::Replay).await);
    let (more, writing) = half_written(&built).await;
    for to in 1..20 {
        let ranges = [served.claim];
        let written = timeout(SOON, served.commit(&ranges, to - 1, to, &[put("k", "{}")])).await;
        assert!(written.expect("it does not wait").expect("an answer"));
        timeout(SOON, served.store.renew("a", LONG)).await.expect("nor does this").expect("an answer");
    }
    assert_eq!(built.progress().await.position, Position::START, "it is not to be gone on from");
    drop(more);
    assert!(writing.await.expect("no panic").expect("an answer"));
    assert_eq!(built.progress().await.position, Position::new(5));
    let keys: Vec<String> = (0..MANY).map(|nth| format!("k{nth}")).collect();
    assert_eq!(built.store.stored(&built.table, &keys).await.expect("an answer").len(), MANY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_of_a_part_that_was_not_written_to_its_end() {
    run(Backend::Sqlite, &[Schema::Views], |_, database| nothing_stays(database)).await;
}

async fn nothing_stays(database: Database) {
    let built = Arc::new(Ready::begun(database, &table(), Phase::Replay).await);
    let (more, writing) = half_written(&built).await;
    built.store.renew("a", Duration::from_millis(1)).await.expect("renewed, for a moment");
    let taken = async { while !built.take("b", 1).await {} };
    timeout(SOON, taken).await.expect("it runs out");
    let claim = Claim { lease_epoch: 2, ..built.claim };
    assert!(built.store.empty(built.generation, &built.table, &[claim]).await.expect("an answer"));
    assert!(!built.store.empty(built.generation, &built.table, &[built.claim]).await.expect("an answer"));
    // Whoever does not know that it lost its lease writes nothing more.
    drop(more);
    assert!(!writing.await.expect("no panic").expect("an answer"));
    assert!(built.all(Selection::default()).await.is_empty());
}
