//! Reading the topic instead of the log: the newest events, as long as they are kept there.
//!
//! A reader has a consumer of its own and no group: it is assigned all partitions, and begins where their messages are as old
//! as the event that it stands behind. So one that slept finds its place by itself, and nobody's pace concerns another. What is
//! fetched ahead is bounded, since partitions are asked only for what is wanted next ([`Sequence`]).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::Position;
use daybook_log::{Checkpoint, Source, Tail, Taken};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::message::{Origin, Published, Unreadable};
use crate::producer::Watcher;
use crate::sequence::{Polled, Sequence};
use crate::settings::Settings;

/// How long the brokers may take for each of the things that they are asked at the beginning.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How far back from a partition's end its newest event is looked for at first: the ends of transactions lie there too, what
/// was aborted, and what belongs to other logs.
const LOOKED_BACK: i64 = 10_000;

/// How much of what is passed over (another history's, for the most part) is looked at in one go.
const PASSED_OVER_MAX: usize = 10_000;

impl ConsumerContext for Watcher {}

/// The topic, as a source of the log's newest events.
#[derive(Debug)]
pub struct TopicSource {
    settings: Arc<Settings>,
}

impl TopicSource {
    /// Asks no broker anything.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

impl Source for TopicSource {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn open(&self, behind: &Checkpoint, since: Option<DateTime<Utc>>) -> Box<dyn Tail> {
        let origin = Origin { log_id: behind.log_id, epoch: behind.epoch };
        let (settings, arrived) = (self.settings.clone(), Arc::new(Notify::new()));
        let (sender, opened) = oneshot::channel();
        let notify = arrived.clone();
        // What librdkafka is asked here, it blocks for.
        spawn_blocking(move || {
            let opened = Partitions::open(&settings, origin, since, &notify);
            // It may be that nobody asks any more. What was opened is closed here then.
            drop(sender.send(opened));
            notify.notify_one();
        });
        Box::new(TopicTail { state: State::Opening(Instant::now(), opened), arrived })
    }
}

struct TopicTail {
    state: State,
    arrived: Arc<Notify>,
}

enum State {
    Opening(Instant, oneshot::Receiver<Result<Partitions, String>>),
    Open(Sequence, Partitions),
    Failed(String),
}

#[async_trait]
impl Tail for TopicTail {
    fn take(&mut self, after: Position, through: Position, limit: usize) -> Taken {
        if let State::Opening(since, opened) = &mut self.state {
            self.state = match opened.try_recv() {
                Ok(Ok(opened)) => State::Open(Sequence::new(opened.queues.len()), opened),
                Ok(Err(reason)) => State::Failed(reason),
                Err(oneshot::error::TryRecvError::Empty) => return Taken::Opening(*since),
                Err(oneshot::error::TryRecvError::Closed) => State::Failed("the process ends".to_owned()),
            };
        }
        match &mut self.state {
            State::Open(sequence, partitions) => match partitions.check() {
                Ok(()) => {
                    let mut left = limit.saturating_add(PASSED_OVER_MAX);
                    let arrived = &self.arrived;
                    sequence.take(after, through, limit, |index| {
                        left = left.saturating_sub(1);
                        if left == 0 {
                            // It goes on at once, but others come first.
                            arrived.notify_one();
                            return Polled::Nothing;
                        }
                        partitions.poll(index)
                    })
                }
                Err(reason) => Taken::Failed(reason),
            },
            State::Failed(reason) => Taken::Failed(reason.clone()),
            State::Opening(since, _) => Taken::Opening(*since),
        }
    }

    fn newest(&self) -> Position {
        match &self.state {
            State::Open(sequence, _) => sequence.newest(),
            State::Opening(..) | State::Failed(_) => Position::START,
        }
    }

    async fn arrived(&mut self) {
        self.arrived.notified().await;
    }
}

impl Drop for TopicTail {
    /// Closing a consumer waits for its threads.
    fn drop(&mut self) {
        let partitions = match std::mem::replace(&mut self.state, State::Failed(String::new())) {
            State::Open(_, partitions) => Some(partitions),
            State::Opening(_, mut opened) => opened.try_recv().ok().and_then(Result::ok),
            State::Failed(_) => None,
        };
        if let (Some(partitions), Ok(runtime)) = (partitions, tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(partitions));
        }
    }
}

/// All partitions of a topic, and what comes out of them.
struct Partitions {
    settings: Settings,
    origin: Origin,
    // Before the consumer: it goes last.
    queues: Vec<PartitionQueue<Watcher>>,
    consumer: Arc<BaseConsumer<Watcher>>,
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions")
            .field("topic", &self.settings.topic)
            .field("count", &self.queues.len())
            .finish()
    }
}

impl Partitions {
    /// Begins to read all partitions. Blocks.
    fn open(
        settings: &Settings,
        origin: Origin,
        since: Option<DateTime<Utc>>,
        arrived: &Arc<Notify>,
    ) -> Result<Self, String> {
        let consumer = settings.consumer().create_with_context(Watcher::default());
        let consumer: Arc<BaseConsumer<Watcher>> =
            Arc::new(consumer.map_err(|error| format!("no consumer: {error}"))?);
        let trouble = |error: KafkaError| {
            if is_forbidden(&error) {
                return forbidden(settings);
            }
            // So that the reason is heard.
            consumer.poll(Duration::ZERO);
            let said = consumer.context().reason().map(|said| format!(" ({said})")).unwrap_or_default();
            format!("the brokers {}: {error}{said}", settings.brokers)
        };
        let topic = settings.topic.as_str();
        let from = places(&consumer, topic, since).map_err(trouble)?;
        if from.count() == 0 {
            return Err(format!("the brokers {} have no topic `{topic}`", settings.brokers));
        }
        let mut queues = Vec::new();
        for element in from.elements() {
            let queue = consumer.split_partition_queue(topic, element.partition());
            let mut queue = queue.ok_or_else(|| format!("no queue of partition {}", element.partition()))?;
            let arrived = arrived.clone();
            queue.set_nonempty_callback(move || arrived.notify_one());
            queues.push(queue);
        }
        consumer.assign(&from).map_err(trouble)?;
        Ok(Self { settings: settings.clone(), origin, queues, consumer })
    }

    /// Whether anything can still come.
    fn check(&self) -> Result<(), String> {
        // What it says is not about single partitions: that brokers are away, for the most part, and it goes on by itself.
        while let Some(said) = self.consumer.poll(Duration::ZERO) {
            if let Err(error) = said {
                tracing::debug!(topic = %self.settings.topic, %error, "from Kafka");
            }
        }
        self.consumer.client().fatal_error().map_or(Ok(()), |(_, reason)| Err(reason))
    }

    /// What a partition has at hand.
    fn poll(&self, index: usize) -> Polled {
        match self.queues[index].poll(Duration::ZERO) {
            None => Polled::Nothing,
            Some(Err(KafkaError::PartitionEOF(_))) => Polled::End,
            Some(Err(error)) if is_forbidden(&error) => {
                let reason = forbidden(&self.settings);
                tracing::warn!(topic = %self.settings.topic, partition = index, reason, "cannot read from Kafka");
                Polled::Other
            }
            Some(Err(error)) => {
                tracing::warn!(topic = %self.settings.topic, partition = index, %error, "cannot read from Kafka");
                Polled::Other
            }
            Some(Ok(message)) => self.event(&message),
        }
    }

    /// A message's event. One that cannot be read leaves a hole, which is filled from the log.
    fn event(&self, message: &BorrowedMessage<'_>) -> Polled {
        match read(message) {
            Ok(published) if published.origin == self.origin => Polled::Event(published.event),
            Ok(_) => Polled::Other,
            Err(error) => {
                let (partition, offset) = (message.partition(), message.offset());
                tracing::error!(topic = %self.settings.topic, partition, offset, %error, "a message is no event");
                metrics::counter!("daybook_source_unreadable_total", "topic" => self.settings.topic.to_string())
                    .increment(1);
                Polled::Other
            }
        }
    }
}

/// Whether a right is missing to read the topic.
fn is_forbidden(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

fn forbidden(settings: &Settings) -> String {
    format!(
        "the brokers {} do not let us read the topic `{}`: grant the projectors' user `Describe` and `Read` on it",
        settings.brokers, settings.topic
    )
}

fn read(message: &BorrowedMessage<'_>) -> Result<Published, Unreadable> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Published::read(message.key(), message.payload(), headers.map(|header| (header.key, header.value)))
}

/// The newest event of a log that lies in the topic, of whichever epoch; `None` when there is none. Blocks.
pub(crate) fn newest(settings: &Settings, log_id: Uuid) -> Result<Option<Checkpoint>, String> {
    let trouble = |error: KafkaError| format!("the brokers {}: {error}", settings.brokers);
    let consumer: BaseConsumer<Watcher> =
        settings.consumer().create_with_context(Watcher::default()).map_err(trouble)?;
    let topic = settings.topic.as_str();
    let mut searched = Vec::new();
    for element in places(&consumer, topic, None).map_err(trouble)?.elements() {
        let partition = element.partition();
        let (first, end) = consumer.fetch_watermarks(topic, partition, ANSWER_LIMIT).map_err(trouble)?;
        searched.push((partition, first, end));
    }
    let (mut newest, mut looked_back) = (None, LOOKED_BACK);
    while !searched.is_empty() {
        let mut from = TopicPartitionList::new();
        for (partition, first, end) in &searched {
            let place = Offset::Offset(*first.max(&end.saturating_sub(looked_back)));
            from.add_partition_offset(topic, *partition, place).map_err(trouble)?;
        }
        consumer.assign(&from).map_err(trouble)?;
        let found = newest_of(&consumer, log_id, searched.len())
            .map_err(|reason| format!("the brokers {} {reason}", settings.brokers))?;
        searched.retain(|(partition, first, end)| {
            !found.contains_key(partition) && end.saturating_sub(looked_back) > *first
        });
        newest = newest.into_iter().chain(found.into_values()).max_by_key(age);
        looked_back = looked_back.saturating_mul(2);
    }
    Ok(newest)
}

/// By what a checkpoint is newer than another one of its log.
fn age(checkpoint: &Checkpoint) -> (u64, Position) {
    (checkpoint.epoch, checkpoint.position)
}

/// The newest event of a log in each of the partitions that are assigned, where there is one. Blocks until all are read.
fn newest_of(
    consumer: &BaseConsumer<Watcher>,
    log_id: Uuid,
    partitions: usize,
) -> Result<HashMap<i32, Checkpoint>, String> {
    let (mut newest, mut ended) = (HashMap::new(), HashSet::new());
    let (mut heard, mut trouble) = (Instant::now(), String::new());
    while ended.len() < partitions {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                heard = Instant::now();
                ended.insert(partition);
            }
            Some(Err(error)) if is_beside(&error) => trouble = format!(": {error}"),
            Some(Err(error)) => return Err(format!("cannot be read: {error}")),
            Some(Ok(message)) => {
                heard = Instant::now();
                // What is no event is nobody's.
                let ours = read(&message).ok().filter(|published| published.origin.log_id == log_id);
                let ours = ours.map(|Published { origin: Origin { log_id, epoch }, event }| Checkpoint {
                    log_id,
                    epoch,
                    position: event.position,
                    event_id: event.id,
                });
                if let Some(ours) = ours {
                    let known = newest.entry(message.partition()).or_insert(ours);
                    *known = std::cmp::max_by_key(*known, ours, age);
                }
            }
            None => {}
        }
        if heard.elapsed() > ANSWER_LIMIT {
            return Err(format!("do not answer{trouble}"));
        }
    }
    Ok(newest)
}

/// Whether an error is not about a partition that is read: a broker is away, for which there may be another one, or librdkafka
/// asked after the group that it wants a name of.
fn is_beside(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::NotCoordinator
        )
    )
}

/// Where to begin in each partition, to find all that was recorded at a time or later.
fn places(
    consumer: &BaseConsumer<Watcher>,
    topic: &str,
    since: Option<DateTime<Utc>>,
) -> KafkaResult<TopicPartitionList> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_LIMIT)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.and_then(|found| found.error()).map(|code| KafkaError::MetadataFetch(code.into()));
    let is_missing =
        |error: &KafkaError| error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition);
    if let Some(error) = error.filter(|error| !is_missing(error)) {
        return Err(error);
    }
    let partitions = found.map_or(&[][..], |found| found.partitions());
    let mut places = TopicPartitionList::new();
    for partition in partitions {
        places.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    let Some(since) = since.filter(|_| !partitions.is_empty()) else { return Ok(places) };
    // Looked at first: what is published from here on lies behind, whatever is found then.
    let mut ends = Vec::new();
    for partition in partitions {
        ends.push((partition.id(), consumer.fetch_watermarks(topic, partition.id(), ANSWER_LIMIT)?.1));
    }
    let mut times = TopicPartitionList::new();
    for partition in partitions {
        times.add_partition_offset(topic, partition.id(), Offset::Offset(since.timestamp_millis()))?;
    }
    let found = consumer.offsets_for_times(times, ANSWER_LIMIT)?;
    for (partition, end) in ends {
        let place = found.find_partition(topic, partition).map(|found| found.offset());
        let place = place.filter(|place| matches!(place, Offset::Offset(_))).unwrap_or(Offset::Offset(end));
        places.set_partition_offset(topic, partition, place)?;
    }
    Ok(places)
}
