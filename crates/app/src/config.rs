//! The settings, parsed into what the parts of Daybook take.

use std::collections::BTreeSet;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use daybook_database::{Location, Options};
use daybook_kafka::TopicSource;
use daybook_views::SLICES;

use crate::settings::Resolved;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Answers requests.
    Api,
    /// Keeps the views up to date.
    Projector,
    /// Publishes the log to Kafka.
    Relay,
}

/// Everything that is configured.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) log: Location,
    pub(crate) views: Location,
    pub(crate) keys: Location,
    /// Whether the keys are in the log's own database on PostgreSQL.
    pub(crate) keys_beside_log: bool,
    pub(crate) master_key: Option<MasterKeyText>,
    pub(crate) master_key_file: PathBuf,
    pub(crate) listen: String,
    pub(crate) metrics_listen: Option<String>,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) migrate_on_start: bool,
    pub(crate) database: Options,
    pub(crate) appends: daybook_log::Settings,
    pub(crate) commands: daybook_dispatch::Settings,
    pub(crate) projectors: daybook_views::Settings,
    /// Where and how to publish the log, if anywhere.
    pub(crate) relay: Option<daybook_kafka::Settings>,
    pub(crate) identity: daybook_identity::Settings,
    pub(crate) http: daybook_http::Settings,
}

/// The text of a setting that is not shown.
#[derive(Clone)]
pub(crate) struct MasterKeyText(String);

impl std::ops::Deref for MasterKeyText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for MasterKeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKeyText")
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// JSON, unless somebody is looking.
    Auto,
    /// JSON.
    Json,
    /// For people.
    Text,
}

impl Config {
    pub(crate) fn from(settings: &Resolved) -> anyhow::Result<Self> {
        let data: PathBuf = settings.required("data")?;
        let embedded = |name: &str| Location::Sqlite(data.join(name));
        let log: Option<Location> = settings.parse("database_url")?;
        let beside = |key, name: &str| -> anyhow::Result<Location> {
            let own: Option<Location> = settings.parse(key)?;
            Ok(own.or_else(|| log.clone()).unwrap_or_else(|| embedded(name)))
        };
        let relay = relay(settings)?;
        let seconds = |key| settings.required::<NonZeroU64>(key).map(|seconds| Duration::from_secs(seconds.get()));
        Ok(Self {
            views: beside("views_database_url", "views.db")?,
            keys: beside("keys_database_url", "keys.db")?,
            keys_beside_log: log.is_some() && settings.get("keys_database_url").0.is_none(),
            master_key: settings.get("master_key").0.map(|text| MasterKeyText(text.to_owned())),
            master_key_file: settings.parse("master_key_file")?.unwrap_or_else(|| data.join("master.key")),
            log: log.clone().unwrap_or_else(|| embedded("log.db")),
            listen: settings.required("listen")?,
            metrics_listen: Some(settings.required::<String>("metrics_listen")?).filter(|listen| listen != "off"),
            roles: roles(settings.get("roles").0, relay.is_some())?,
            log_level: settings.required("log_level")?,
            log_format: match settings.required::<String>("log_format")?.as_str() {
                "auto" => LogFormat::Auto,
                "json" => LogFormat::Json,
                "text" => LogFormat::Text,
                other => bail!("`log_format` cannot be `{other}`: expected auto, json or text"),
            },
            migrate_on_start: settings.required("migrate_on_start")?,
            database: Options {
                connections_max: settings.required::<NonZeroU32>("connections_max")?.get(),
                unsafe_durability: settings.required("unsafe_durability")?,
                ..Options::default()
            },
            appends: daybook_log::Settings {
                queue_appends_max: settings.required::<NonZeroU32>("queue_appends_max")?.get() as usize,
                group_appends_max: settings.required::<NonZeroU32>("group_appends_max")?.get() as usize,
                ..daybook_log::Settings::default()
            },
            commands: daybook_dispatch::Settings {
                deadline: settings.required("command_deadline_ms").map(Duration::from_millis)?,
                ..daybook_dispatch::Settings::default()
            },
            projectors: daybook_views::Settings {
                source: source(&settings.required::<String>("source")?, relay.as_ref())?,
                shards: shards(settings.required("projection_shards")?)?,
                rebuild_bytes_max: (settings.required::<NonZeroU32>("rebuild_memory_mib")?.get() as usize) << 20,
                retire_after: settings.required("retire_after_s").map(Duration::from_secs)?,
                ..daybook_views::Settings::default()
            },
            relay,
            identity: daybook_identity::Settings {
                issuer: settings.required("issuer")?,
                audience: settings.required("audience")?,
                access_lifetime: seconds("access_token_s")?,
                refresh_lifetime: seconds("refresh_token_s")?,
                ..daybook_identity::Settings::default()
            },
            http: daybook_http::Settings {
                body_bytes_max: settings.required("body_bytes_max")?,
                wait_s_max: settings.required("wait_s_max")?,
                workers: settings.parse::<NonZeroUsize>("workers")?.map_or_else(
                    || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
                    NonZeroUsize::get,
                ),
                drain_s: settings.required("drain_s")?,
                trusted_proxies: settings.parse("trusted_proxies")?.unwrap_or_default(),
                live_max: settings.required("live_max")?,
                live_per_actor_max: settings.required("live_per_actor_max")?,
                live_stall_s: settings.required::<NonZeroU64>("live_stall_s")?.get(),
            },
            data,
        })
    }
}

fn shards(count: u16) -> anyhow::Result<u16> {
    if !(1..=SLICES).contains(&count) {
        bail!("`projection_shards` cannot be {count}: expected 1 to {SLICES}");
    }
    Ok(count)
}

/// Where and how to publish the log, if anywhere.
fn relay(settings: &Resolved) -> anyhow::Result<Option<daybook_kafka::Settings>> {
    let relay = daybook_kafka::Settings {
        brokers: settings.parse("kafka_brokers")?.unwrap_or_default(),
        topic: settings.required("kafka_topic")?,
        partitions: settings.required::<NonZeroU16>("kafka_partitions")?,
        client: settings.parse("kafka_settings")?.unwrap_or_default(),
        process: format!("process {}", std::process::id()),
        lease: Duration::from_secs(2),
    };
    Ok(Some(relay).filter(|relay| !relay.brokers.is_empty()))
}

/// Where the newest events are read, when it is not the log.
fn source(
    named: &str,
    topic: Option<&daybook_kafka::Settings>,
) -> anyhow::Result<Option<Arc<dyn daybook_log::Source>>> {
    match (named, topic) {
        ("log", _) => Ok(None),
        ("kafka", Some(topic)) => Ok(Some(Arc::new(TopicSource::new(topic.clone())))),
        ("kafka", None) => {
            bail!("the source `kafka` is a topic of Kafka: say where that is with `kafka_brokers` (KAFKA_BROKERS)")
        }
        (other, _) => bail!("`source` cannot be `{other}`: expected log or kafka"),
    }
}

/// What a process does. When nothing is said, that is all that there is to do: publish too, when it is known where.
fn roles(named: Option<&str>, publishes: bool) -> anyhow::Result<BTreeSet<Role>> {
    let role = |name: &str| match name.trim() {
        "api" => Ok(Role::Api),
        "projector" => Ok(Role::Projector),
        "relay" if publishes => Ok(Role::Relay),
        "relay" => {
            bail!("the role `relay` publishes to Kafka: say where that is with `kafka_brokers` (KAFKA_BROKERS)")
        }
        other => bail!("`{other}` is not a role of a process: expected api, projector or relay"),
    };
    match named {
        Some(named) => named.split(',').map(role).collect(),
        None => {
            let mut all = BTreeSet::from([Role::Api, Role::Projector]);
            all.extend(publishes.then_some(Role::Relay));
            Ok(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_publishes_when_it_is_known_where() {
        let both = BTreeSet::from([Role::Api, Role::Projector]);
        assert_eq!(roles(None, false).expect("roles"), both);
        assert_eq!(roles(None, true).expect("roles"), &both | &BTreeSet::from([Role::Relay]));
        assert_eq!(roles(Some("api, projector"), true).expect("roles"), both);
        assert_eq!(roles(Some("relay"), true).expect("roles"), BTreeSet::from([Role::Relay]));
        let error = roles(Some("relay"), false).expect_err("nowhere").to_string();
        assert!(error.contains("KAFKA_BROKERS"), "{error}");
        assert!(roles(Some("api,cook"), true).is_err());
    }

    #[test]
    fn who_reads_kafka_says_where_that_is() {
        assert!(source("log", None).expect("the log").is_none());
        let error = source("kafka", None).expect_err("nowhere").to_string();
        assert!(error.contains("KAFKA_BROKERS"), "{error}");
        assert!(source("rabbits", None).is_err());
    }
}
