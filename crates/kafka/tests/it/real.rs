//! Against the broker of `KAFKA_BROKERS`.

use daybook_database::{Database, Location, on_both};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use uuid::Uuid;

use crate::fixture::*;

on_both!(&[Schema::Log], a_topic_that_is_missing_is_made, what_is_committed_is_the_whole_log);

pub(crate) fn brokers() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: `cargo xtask test` starts a Kafka and sets it")
}

/// A topic of a test's own, which is not there yet.
pub(crate) fn topic() -> String {
    format!("daybook-test-{}", Uuid::now_v7().simple())
}

pub(crate) async fn remove(topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    admin.delete_topics(&[topic], &AdminOptions::new()).await.expect("the brokers answer");
}

async fn a_topic_that_is_missing_is_made(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let relay = start(&log, &database, &settings(&brokers(), &topic));
    append(&log, 3).await;
    assert_eq!(published(&database, &log).await.partitions, Some(PARTITIONS));
    relay.stop().await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let specifier = ResourceSpecifier::Topic(&topic);
    let described = admin.describe_configs([&specifier], &AdminOptions::new());
    let described = described.await.expect("the brokers answer").remove(0).expect("a topic");
    let of = |name| described.get(name).and_then(|entry| entry.value.clone());
    assert_eq!(of("message.timestamp.type").as_deref(), Some("CreateTime"));
    assert_eq!(of("max.message.bytes").as_deref(), Some("1048588"));
    remove(&topic).await;
}

async fn what_is_committed_is_the_whole_log(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    append(&log, 100).await;
    for _ in 0..3 {
        let relay = start(&log, &database, &settings(&brokers(), &topic));
        append(&log, 30).await;
        published(&database, &log).await;
        relay.stop().await;
    }
    let read = read(&brokers(), &topic).await;
    assert_holds(&read, &log).await;
    assert_eq!(count(&read), 190, "nothing twice");
    remove(&topic).await;
}
