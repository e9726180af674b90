//! A topic that is read instead of the log.

use std::time::Duration;

use daybook_core::{Position, RecordedEvent};
use daybook_database::{Database, Location, on_both};
use daybook_kafka::{Message, Origin, TopicSource, backup};
use daybook_log::{Checkpoint, Head, Log, Source, Tail, Taken};
use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, Producer};
use uuid::Uuid;

use crate::fixture::*;
use crate::mocked::Cluster;
use crate::real::{brokers, make, remove, topic};

on_both!(
    &[Schema::Log],
    what_is_read_is_the_log,
    what_is_compressed_is_read,
    what_is_no_event_of_the_log_is_passed_over,
    what_cannot_be_read_is_a_hole,
    the_newest_event_is_found_however_far_back_it_lies,
    a_topic_that_is_missing_is_no_source,
    brokers_that_go_away_keep_nobody_waiting,
    once_brokers_are_back_all_go_on,
);

async fn all(log: &Log) -> Vec<RecordedEvent> {
    log.read(Position::START, 10_000).await.expect("the log answers")
}

fn behind(head: &Head, event: Option<&RecordedEvent>) -> Checkpoint {
    Checkpoint {
        log_id: head.log_id,
        epoch: head.epoch,
        position: event.map_or(Position::START, |event| event.position),
        event_id: event.map_or(Uuid::nil(), |event| event.id),
    }
}

/// Publishes messages past the relay, the last of which is there when this is done.
async fn produce(topic: &str, messages: Vec<(RecordedEvent, Origin)>, is_readable: bool) {
    let topic = topic.to_owned();
    let producing = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a producer");
        for (event, origin) in &messages {
            let message = Message::new(event, origin);
            let mut record = message.record(&topic);
            if !is_readable {
                record = record.headers(OwnedHeaders::new());
            }
            producer.send(record).map_err(|(error, _)| error).expect("taken");
        }
        producer.flush(Duration::from_secs(20)).expect("acknowledged");
    });
    producing.await.expect("no panic");
}

/// What is said to be there once it is known.
async fn taken(tail: &mut dyn Tail, after: u64, through: u64) -> Taken {
    let mut said = Taken::Failed("nothing".to_owned());
    for _ in 0..200 {
        said = tail.take(Position::new(after), Position::new(through), 100);
        match said {
            Taken::Opening(_) | Taken::Nothing { is_at_end: false, .. } => {
                let _ = tokio::time::timeout(Duration::from_millis(100), tail.arrived()).await;
            }
            known => return known,
        }
    }
    said
}

async fn what_is_read_is_the_log(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let settings = settings(&brokers(), &topic);
    let source = TopicSource::new(settings.clone());
    for _ in 0..3 {
        let relay = start(&log, &database, &settings);
        append(&log, 50).await;
        published(&database, &log).await;
        relay.stop().await;
    }
    let (events, head) = (all(&log).await, log.head().await.expect("the log answers"));
    for reached in [0_usize, 1, 70, 149] {
        let behind = behind(&head, reached.checked_sub(1).map(|last| &events[last]));
        let read = read_source(&source, &log, &behind).await;
        assert_eq!(lines(&read), lines(&events[reached..]), "behind {reached}");
    }
    // What comes while it is read.
    let relay = start(&log, &database, &settings);
    let mut tail = source.open(&behind(&head, events.last()), events.last().map(|event| event.recorded_at));
    for _ in 0..3 {
        assert!(matches!(taken(&mut *tail, 150, 200).await, Taken::Nothing { first: None, .. }));
    }
    append(&log, 20).await;
    let mut at = 150;
    while at < 170 {
        match tail.take(Position::new(at), Position::new(170), 100) {
            Taken::Events(more) => at += more.len() as u64,
            _ => tokio::time::timeout(Duration::from_secs(20), tail.arrived()).await.expect("it is told"),
        }
    }
    relay.stop().await;
    remove(&topic).await;
}

/// The topic's owner may have Kafka keep it so.
async fn what_is_compressed_is_read(_: Location, database: Database) {
    let log = open(&database).await;
    append(&log, 20).await;
    let head = log.head().await.expect("the log answers");
    for compression in ["gzip", "zstd"] {
        let topic = topic();
        make(
            NewTopic::new(&topic, PARTITIONS.into(), TopicReplication::Fixed(1))
                .set("compression.type", compression),
        )
        .await;
        let settings = settings(&brokers(), &topic);
        let relay = start(&log, &database, &settings);
        let mut acknowledged = relay.acknowledged();
        acknowledged.wait_for(|reached| *reached == head.position).await.expect("it works");
        relay.stop().await;
        let read = read_source(&TopicSource::new(settings), &log, &behind(&head, None)).await;
        assert_eq!(lines(&read), lines(&all(&log).await), "{compression}");
        remove(&topic).await;
    }
}

async fn what_is_no_event_of_the_log_is_passed_over(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let settings = settings(&brokers(), &topic);
    let relay = start(&log, &database, &settings);
    append(&log, 10).await;
    published(&database, &log).await;
    relay.stop().await;
    let head = log.head().await.expect("the log answers");
    let origins = [
        Origin { log_id: head.log_id, epoch: head.epoch + 1 },
        Origin { log_id: Uuid::from_u128(7), epoch: head.epoch },
    ];
    let others = all(&log).await.into_iter().map(|mut event| {
        event.position = Position::new(event.position.get() + 10);
        event.id = Uuid::now_v7();
        event
    });
    let others: Vec<_> = others.flat_map(|event| origins.map(|origin| (event.clone(), origin))).collect();
    produce(&topic, others, true).await;
    append(&log, 10).await;
    let relay = start(&log, &database, &settings);
    published(&database, &log).await;
    relay.stop().await;
    let read = read_source(&TopicSource::new(settings), &log, &behind(&head, None)).await;
    assert_eq!(lines(&read), lines(&all(&log).await));
    remove(&topic).await;
}

async fn what_cannot_be_read_is_a_hole(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let settings = settings(&brokers(), &topic);
    let relay = start(&log, &database, &settings);
    append(&log, 10).await;
    published(&database, &log).await;
    relay.stop().await;
    let head = log.head().await.expect("the log answers");
    let origin = Origin { log_id: head.log_id, epoch: head.epoch };
    let at = |mut event: RecordedEvent, position| {
        event.position = Position::new(position);
        (event, origin)
    };
    let event = all(&log).await.remove(0);
    produce(&topic, vec![at(event.clone(), 11)], false).await;
    produce(&topic, vec![at(event, 12)], true).await;
    let mut tail = TopicSource::new(settings).open(&behind(&head, None), None);
    let mut at = 0;
    while at < 10 {
        let Taken::Events(events) = taken(&mut *tail, at, 12).await else { panic!("not behind {at}") };
        at += events.len() as u64;
    }
    let said = taken(&mut *tail, 10, 12).await;
    assert!(matches!(said, Taken::Nothing { first: Some(first), .. } if first.get() == 12), "{said:?}");
    // Filled from the log, it goes on.
    let said = taken(&mut *tail, 11, 12).await;
    assert!(matches!(&said, Taken::Events(events) if events.len() == 1), "{said:?}");
    remove(&topic).await;
}

/// Puts as many messages of another log into each partition, and behind them as many that are aborted.
async fn bury(topic: &str, event: RecordedEvent, count: usize) {
    let topic = topic.to_owned();
    let burying = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers()).set("transactional.id", &topic);
        let producer: BaseProducer = config.create().expect("a producer");
        let limit = Duration::from_secs(20);
        producer.init_transactions(limit).expect("the brokers answer");
        let message = Message::new(&event, &Origin { log_id: Uuid::from_u128(7), epoch: 1 });
        for is_committed in [true, false] {
            producer.begin_transaction().expect("begun");
            for partition in (0..i32::from(PARTITIONS)).cycle().take(count * usize::from(PARTITIONS)) {
                let record = message.record(&topic).partition(partition);
                producer.send(record).map_err(|(error, _)| error).expect("taken");
            }
            // What is aborted lies there, too.
            producer.flush(limit).expect("acknowledged");
            let end =
                if is_committed { producer.commit_transaction(limit) } else { producer.abort_transaction(limit) };
            end.expect("ended");
        }
    });
    burying.await.expect("no panic");
}

/// Farther than is looked back at first, and than is the second time.
async fn the_newest_event_is_found_however_far_back_it_lies(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let settings = settings(&brokers(), &topic);
    let relay = start(&log, &database, &settings);
    append(&log, 20).await;
    published(&database, &log).await;
    relay.stop().await;
    bury(&topic, all(&log).await.remove(0), 10_001).await;
    let head = log.head().await.expect("the log answers");
    let found = backup::published(&settings, head.log_id).await.expect("the brokers answer");
    let (topic_found, checkpoint) = found.map(|found| (found.topic, found.checkpoint)).expect("it lies there");
    assert_eq!((topic_found, checkpoint), (topic.clone(), head.checkpoint()));
    let other = backup::published(&settings, Uuid::from_u128(8)).await.expect("the brokers answer");
    assert_eq!(other, None, "nothing of a log that was never published");
    remove(&topic).await;
}

async fn a_topic_that_is_missing_is_no_source(_: Location, database: Database) {
    let (log, topic) = (open(&database).await, topic());
    let head = log.head().await.expect("the log answers");
    let mut tail = TopicSource::new(settings(&brokers(), &topic)).open(&behind(&head, None), None);
    let said = taken(&mut *tail, 0, 1).await;
    assert!(matches!(&said, Taken::Failed(reason) if reason.contains(&topic)), "{said:?}");
}

async fn brokers_that_go_away_keep_nobody_waiting(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 20).await;
    published(&database, &log).await;
    relay.stop().await;
    let head = log.head().await.expect("the log answers");
    let source = TopicSource::new(cluster.settings());
    let mut tail = source.open(&behind(&head, None), None);
    assert!(matches!(taken(&mut *tail, 0, 5).await, Taken::Events(_)));
    drop(cluster);
    let asked = std::time::Instant::now();
    for _ in 0..100 {
        tail.take(Position::new(20), Position::new(30), 10);
    }
    drop(tail);
    let mut again = source.open(&head.checkpoint(), None);
    assert!(matches!(again.take(Position::new(20), Position::new(30), 10), Taken::Opening(_)));
    drop(again);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

/// By themselves, both who publishes and who reads.
async fn once_brokers_are_back_all_go_on(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    let head = log.head().await.expect("the log answers");
    let mut tail = TopicSource::new(cluster.settings()).open(&behind(&head, None), None);
    let (mut at, begun) = (0, std::time::Instant::now());
    for (is_away, through) in [(false, 5), (true, 10)] {
        if is_away {
            cluster.go(true);
            append(&log, 5).await;
            let problem = problem(&database, &log).await;
            assert!(problem.contains("do not answer"), "{problem}");
            cluster.go(false);
            assert_eq!(published(&database, &log).await.problem, None);
        }
        while at < through {
            match taken(&mut *tail, at, through).await {
                Taken::Events(events) => at += events.len() as u64,
                // It does not know yet that they are back.
                Taken::Nothing { .. } if begun.elapsed() < READ_LIMIT => {
                    let _ = tokio::time::timeout(Duration::from_millis(100), tail.arrived()).await;
                }
                other => panic!("behind {at}: {other:?}"),
            }
        }
    }
    relay.stop().await;
}
