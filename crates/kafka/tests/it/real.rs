//! Against the broker of `KAFKA_BROKERS`.

use std::time::Duration;

use daybook_core::Position;
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, on_both};
use daybook_kafka::{Message, Origin};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, Producer};
use uuid::Uuid;

use crate::fixture::*;

on_both!(
    &[Schema::Log],
    a_topic_that_is_missing_is_made,
    what_is_committed_is_the_whole_log,
    what_another_one_may_still_send_is_shut_out,
    more_partitions_tear_no_stream_apart,
    a_topic_that_is_compacted_is_refused,
    what_one_sends_late_is_refused_by_the_broker,
);

pub(crate) fn brokers() -> String {
    std::env::var("KAFKA_BROKERS")
        .expect("KAFKA_BROKERS is not set: `cargo xtask test` starts a Kafka and sets it")
}

/// A topic of a test's own, which is not there yet.
pub(crate) fn topic() -> String {
    format!("daybook-test-{}", Uuid::now_v7().simple())
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client")
}

pub(crate) async fn make(topic: NewTopic<'_>) {
    let made = admin().create_topics([&topic], &AdminOptions::new()).await.expect("the brokers answer").remove(0);
    made.expect("it is made");
}

pub(crate) async fn remove(topic: &str) {
    admin().delete_topics(&[topic], &AdminOptions::new()).await.expect("the brokers answer");
}

async fn a_topic_that_is_missing_is_made(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let relay = start(&log, &database, &settings(&brokers(), &topic));
    append(&log, 3).await;
    assert_eq!(published(&database, &log).await.partitions, Some(PARTITIONS));
    relay.stop().await;
    let specifier = ResourceSpecifier::Topic(&topic);
    let described_by = admin();
    let described = described_by.describe_configs([&specifier], &AdminOptions::new());
    let described = described.await.expect("the brokers answer").remove(0).expect("a topic");
    let of = |name| described.get(name).and_then(|entry| entry.value.clone());
    let policy = described.get("cleanup.policy").expect("it has one");
    assert_eq!((policy.value.as_deref(), &policy.source), (Some("delete"), &ConfigSource::DynamicTopic));
    assert_eq!(of("message.timestamp.type").as_deref(), Some("CreateTime"));
    assert_eq!(of("message.timestamp.after.max.ms").as_deref(), Some("9223372036854775807"));
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

async fn what_another_one_may_still_send_is_shut_out(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    append(&log, 10).await;
    let relay = start(&log, &database, &settings(&brokers(), &topic));
    published(&database, &log).await;
    relay.stop().await;
    let head = log.head().await.expect("the log answers");
    let origin = Origin { log_id: head.log_id, epoch: head.epoch };
    let event = log.event(head.position).await.expect("the log answers").expect("the newest event");
    let limit = Duration::from_secs(20);
    let id = format!("daybook-{}-{topic}", head.log_id);
    let name = topic.clone();
    // As if it had been frozen within a transaction, whosever turn that was.
    let freezing = tokio::task::spawn_blocking(move || {
        let message = Message::new(&event, &origin);
        [id.clone(), format!("{id}:2")].map(|id| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers()).set("transactional.id", id);
            let producer: BaseProducer = config.create().expect("a producer");
            producer.init_transactions(limit).expect("the brokers answer");
            producer.begin_transaction().expect("begun");
            producer.send(message.record(&name)).map_err(|(error, _)| error).expect("taken");
            producer.flush(limit).expect("acknowledged");
            producer
        })
    });
    let frozen = freezing.await.expect("no panic");
    append(&log, 5).await;
    let relay = start(&log, &database, &settings(&brokers(), &topic));
    published(&database, &log).await;
    let thawing = tokio::task::spawn_blocking(move || frozen.map(|producer| producer.commit_transaction(limit)));
    for committed in thawing.await.expect("no panic") {
        assert!(committed.is_err(), "it was shut out");
    }
    relay.stop().await;
    let read = read(&brokers(), &topic).await;
    assert_holds(&read, &log).await;
    assert_eq!(count(&read), 15, "nothing twice");
    remove(&topic).await;
}

/// They are added while it publishes, and librdkafka hears of them within a second.
async fn more_partitions_tear_no_stream_apart(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let relay = start(&log, &database, &settings(&brokers(), &topic));
    append(&log, 7).await;
    published(&database, &log).await;
    let more = NewPartitions::new(&topic, 12);
    admin()
        .create_partitions([&more], &AdminOptions::new())
        .await
        .expect("the brokers answer")
        .remove(0)
        .expect("made");
    let said = wait_for("it to be noticed", async || {
        append(&log, 7).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        status(&database, &log).await?.problem
    })
    .await;
    assert!(said.contains("has 12 partitions, and had 3"), "{said}");
    relay.stop().await;
    let read = read(&brokers(), &topic).await;
    assert!(count(&read[..3]) > 7 && count(&read[3..]) == 0, "{read:?}");
    remove(&topic).await;
}

/// Of each stream, the newest event would be left.
async fn a_topic_that_is_compacted_is_refused(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let new = NewTopic::new(&topic, PARTITIONS.into(), TopicReplication::Fixed(1));
    make(new.set("cleanup.policy", "compact,delete")).await;
    append(&log, 3).await;
    let relay = start(&log, &database, &settings(&brokers(), &topic));
    let said = problem(&database, &log).await;
    assert!(said.contains("`cleanup.policy` of compact,delete"), "{said}");
    relay.stop().await;
    assert_eq!(count(&read(&brokers(), &topic).await), 0);
    remove(&topic).await;
}

/// One has begun a transaction and holds its messages back, as if it were frozen, while another one takes over. Its lease is not
/// looked at before it commits, so only the broker stands in the way.
async fn what_one_sends_late_is_refused_by_the_broker(_: Location, database: Database) {
    const HELD_BACK: Duration = Duration::from_secs(5);
    let (log, topic) = (open(&database).await, topic());
    make(NewTopic::new(&topic, PARTITIONS.into(), TopicReplication::Fixed(1))).await;
    append(&log, 5).await;
    let settings = settings(&brokers(), &topic);
    let mut late = settings.clone();
    late.client = format!("linger.ms={}", HELD_BACK.as_millis()).parse().expect("a setting");
    late.lease = Duration::from_secs(3600);
    let late = start(&log, &database, &late);
    let owner = wait_for("somebody to publish", async || status(&database, &log).await?.owner).await;
    tokio::time::sleep(HELD_BACK / 5).await;
    execute(&database, "UPDATE relays SET lease_owner = NULL, lease_until = NULL").await;
    let other = start(&log, &database, &settings);
    assert_ne!(published(&database, &log).await.owner, Some(owner));
    assert_eq!(*late.acknowledged().borrow(), Position::START, "it is still held back");
    tokio::time::sleep(HELD_BACK * 2).await;
    assert_eq!(*late.acknowledged().borrow(), Position::START, "it is refused");
    late.stop().await;
    other.stop().await;
    let read = read(&brokers(), &topic).await;
    assert_holds(&read, &log).await;
    assert_eq!(count(&read), 5, "nothing of the first one's");
    remove(&topic).await;
}
