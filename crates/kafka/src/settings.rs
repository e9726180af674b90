//! How events are published, and the settings of librdkafka that follow from it.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

/// How events are published.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The brokers to ask for all others: `host:port`, with commas between them.
    pub brokers: String,
    /// The topic.
    pub topic: TopicName,
    /// How many partitions the topic gets, when it is made here.
    pub partitions: NonZeroU16,
    /// What else librdkafka is to be told.
    pub client: ClientSettings,
    /// What to call this process where it is shown who publishes.
    pub process: String,
    /// How long after its last sign of life the owner counts as dead, by the clock of the log's database. A live one gives
    /// four signs in that time.
    pub lease: Duration,
}

/// The name of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicName(String);

/// The most bytes of a topic's name.
const TOPIC_BYTES_MAX: usize = 249;

impl TopicName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = (1..=TOPIC_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
            && !matches!(text, "." | "..");
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected 1 to 249 letters, digits, dots, `_` or `-`")
        }
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Settings of librdkafka, by their names: `security.protocol=SASL_SSL,sasl.username=…`. A comma within a value has a
/// backslash before it. There are passwords among them, so none is ever shown.
#[derive(Clone, Default)]
pub struct ClientSettings(Vec<(String, String)>);

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why settings are not those of a client of Kafka. None of them quotes a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientSettingsError {
    /// It is no setting at all.
    #[error("the setting of librdkafka at place {0} is not of the form `name=value`")]
    NoSetting(usize),
    /// What Daybook promises depends on it.
    #[error("`{0}` is Daybook's own, and cannot be set")]
    Own(String),
    /// librdkafka does not know it.
    #[error("librdkafka has no setting `{0}`")]
    Unknown(String),
    /// librdkafka does not take its value.
    #[error("librdkafka does not take the value of `{0}`")]
    Value(String),
    /// librdkafka was built without it.
    #[error("`{0}` needs TLS or SASL: build Daybook with `--features kafka-tls`")]
    NotBuilt(String),
}

/// What the promises of those who publish and of those who read stand on. Nobody else says anything about these.
const OWN: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "metadata.broker.list",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

impl FromStr for ClientSettings {
    type Err = ClientSettingsError;

    fn from_str(text: &str) -> Result<Self, ClientSettingsError> {
        let mut settings = Vec::new();
        for (place, setting) in split(text).into_iter().enumerate() {
            let (name, value) = setting.split_once('=').ok_or(ClientSettingsError::NoSetting(place + 1))?;
            let name = name.trim();
            if OWN.contains(&name) {
                return Err(ClientSettingsError::Own(name.to_owned()));
            }
            settings.push((name.to_owned(), value.trim().to_owned()));
        }
        let settings = Self(settings);
        settings.config().create_native_config().map_err(not_taken)?;
        Ok(settings)
    }
}

/// Parts a text at its commas, but for those with a backslash before them.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next_if_eq(&',').is_some() => parts.last_mut().map_or((), |part| part.push(',')),
            ',' => parts.push(String::new()),
            other => parts.last_mut().map_or((), |part| part.push(other)),
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// librdkafka quotes the value in what it says.
fn not_taken(error: KafkaError) -> ClientSettingsError {
    match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            ClientSettingsError::Unknown(name)
        }
        KafkaError::ClientConfig(_, reason, name, _) if reason.contains("not supported in this build") => {
            ClientSettingsError::NotBuilt(name)
        }
        KafkaError::ClientConfig(_, _, name, _) => ClientSettingsError::Value(name),
        // A name or a value with a zero byte in it.
        _ => ClientSettingsError::Value("kafka_settings".to_owned()),
    }
}

impl ClientSettings {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.0 {
            config.set(name, value);
        }
        config
    }
}

impl Settings {
    /// Of a client that looks after the topic.
    pub(crate) fn client(&self) -> ClientConfig {
        self.config(&[])
    }

    /// Of the producer. Whoever comes with the same `transactional.id` later fences it off.
    pub(crate) fn producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.config(&[
            // Messages are not held back so that more may come: they come by the page.
            ("linger.ms", "1"),
            // So much may be under way, and has to come to its end before the broker gives the transaction up.
            ("queue.buffering.max.kbytes", "16384"),
            ("transaction.timeout.ms", "30000"),
        ]);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("transactional.id", transactional_id)
            .set("delivery.report.only.error", "true");
        config
    }

    /// Of a consumer that is assigned partitions by whoever has it. It is in no group, though librdkafka wants a name of one.
    pub(crate) fn consumer(&self) -> ClientConfig {
        let mut config = self.config(&[
            // What waits of each partition, and the most that is fetched of it at once.
            ("queued.max.messages.kbytes", "1024"),
            ("max.partition.fetch.bytes", "1048576"),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
        ]);
        config
            .set("isolation.level", "read_committed")
            .set("group.id", "daybook")
            .set("enable.auto.commit", "false")
            // It is known by then that what was to be read is not there any more.
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true");
        config
    }

    /// What is asked for goes before our `defaults`, and what must hold goes before both.
    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "daybook").set("reconnect.backoff.max.ms", "1000");
        config.extend(defaults.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        config.extend(self.client.0.iter().cloned());
        config
            .set("bootstrap.servers", &self.brokers)
            // The broker would give a topic that is missing as many partitions as it sees fit.
            .set("allow.auto.create.topics", "false")
            .set("isolation.level", "read_uncommitted");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String)>, ClientSettingsError> {
        text.parse::<ClientSettings>().map(|settings| settings.0)
    }

    #[test]
    fn settings_are_parted_at_commas() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse("").expect("none"), []);
        let two = parse(r"linger.ms=0, sasl.password=a\,b=c").expect("two");
        assert_eq!(two, [of("linger.ms", "0"), of("sasl.password", "a,b=c")]);
        assert_eq!(parse("linger.ms"), Err(ClientSettingsError::NoSetting(1)));
    }

    #[test]
    fn what_must_hold_cannot_be_set() {
        for name in OWN {
            assert_eq!(parse(&format!("linger.ms=0,{name}=1")), Err(ClientSettingsError::Own((*name).into())));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        let wrong = |text: &str| {
            let error = parse(text).expect_err(text);
            assert!(!error.to_string().contains("s3cret"), "{error}");
            error
        };
        assert_eq!(wrong("lingr.ms=s3cret"), ClientSettingsError::Unknown("lingr.ms".into()));
        assert_eq!(wrong("linger.ms=s3cret"), ClientSettingsError::Value("linger.ms".into()));
        assert_eq!(wrong("s3cret"), ClientSettingsError::NoSetting(1));
        let shown = format!("{:?}", "sasl.password=s3cret".parse::<ClientSettings>().expect("a setting"));
        assert!(shown.contains("sasl.password") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn what_is_asked_for_reaches_every_client_as_it_is() {
        let settings = Settings {
            brokers: "127.0.0.1:1".to_owned(),
            topic: "events".parse().expect("a name"),
            partitions: NonZeroU16::MIN,
            client: "linger.ms=7,fetch.wait.max.ms=7,sasl.password=s3cret".parse().expect("settings"),
            process: "one".to_owned(),
            lease: Duration::from_secs(1),
        };
        for config in [settings.client(), settings.producer("id"), settings.consumer()] {
            assert_eq!(config.get("sasl.password"), Some("s3cret"));
            assert_eq!(config.get("linger.ms"), Some("7"));
            assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        }
        assert_eq!(settings.consumer().get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn a_topic_has_a_name_that_kafka_takes() {
        for name in ["daybook.events", "a", "A_b-1"] {
            assert_eq!(name.parse::<TopicName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert!(name.parse::<TopicName>().is_err(), "{name}");
        }
    }
}
