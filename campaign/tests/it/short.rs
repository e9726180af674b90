//! A short campaign on each store. The long ones are `cargo xtask campaign log`.

use std::time::Duration;

use daybook_campaign::drive::{self, Backend, Plan, Summary};

const SEED: u64 = 1;

async fn campaign(backend: Backend, faults: u64) -> Summary {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = Plan {
        backend,
        server_url: std::env::var("DATABASE_URL").ok(),
        crash: false,
        disk: None,
        journals: folder.path().to_owned(),
        binary: env!("CARGO_BIN_EXE_daybook-campaign").into(),
        seed: SEED,
        faults,
        time_limit: Some(Duration::from_secs(30)),
        writers: 3,
        clients: 4,
        lock_timeout: Duration::from_millis(500),
    };
    let summary = drive::run(&plan).await.expect("it can be run");
    if !summary.succeeded() {
        let kept = folder.keep();
        panic!("{summary}What everybody noted down is in {}.", kept.display());
    }
    // A campaign in which nothing happens proves nothing.
    assert_eq!(summary.faults(), faults, "{summary}");
    assert!(summary.counts.acknowledged > faults && summary.counts.refused > faults, "{summary}");
    summary
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_its_word_on_postgres() {
    campaign(Backend::Postgres, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_its_word_on_sqlite() {
    campaign(Backend::Sqlite, 25).await;
}
