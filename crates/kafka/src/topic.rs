//! The topic: found, or made.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use crate::producer::{ANSWER_LIMIT, Publisher, SLICE, Trouble};

/// The most bytes that the topic takes at once. It is what Kafka takes anyway; an event has less than a tenth of it.
pub(crate) const BATCH_BYTES_MAX: &str = "1048588";

/// How far a message's time may lie ahead of the broker's clock, in milliseconds: without end. The log's times never go back,
/// so one of them that came too early would have the broker refuse all that follow until then.
pub(crate) const TIME_AHEAD_MAX: &str = "9223372036854775807";

/// How often it is looked whether the brokers know of a topic that was made.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often it is looked whether the topic still has as many partitions.
pub(crate) const PARTITIONS_INTERVAL: Duration = Duration::from_secs(5);

/// A topic that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic {
    pub(crate) partitions: u16,
    /// The offsets behind its last messages, added up. They never become fewer, whatever is removed.
    pub(crate) ends: u64,
}

impl Publisher {
    /// Finds the topic, or makes it.
    pub(crate) fn open_topic(&self) -> Result<Topic, Trouble> {
        let mut partitions = self.look_for_topic()?;
        if partitions.is_none() {
            self.make_topic()?;
            let end = Instant::now() + ANSWER_LIMIT;
            // The brokers tell each other of it.
            while partitions.is_none() && Instant::now() < end && self.is_wanted() {
                std::thread::sleep(LOOK_INTERVAL);
                partitions = self.look_for_topic()?;
            }
        }
        let Some(partitions) = partitions else {
            let topic = &self.settings.topic;
            return Err(Trouble::Kafka(format!("the topic `{topic}` was made, and the brokers do not know it")));
        };
        let mut ends = 0;
        for partition in 0..i32::from(partitions) {
            let (_, end) = self.patiently("looking where the topic ends", |slice| {
                self.producer.client().fetch_watermarks(self.settings.topic.as_str(), partition, slice)
            })?;
            ends += end.max(0).unsigned_abs();
        }
        Ok(Topic { partitions, ends })
    }

    /// How many partitions it has; `None` when it is not there.
    fn look_for_topic(&self) -> Result<Option<u16>, Trouble> {
        let topic = self.settings.topic.as_str();
        let metadata = self.patiently("looking for the topic", |slice| {
            self.producer.client().fetch_metadata(Some(topic), slice)
        })?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None if found.partitions().is_empty() => Ok(None),
            None => Ok(u16::try_from(found.partitions().len()).ok()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable) => Ok(None),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(Trouble::Refused(format!(
                "the brokers {} do not let us see the topic `{topic}`: grant the relay's user `Describe` and `Write` on it, \
                 and `Create` if it is to make it",
                self.settings.brokers
            ))),
            Some(error) => Err(self.trouble("looking for the topic", &KafkaError::MetadataFetch(error))),
        }
    }

    /// Makes sure that it still has as many partitions. Nothing is published to brokers that do not answer, so they are not
    /// waited for.
    pub(crate) fn count_partitions(&self, due: u16) -> Result<(), Trouble> {
        let topic = self.settings.topic.as_str();
        let Ok(metadata) = self.producer.client().fetch_metadata(Some(topic), SLICE) else { return Ok(()) };
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        match found.map(|found| found.partitions().len()) {
            Some(count) if count != 0 && count != usize::from(due) => {
                Err(Trouble::Refused(other_partitions(topic, count, due)))
            }
            _ => Ok(()),
        }
    }

    fn make_topic(&self) -> Result<(), Trouble> {
        let (topic, brokers, partitions) =
            (self.settings.topic.as_str(), &self.settings.brokers, self.settings.partitions);
        let making = |error: &KafkaError| self.trouble("making the topic", error);
        let admin: AdminClient<DefaultClientContext> = self.settings.client().create().map_err(|e| making(&e))?;
        let mut new = NewTopic::new(topic, i32::from(partitions.get()), TopicReplication::Fixed(-1))
            .set("message.timestamp.type", "CreateTime")
            .set("message.timestamp.after.max.ms", TIME_AHEAD_MAX)
            .set("max.message.bytes", BATCH_BYTES_MAX);
        // Of three copies, one may be missing.
        match self.replicas(&admin) {
            Some(replicas) if replicas >= 3 => new = new.set("min.insync.replicas", "2"),
            Some(_) => {}
            None => tracing::warn!(
                topic,
                "how many copies the brokers keep of it is not known (that needs `DescribeConfigs` on the cluster): when there \
                 are three, set `min.insync.replicas` of the topic to 2"
            ),
        }
        let make = |new: &NewTopic<'_>| -> Result<_, Trouble> {
            let made = self.runtime.block_on(admin.create_topics([new], &options())).map_err(|e| making(&e))?;
            Ok(made.into_iter().next())
        };
        let mut made = make(&new)?;
        // Kafka before 3.6 does not know that setting, and has no such limit.
        if let Some(Err((_, RDKafkaErrorCode::InvalidConfig))) = made {
            new.config.retain(|(name, _)| *name != "message.timestamp.after.max.ms");
            made = make(&new)?;
        }
        match made {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) => Ok(()),
            Some(Err((
                _,
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ))) => Err(Trouble::Refused(format!(
                "the topic `{topic}` is missing on the brokers {brokers}, and they do not let us make it: make it with \
                 {partitions} partitions, or grant the relay's user `Create` on it"
            ))),
            Some(Err((_, error))) => Err(making(&KafkaError::AdminOp(error))),
            None => Err(making(&KafkaError::NoMessageReceived)),
        }
    }

    /// How many copies the brokers keep of a topic's messages, when nothing else is said; `None` when they do not say.
    fn replicas(&self, admin: &AdminClient<DefaultClientContext>) -> Option<u32> {
        let metadata =
            self.producer.client().fetch_metadata(Some(self.settings.topic.as_str()), ANSWER_LIMIT).ok()?;
        let broker = ResourceSpecifier::Broker(metadata.brokers().first()?.id());
        let described = self.runtime.block_on(admin.describe_configs([&broker], &options())).ok()?;
        described.into_iter().next()?.ok()?.get("default.replication.factor")?.value.as_ref()?.parse().ok()
    }
}

/// What to say of a topic that has another number of partitions than it had.
pub(crate) fn other_partitions(topic: &str, count: usize, due: u16) -> String {
    format!(
        "the topic `{topic}` has {count} partitions, and had {due}: the events of a stream would come to lie in two of them, in \
         no order. Publish to another topic (`kafka_topic`)"
    )
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_LIMIT)).operation_timeout(Some(Duration::from_secs(5)))
}
