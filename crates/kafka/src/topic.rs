//! The topic: found, or made.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
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
    /// How long it keeps messages, where that is known and has an end.
    pub(crate) retention: Option<Duration>,
}

impl Publisher {
    /// Finds the topic, or makes it.
    pub(crate) fn open_topic(&self) -> Result<Topic, Trouble> {
        let mut partitions = self.look_for_topic()?;
        let admin = self.settings.client().create();
        let admin: AdminClient<DefaultClientContext> =
            admin.map_err(|error| self.trouble("looking after the topic", &error))?;
        if partitions.is_none() {
            self.make_topic(&admin)?;
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
        Ok(Topic { partitions, ends, retention: self.retention(&admin)? })
    }

    /// How long the topic keeps messages, where the brokers say so and that has an end. One that does not keep them all until
    /// then is refused.
    fn retention(&self, admin: &AdminClient<DefaultClientContext>) -> Result<Option<Duration>, Trouble> {
        let topic = self.settings.topic.as_str();
        let Some(described) = self.describe(admin) else {
            tracing::info!(
                topic,
                "the topic's settings are not known (that needs `DescribeConfigs` on it): its `cleanup.policy` has to be delete"
            );
            return Ok(None);
        };
        let of = |name| described.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        if is_compacted(of("cleanup.policy")) {
            return Err(Trouble::Refused(format!(
                "the topic `{topic}` has a `cleanup.policy` of {}: Kafka would remove all but the newest event of each stream. \
                 Set it to delete",
                of("cleanup.policy")
            )));
        }
        Ok(kept_for(of("retention.ms")))
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

    /// The topic's settings; `None` when the brokers do not say. Any of them knows.
    fn describe(&self, admin: &AdminClient<DefaultClientContext>) -> Option<ConfigResource> {
        let topic = self.settings.topic.as_str();
        let metadata = self.producer.client().fetch_metadata(Some(topic), ANSWER_LIMIT).ok()?;
        let options = options().broker_id(metadata.brokers().first()?.id());
        let resource = ResourceSpecifier::Topic(topic);
        let described = admin.describe_configs([&resource], &options);
        self.runtime.block_on(described).ok()?.into_iter().next()?.ok()
    }

    fn make_topic(&self, admin: &AdminClient<DefaultClientContext>) -> Result<(), Trouble> {
        let (topic, brokers, partitions) =
            (self.settings.topic.as_str(), &self.settings.brokers, self.settings.partitions);
        let making = |error: &KafkaError| self.trouble("making the topic", error);
        let mut new = NewTopic::new(topic, i32::from(partitions.get()), TopicReplication::Fixed(-1))
            .set("cleanup.policy", "delete")
            .set("message.timestamp.type", "CreateTime")
            .set("message.timestamp.after.max.ms", TIME_AHEAD_MAX)
            .set("max.message.bytes", BATCH_BYTES_MAX);
        match self.copies(admin) {
            Some(copies) => {
                new.config.extend(copies.in_sync().map(|count| ("min.insync.replicas", count)));
                if copies.is_single() {
                    tracing::warn!(
                        topic,
                        "the brokers keep one copy of it, on one of them (`default.replication.factor`): what is published is \
                         lost with that one. Make the topic by hand to have more"
                    );
                }
            }
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

    /// How many copies there are of a topic when nothing else is said; `None` when the brokers do not say.
    fn copies(&self, admin: &AdminClient<DefaultClientContext>) -> Option<Copies> {
        let metadata =
            self.producer.client().fetch_metadata(Some(self.settings.topic.as_str()), ANSWER_LIMIT).ok()?;
        let broker = ResourceSpecifier::Broker(metadata.brokers().first()?.id());
        let described = self.runtime.block_on(admin.describe_configs([&broker], &options())).ok()?;
        let factor =
            described.into_iter().next()?.ok()?.get("default.replication.factor")?.value.as_ref()?.parse();
        Some(Copies { copies: factor.ok()?, brokers: metadata.brokers().len() })
    }
}

/// How many copies there are of a topic, on how many brokers.
struct Copies {
    copies: u32,
    brokers: usize,
}

impl Copies {
    /// How many of them have to have a message before it counts as published: of three, one may be missing.
    fn in_sync(&self) -> Option<&'static str> {
        (self.copies >= 3).then_some("2")
    }

    /// Whether there could be more than one.
    fn is_single(&self) -> bool {
        self.copies == 1 && self.brokers > 1
    }
}

/// Whether Kafka removes what others of the same key follow.
fn is_compacted(cleanup_policy: &str) -> bool {
    cleanup_policy.split(',').any(|policy| policy.trim() == "compact")
}

/// How long messages are kept, when that has an end.
fn kept_for(retention_ms: &str) -> Option<Duration> {
    retention_ms.parse().ok().map(Duration::from_millis)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_three_copies_one_may_be_missing() {
        for (copies, brokers, in_sync, is_single) in [
            (1, 1, None, false),
            (1, 3, None, true),
            (2, 3, None, false),
            (3, 3, Some("2"), false),
            (5, 5, Some("2"), false),
        ] {
            let copies = Copies { copies, brokers };
            assert_eq!((copies.in_sync(), copies.is_single()), (in_sync, is_single));
        }
    }

    #[test]
    fn a_topic_may_be_compacted_and_more() {
        assert!(["compact", "compact,delete", "delete, compact"].into_iter().all(is_compacted));
        assert!(!["delete", ""].into_iter().any(is_compacted));
    }

    #[test]
    fn messages_may_be_kept_for_ever() {
        assert_eq!(kept_for("-1"), None);
        assert_eq!(kept_for("604800000"), Some(Duration::from_hours(24 * 7)));
    }
}
