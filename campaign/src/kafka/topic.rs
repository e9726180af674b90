//! The topic, as a reader of committed messages sees it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daybook_kafka::Published;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long the topic may take to be read to its end.
const LIMIT: Duration = Duration::from_secs(60);

/// The messages, partition by partition.
pub(super) fn read(brokers: &str, topic: &str) -> anyhow::Result<Vec<Vec<Published>>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "daybook-campaign")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
    let count = metadata.topics().first().context("the topic is there")?.partitions().len();
    let mut from = TopicPartitionList::new();
    for partition in (0..).take(count) {
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&from)?;
    let mut messages: Vec<Vec<Published>> = (0..count).map(|_| Vec::new()).collect();
    let (mut ended, end) = (HashSet::new(), Instant::now() + LIMIT);
    while ended.len() < count {
        ensure!(Instant::now() < end, "the topic has no end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(message) => {
                let message = message?;
                let headers = message.headers().context("a message has headers")?;
                let headers = headers.iter().map(|header| (header.key, header.value));
                let partition = usize::try_from(message.partition())?;
                messages[partition].push(Published::read(message.key(), message.payload(), headers)?);
            }
        }
    }
    Ok(messages)
}
