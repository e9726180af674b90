//! What the tests append, how they relay it, and how they read it back.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use daybook_core::{Metadata, RecordedEvent, StreamId};
use daybook_database::Database;
use daybook_database::testing::wait_for;
use daybook_kafka::{Published, Relay, Settings, Status, TopicSource};
use daybook_log::{Append, Checkpoint, Log, NewRecord, Source, Taken, Verdict};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

/// How many partitions the tests' topics have.
pub(crate) const PARTITIONS: u16 = 3;

/// How long a topic may take to hold what was published.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn open(database: &Database) -> Log {
    Log::open(database.clone(), daybook_log::Settings::default()).await.expect("the log opens")
}

/// A relay to a topic that all tests which name it share.
pub(crate) fn settings(brokers: &str, topic: &str) -> Settings {
    Settings {
        brokers: brokers.to_owned(),
        topic: topic.parse().expect("a name"),
        partitions: NonZeroU16::new(PARTITIONS).expect("some"),
        client: "topic.metadata.refresh.interval.ms=1000".parse().expect("settings"),
        process: "a test".to_owned(),
        lease: Duration::from_secs(1),
    }
}

pub(crate) fn start(log: &Log, database: &Database, settings: &Settings) -> Relay {
    Relay::start(log, database, settings.clone())
}

/// Appends events, one after the other, to seven streams in turn.
pub(crate) async fn append(log: &Log, count: usize) {
    for nth in 0..count {
        let command_id = Uuid::now_v7();
        let metadata = Metadata {
            actor: Some("ada".into()),
            client: None,
            command: "order.place".into(),
            command_id,
            causation_id: None,
            correlation_id: "one".into(),
            traceparent: None,
        };
        let event = NewRecord {
            stream: StreamId::new("order", nth % 7),
            id: Uuid::now_v7(),
            event_type: "order.placed".into(),
            schema_version: 1,
            payload: format!(r#"{{ "nth" : {nth} }}"#),
        };
        let append = Append {
            id: "1".into(),
            command_id,
            events: vec![event],
            metadata,
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        let verdict = log.append(append).await.expect("a verdict");
        assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    }
}

/// The only topic's status.
pub(crate) async fn status(database: &Database, log: &Log) -> Option<Status> {
    daybook_kafka::status(database, log).await.expect("the database answers").pop()
}

/// Waits until the whole log is published.
pub(crate) async fn published(database: &Database, log: &Log) -> Status {
    wait_for("the whole log to be published", || async {
        status(database, log).await.filter(|status| status.lag_events == 0)
    })
    .await
}

/// Waits until the relay says that something is in its way, and what.
pub(crate) async fn problem(database: &Database, log: &Log) -> String {
    wait_for("a problem", || async { status(database, log).await?.problem }).await
}

/// Runs a statement on the database itself.
pub(crate) async fn execute(database: &Database, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let done = match database {
        Database::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
        Database::Sqlite(file) => sqlx::raw_sql(sql).execute(file.writer()).await.map(drop),
    };
    done.expect("whoever owns the database can do anything");
}

/// Takes the log back to where it ended at a position.
pub(crate) async fn roll_back(database: &Database, position: u64) {
    let delete = format!("DELETE FROM events WHERE position > {position}");
    let [before, after] = match database {
        Database::Postgres(_) => [
            "ALTER TABLE events DISABLE TRIGGER events_never_change",
            "ALTER TABLE events ENABLE ALWAYS TRIGGER events_never_change",
        ],
        Database::Sqlite(_) => ["DROP TRIGGER IF EXISTS events_never_delete", "SELECT 1"],
    };
    for statement in [before, &delete, after] {
        execute(database, statement).await;
    }
}

/// The messages of a topic, partition by partition, up to where a reader of committed ones sees it end at this moment.
pub(crate) async fn read(brokers: &str, topic: &str) -> Vec<Vec<Published>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_blocking(&brokers, &topic)).await.expect("no panic")
}

/// Reads a source behind a checkpoint, up to where the log ends.
pub(crate) async fn read_source(source: &TopicSource, log: &Log, behind: &Checkpoint) -> Vec<RecordedEvent> {
    let since = log.event(behind.position).await.expect("the log answers").map(|event| event.recorded_at);
    let end = log.head().await.expect("the log answers").position;
    let (mut tail, mut events) = (source.open(behind, since), Vec::<RecordedEvent>::new());
    let limit = Instant::now() + READ_LIMIT;
    loop {
        let at = events.last().map_or(behind.position, |event| event.position);
        if at == end {
            return events;
        }
        match tail.take(at, end, 10) {
            Taken::Events(more) => events.extend(more),
            Taken::Opening(_) | Taken::Nothing { .. } => {
                let _ = tokio::time::timeout(Duration::from_secs(1), tail.arrived()).await;
            }
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < limit, "it does not come further than {at}");
    }
}

/// The line of an event.
pub(crate) fn lines(events: &[RecordedEvent]) -> Vec<String> {
    events.iter().map(|event| serde_json::to_string(event).expect("JSON")).collect()
}

fn read_blocking(brokers: &str, topic: &str) -> Vec<Vec<Published>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), READ_LIMIT).expect("the brokers answer");
    let count = metadata.topics()[0].partitions().len();
    let mut from = TopicPartitionList::new();
    for partition in 0..count {
        from.add_partition_offset(topic, partition as i32, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&from).expect("assigned");
    let mut messages: Vec<Vec<Published>> = (0..count).map(|_| Vec::new()).collect();
    let (mut ended, end) = (HashSet::new(), Instant::now() + READ_LIMIT);
    while ended.len() < count {
        assert!(Instant::now() < end, "the topic has no end");
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => panic!("the topic cannot be read: {error}"),
            Some(Ok(message)) => {
                let headers = message.headers().expect("headers");
                let headers = headers.iter().map(|header| (header.key, header.value));
                let read = Published::read(message.key(), message.payload(), headers).expect("an event");
                assert_eq!(message.timestamp().to_millis(), Some(read.event.recorded_at.timestamp_millis()));
                messages[message.partition() as usize].push(read);
            }
        }
    }
    messages
}

/// The whole log lies in the topic, to the byte, and each stream's first occurrences are in its order.
pub(crate) async fn assert_holds(topic: &[Vec<Published>], log: &Log) {
    let mut first: BTreeMap<u64, &RecordedEvent> = BTreeMap::new();
    for partition in topic {
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for Published { origin, event } in partition {
            let head = log.head().await.expect("the log answers");
            assert_eq!(origin.log_id, head.log_id);
            let revision = event.revision.get();
            let newest = newest.entry(event.stream.as_str()).or_default();
            assert!(
                revision <= *newest + 1,
                "{} comes too early: revision {revision} behind {newest}",
                event.stream
            );
            *newest = revision.max(*newest);
            first.entry(event.position.get()).or_insert(event);
        }
    }
    let line = |event: &RecordedEvent| serde_json::to_string(event).expect("JSON");
    let all = log.read(daybook_core::Position::START, 10_000).await.expect("the log answers");
    assert_eq!(first.len(), all.len(), "every position is published");
    for event in &all {
        assert_eq!(line(first[&event.position.get()]), line(event));
    }
}

/// How many messages there are.
pub(crate) fn count(topic: &[Vec<Published>]) -> usize {
    topic.iter().map(Vec::len).sum()
}
