//! A short campaign of the views on each store. The long ones are `cargo xtask campaign views`.

use daybook_campaign::drive::Backend;
use daybook_campaign::views::drive::{self, Plan};

async fn campaign(backend: Backend) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plan = Plan {
        backend,
        server_url: std::env::var("DATABASE_URL").ok(),
        notes: folder.path().to_owned(),
        binary: env!("CARGO_BIN_EXE_daybook-campaign").into(),
        seed: 4,
        faults: 12,
        processes: 3,
    };
    let summary = drive::run(&plan).await.expect("it can be run");
    if !summary.succeeded() {
        let kept = folder.keep();
        panic!("{summary}What everybody noted down is in {}.", kept.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_keep_their_word_on_postgres() {
    campaign(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_keep_their_word_on_sqlite() {
    campaign(Backend::Sqlite).await;
}
