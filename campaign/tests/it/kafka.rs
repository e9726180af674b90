//! A short campaign of Kafka on each store, whose broker others use, too, and nobody disturbs. The long ones, which do, are
//! `cargo xtask campaign kafka`.

use daybook_campaign::drive::Backend;
use daybook_campaign::kafka::drive::{self, Broker, Plan};

async fn campaign(backend: Backend) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = std::env::var("KAFKA_BROKERS").expect("KAFKA_BROKERS is not set: `cargo xtask test` sets it");
    let plan = Plan {
        backend,
        server_url: std::env::var("DATABASE_URL").ok(),
        broker: Broker { address, detour: None, process: None },
        notes: folder.path().to_owned(),
        binary: env!("CARGO_BIN_EXE_daybook-campaign").into(),
        seed: 4,
        // Each that there can be once.
        faults: 9,
    };
    let summary = drive::run(&plan).await.expect("it can be run");
    if !summary.succeeded() {
        let kept = folder.keep();
        panic!("{summary}What everybody noted down is in {}.", kept.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_and_read_is_the_log_on_postgres() {
    campaign(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_and_read_is_the_log_on_sqlite() {
    campaign(Backend::Sqlite).await;
}
