//! A short campaign of Kafka, whose broker others use, too, and nobody disturbs. The long ones, which do, are
//! `cargo xtask campaign kafka`.

use daybook_campaign::kafka::drive::{self, Broker, Plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_holds_the_log_whatever_happens_to_the_relays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let given =
        |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: `cargo xtask test` sets it"));
    let plan = Plan {
        server_url: given("DATABASE_URL"),
        broker: Broker { address: given("KAFKA_BROKERS"), detour: None, process: None },
        notes: folder.path().to_owned(),
        binary: env!("CARGO_BIN_EXE_daybook-campaign").into(),
        seed: 4,
        faults: 8,
    };
    let summary = drive::run(&plan).await.expect("it can be run");
    if !summary.succeeded() {
        let kept = folder.keep();
        panic!("{summary}What everybody noted down is in {}.", kept.display());
    }
}
