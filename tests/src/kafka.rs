//! A topic of a test's own, on the brokers of `KAFKA_BROKERS`.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use uuid::Uuid;

use crate::{Daybook, wait_for};

/// How long the brokers may take to answer, and a topic to hold what is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// A topic, which goes when this is dropped. Whoever publishes makes it.
#[derive(Debug)]
pub struct Topic {
    name: String,
}

/// A message of a topic.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it lies.
    pub partition: i32,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its time, in milliseconds since 1970.
    pub timestamp: i64,
}

impl Record {
    /// A header.
    ///
    /// # Panics
    ///
    /// When it has not got it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("there is no header `{name}`: {self:?}"))
    }

    /// The position of its event.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub fn position(&self) -> u64 {
        self.header("ce_sequence").parse().expect("a position")
    }

    /// All that it consists of.
    pub fn bytes(&self) -> Vec<u8> {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        format!("{}\n{}\n{}", self.key, self.value, headers.collect::<String>()).into_bytes()
    }

    /// The line of its event, as `daybook events tail --json` prints it.
    pub fn line(&self) -> String {
        format!(
            r#"{{"position":{},"stream":"{}","revision":{},"id":"{}","type":"{}","schema_version":{},"recorded_at":"{}","metadata":{},"payload":{}}}"#,
            self.header("ce_sequence"),
            self.key,
            self.header("ce_revision"),
            self.header("ce_id"),
            self.header("ce_type"),
            self.header("ce_schemaversion"),
            self.header("ce_time"),
            self.header("ce_metadata"),
            self.value,
        )
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self { name: format!("daybook-it-{}", Uuid::now_v7().simple()) }
    }
}

impl Topic {
    /// The brokers.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn brokers() -> String {
        std::env::var("KAFKA_BROKERS")
            .expect("KAFKA_BROKERS is not set: `cargo xtask test` starts a Kafka and sets it")
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings of whoever publishes to it, behind `args`.
    pub fn published_by<'a>(&'a self, args: &[&'a str], brokers: &'a str) -> Vec<&'a str> {
        [args, &["--kafka-brokers", brokers, "--kafka-topic", &self.name, "--kafka-partitions", "3"]].concat()
    }

    /// All committed messages, each partition's in its order.
    ///
    /// # Panics
    ///
    /// When the brokers do not answer.
    pub async fn read(&self) -> Vec<Record> {
        let name = self.name.clone();
        tokio::task::spawn_blocking(move || read(&name)).await.expect("no panic")
    }

    /// Writes messages past whoever publishes, each to its partition.
    ///
    /// # Panics
    ///
    /// When the brokers do not take them.
    pub async fn publish(&self, records: Vec<Record>) {
        let name = self.name.clone();
        let publishing = tokio::task::spawn_blocking(move || {
            let producer: BaseProducer = client().create().expect("a producer");
            for Record { partition, key, value, headers, timestamp } in &records {
                let insert = |all: OwnedHeaders, (key, value): (&String, &String)| {
                    all.insert(Header { key, value: Some(value.as_str()) })
                };
                let record = BaseRecord::to(&name).partition(*partition).timestamp(*timestamp);
                let record = record.headers(headers.iter().fold(OwnedHeaders::new(), insert));
                let sent = producer.send(record.key(key).payload(value));
                sent.map_err(|(error, _)| error).expect("there is room");
            }
            producer.flush(LIMIT).expect("the brokers answer");
        });
        publishing.await.expect("no panic");
    }

    /// Deletes all messages that there are, as time does.
    ///
    /// # Panics
    ///
    /// When the brokers do not do so.
    pub async fn delete_all(&self) {
        let mut all = TopicPartitionList::new();
        let partitions: HashSet<i32> = self.read().await.iter().map(|record| record.partition).collect();
        for partition in partitions {
            all.add_partition_offset(&self.name, partition, Offset::End).expect("an offset");
        }
        let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
        admin.delete_records(&all, &AdminOptions::new()).await.expect("the brokers answer");
    }

    /// All committed messages, once the whole log of a server is among them.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub async fn holding_all_of(&self, daybook: &Daybook) -> Vec<Record> {
        let status = daybook.cli(&["status", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
        let end = status["log"]["position"].as_u64().expect("a position");
        wait_for("the whole log to be in the topic", LIMIT, async || {
            let records = self.read().await;
            let positions: HashSet<u64> = records.iter().map(Record::position).collect();
            (1..=end).all(|position| positions.contains(&position)).then_some(records)
        })
        .await
    }
}

impl Drop for Topic {
    /// On a thread with a runtime of its own: a test's runtime cannot be waited on from within.
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        let removing = std::thread::spawn(move || {
            let admin: AdminClient<DefaultClientContext> = client().create().ok()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(admin.delete_topics(&[&name], &AdminOptions::new())).ok()
        });
        // It may be that nobody made it.
        let _ = removing.join();
    }
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Topic::brokers());
    config
}

fn read(topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = client()
        .set("group.id", topic)
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("the brokers answer");
    let partitions = metadata.topics().first().map_or(0, |found| found.partitions().len());
    let mut from = TopicPartitionList::new();
    for partition in (0..).take(partitions) {
        from.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&from).expect("assigned");
    let (mut records, mut ended, end) = (Vec::new(), HashSet::new(), Instant::now() + LIMIT);
    while ended.len() < partitions {
        assert!(Instant::now() < end, "the topic {topic} has no end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => panic!("the topic {topic} cannot be read: {error}"),
            Some(Ok(message)) => {
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8(bytes.expect("it is there").to_vec()).expect("it is a text")
                };
                let headers = message.headers().expect("there are headers");
                records.push(Record {
                    partition: message.partition(),
                    key: text(message.key()),
                    value: text(message.payload()),
                    headers: headers.iter().map(|one| (one.key.to_owned(), text(one.value))).collect(),
                    timestamp: message.timestamp().to_millis().expect("a time"),
                });
            }
        }
    }
    records
}
