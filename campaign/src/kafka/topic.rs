//! The topic, as a reader of committed messages sees it who follows it, and removes what it has read.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daybook_kafka::{Published, TopicName};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long the topic may take to be read to its end.
const LIMIT: Duration = Duration::from_secs(60);

/// A topic, and what was read of it.
pub(super) struct Topic {
    client: ClientConfig,
    name: TopicName,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    messages: Vec<Published>,
    /// The offset behind them.
    next: i64,
}

impl Topic {
    /// Nothing is read of it yet.
    pub(super) fn new(brokers: &str, name: &TopicName) -> Self {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        Self { client, name: name.clone(), partitions: Vec::new() }
    }

    /// All that was read, partition by partition.
    pub(super) fn messages(&self) -> Vec<&[Published]> {
        self.partitions.iter().map(|partition| &*partition.messages).collect()
    }

    /// Reads what has come since the last time, at least up to where it ends now. Blocks.
    pub(super) fn read_on(&mut self) -> anyhow::Result<()> {
        let consumer: BaseConsumer = self
            .client
            .clone()
            .set("group.id", "daybook-campaign")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            // It is read before it is removed.
            .set("auto.offset.reset", "error")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(self.name.as_str()), LIMIT)?;
        let count = metadata.topics().first().context("the topic is there")?.partitions().len();
        self.partitions.resize_with(count, Partition::default);
        let mut ends = Vec::new();
        for partition in (0..).take(count) {
            ends.push(consumer.fetch_watermarks(self.name.as_str(), partition, LIMIT)?.1);
        }
        consumer.assign(&self.read()?)?;
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
                    let number = usize::try_from(message.partition())?;
                    let partition = &mut self.partitions[number];
                    partition.messages.push(Published::read(message.key(), message.payload(), headers)?);
                    partition.next = message.offset() + 1;
                    // As long as more comes, nobody says that it ends.
                    if partition.next >= ends[number] {
                        ended.insert(message.partition());
                    }
                }
            }
        }
        Ok(())
    }

    /// Has the broker remove all messages that were read, as it does when they are older than they are kept.
    pub(super) async fn expire(&self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client.create()?;
        let options = AdminOptions::new().operation_timeout(Some(LIMIT));
        let removed = admin.delete_records(&self.read()?, &options).await?;
        removed.elements().iter().try_for_each(|partition| Ok(partition.error()?))
    }

    /// Up to where it was read.
    fn read(&self) -> anyhow::Result<TopicPartitionList> {
        let mut read = TopicPartitionList::new();
        for (number, partition) in (0..).zip(&self.partitions) {
            read.add_partition_offset(self.name.as_str(), number, Offset::Offset(partition.next))?;
        }
        Ok(read)
    }
}
