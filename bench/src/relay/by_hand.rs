//! The least that publishing a log has to do: the same messages, which lie in memory, handed to librdkafka by a producer
//! that is idempotent, and waits for no transaction. What `relay` is compared with.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{ArgMatches, Command};
use daybook_kafka::{Message, Origin};
use daybook_log::Log;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use super::{admin, remove, settings, store};
use crate::{arguments, process};

/// How many events are read at a time.
const PAGE: usize = 2_000;

/// How long the last messages may take.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn command() -> Command {
    Command::new("relay-by-hand").about("Publishes a filled log to a new topic by hand").args(store())
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let settings = settings(arguments)?;
    let messages = prepare(arguments).await?;
    let topic = settings.topic.as_str();
    let new = NewTopic::new(topic, i32::from(settings.partitions.get()), TopicReplication::Fixed(-1));
    let made = admin(&settings)?.create_topics([&new], &AdminOptions::new()).await?;
    made.into_iter().next().context("one topic was named")?.map_err(|(_, error)| error)?;
    let computed = process::cpu_s(None);
    let begun = Instant::now();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &settings.brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("delivery.report.only.error", "true")
        .create()?;
    for message in &messages {
        send(&producer, topic, message)?;
    }
    producer.flush(LIMIT)?;
    let seconds = begun.elapsed().as_secs_f64();
    let computed = process::cpu_s(None).zip(computed).map(|(after, before)| after - before);
    let mut ends = 0;
    for partition in 0..i32::from(settings.partitions.get()) {
        ends += producer.client().fetch_watermarks(topic, partition, LIMIT)?.1;
    }
    ensure!(usize::try_from(ends)? == messages.len(), "{ends} messages are there, of {}", messages.len());
    drop(producer);
    remove(&settings).await?;
    Ok(json!({
        "per_second": messages.len() as f64 / seconds,
        "cpu_s": computed,
        "peak_mib": process::memory_mib(None, "VmHWM"),
    }))
}

/// A message, ready to be sent. Its texts are one, so that a million of them have room.
struct Prepared {
    timestamp: i64,
    text: Box<str>,
    /// How long key and value are; the headers follow.
    key: u32,
    value: u32,
    headers: Box<[(&'static str, u32)]>,
}

impl Prepared {
    fn new(message: &Message<'_>) -> anyhow::Result<Self> {
        let mut text = [message.key, message.value].concat();
        let mut headers = Vec::with_capacity(message.headers.len());
        for (name, value) in &message.headers {
            text.push_str(value);
            headers.push((*name, u32::try_from(value.len())?));
        }
        Ok(Self {
            timestamp: message.timestamp,
            text: text.into(),
            key: u32::try_from(message.key.len())?,
            value: u32::try_from(message.value.len())?,
            headers: headers.into(),
        })
    }
}

async fn prepare(arguments: &ArgMatches) -> anyhow::Result<Vec<Prepared>> {
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await?;
    let head = log.head().await?;
    let origin = Origin { log_id: head.log_id, epoch: head.epoch };
    let mut messages = Vec::with_capacity(usize::try_from(head.position.get())?);
    let mut scan = log.scan(&log.checkpoint(&head, None), PAGE);
    while let Some(page) = scan.next().await? {
        for event in &page {
            messages.push(Prepared::new(&Message::new(event, &origin))?);
        }
    }
    log.close().await;
    database.close().await;
    Ok(messages)
}

fn send(producer: &BaseProducer, topic: &str, message: &Prepared) -> anyhow::Result<()> {
    let (key, rest) = message.text.split_at(message.key as usize);
    let (value, mut rest) = rest.split_at(message.value as usize);
    let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
    for (name, length) in &*message.headers {
        let (value, others) = rest.split_at(*length as usize);
        headers = headers.insert(Header { key: name, value: Some(value) });
        rest = others;
    }
    let mut record = BaseRecord::to(topic).key(key).payload(value).timestamp(message.timestamp).headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((error, _)) => bail!("a message was refused: {error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
        producer.poll(Duration::ZERO);
    }
}
