//! Settings: each is a flag (but for secrets), an environment variable and a key of the TOML file, and says where its value
//! came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its key in the TOML file. The flag is the same with dashes.
    pub(crate) key: &'static str,
    /// Its environment variable.
    pub(crate) env: &'static str,
    /// Its value when nothing else is said; `None` when it has none.
    pub(crate) default: Option<&'static str>,
    /// What it means.
    pub(crate) help: &'static str,
}

const fn setting(
    key: &'static str,
    env: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, env, default, help }
}

/// Whether a setting's value may hold a password. Then it is shown to nobody as it is.
pub(crate) fn holds_password(key: &str) -> bool {
    key.ends_with("database_url") || is_secret(key)
}

/// Whether a setting's value is a secret, or may have one anywhere in it. It has no flag: everybody on a machine sees the
/// command lines of its processes.
pub(crate) fn is_secret(key: &str) -> bool {
    matches!(key, "master_key" | "kafka_settings")
}

/// All settings, in the order in which `daybook config` prints them.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "data",
        "DAYBOOK_DATA",
        Some("./daybook-data"),
        "Folder of the embedded store and of the demo's users",
    ),
    setting(
        "database_url",
        "DATABASE_URL",
        None,
        "PostgreSQL URL of the log; an embedded store in the data folder without it",
    ),
    setting(
        "views_database_url",
        "VIEWS_DATABASE_URL",
        None,
        "PostgreSQL URL of the views; beside the log without it",
    ),
    setting(
        "keys_database_url",
        "KEYS_DATABASE_URL",
        None,
        "PostgreSQL URL of credentials and keys; beside the log without it",
    ),
    setting(
        "master_key",
        "DAYBOOK_MASTER_KEY",
        None,
        "What all other keys are wrapped under: 32 bytes in base64 or hex; behind commas, those before it",
    ),
    setting(
        "master_key_file",
        "DAYBOOK_MASTER_KEY_FILE",
        None,
        "File with the master keys, one on a line, the current one first; master.key in the data folder without it",
    ),
    setting(
        "listen",
        "DAYBOOK_LISTEN",
        Some("127.0.0.1:8080"),
        "Address and port of the API; port 0 picks a free one",
    ),
    setting(
        "metrics_listen",
        "DAYBOOK_METRICS_LISTEN",
        Some("127.0.0.1:9464"),
        "Address and port of /metrics, with /health beside it, or `off`",
    ),
    setting(
        "roles",
        "DAYBOOK_ROLES",
        None,
        "What this process does: api, projector, relay; all that there is to do without it",
    ),
    setting(
        "log_level",
        "DAYBOOK_LOG_LEVEL",
        Some("info"),
        "What is logged: error, warn, info, debug, or a tracing filter",
    ),
    setting("log_format", "DAYBOOK_LOG_FORMAT", Some("auto"), "json, text, or auto: text on a terminal"),
    setting(
        "migrate_on_start",
        "DAYBOOK_MIGRATE_ON_START",
        Some("true"),
        "Run waiting migrations at the start; without it, refuse to start on them",
    ),
    setting(
        "unsafe_durability",
        "DAYBOOK_UNSAFE_DURABILITY",
        Some("false"),
        "Run on a database that may forget acknowledged events in a crash",
    ),
    setting("connections_max", "DAYBOOK_CONNECTIONS_MAX", Some("8"), "The most connections to each database"),
    setting("workers", "DAYBOOK_WORKERS", None, "Threads that answer requests; one per core without it"),
    setting("body_bytes_max", "DAYBOOK_BODY_BYTES_MAX", Some("65536"), "The most bytes of a request's body"),
    setting(
        "wait_s_max",
        "DAYBOOK_WAIT_S_MAX",
        Some("30"),
        "The longest that a reader may wait for a position, in seconds",
    ),
    setting(
        "drain_s",
        "DAYBOOK_DRAIN_S",
        Some("20"),
        "How long requests under way may go on after SIGTERM, in seconds; below 5, proxies may lose some",
    ),
    setting(
        "trusted_proxies",
        "DAYBOOK_TRUSTED_PROXIES",
        None,
        "Proxies whose X-Forwarded-For is believed: networks (10.0.0.0/8) and addresses with commas between them; none are without it",
    ),
    setting("live_max", "DAYBOOK_LIVE_MAX", Some("2000"), "The most readers that follow views at once"),
    setting(
        "live_per_actor_max",
        "DAYBOOK_LIVE_PER_ACTOR_MAX",
        Some("20"),
        "The most of them that are one actor, or of one address and not signed in",
    ),
    setting(
        "live_stall_s",
        "DAYBOOK_LIVE_STALL_S",
        Some("30"),
        "How long a client may take nothing of what it is sent, in seconds",
    ),
    setting(
        "command_deadline_ms",
        "DAYBOOK_COMMAND_DEADLINE_MS",
        Some("10000"),
        "How long a command tries again on conflicts, in milliseconds",
    ),
    setting(
        "queue_appends_max",
        "DAYBOOK_QUEUE_APPENDS_MAX",
        Some("4096"),
        "The most appends that wait; more are answered 503",
    ),
    setting("group_appends_max", "DAYBOOK_GROUP_APPENDS_MAX", Some("1024"), "The most appends in one commit"),
    setting(
        "projection_shards",
        "DAYBOOK_PROJECTION_SHARDS",
        Some("8"),
        "In how many ranges a view is folded, 1 to 1024: at most as many processes share the work on it",
    ),
    setting(
        "rebuild_memory_mib",
        "DAYBOOK_REBUILD_MEMORY_MIB",
        Some("256"),
        "The most memory that the documents of all rebuilds in a process take before they are written, in MiB",
    ),
    setting(
        "retire_after_s",
        "DAYBOOK_RETIRE_AFTER_S",
        Some("86400"),
        "How long a view that a rebuild replaced can be rolled back to, in seconds",
    ),
    setting(
        "kafka_brokers",
        "KAFKA_BROKERS",
        None,
        "Brokers of Kafka to publish all events to, host:port with commas between them; none are without it",
    ),
    setting("kafka_topic", "DAYBOOK_KAFKA_TOPIC", Some("daybook.events"), "The topic to publish to"),
    setting(
        "kafka_partitions",
        "DAYBOOK_KAFKA_PARTITIONS",
        Some("6"),
        "How many partitions the topic gets when it is made: it keeps them for ever",
    ),
    setting(
        "kafka_settings",
        "DAYBOOK_KAFKA_SETTINGS",
        None,
        "Settings of librdkafka, name=value with commas between them (security.protocol=SASL_SSL,…)",
    ),
    setting(
        "source",
        "DAYBOOK_SOURCE",
        Some("log"),
        "Where the views' newest events are read: log, or kafka: what is not there is read from the log",
    ),
    setting("issuer", "DAYBOOK_ISSUER", Some("daybook"), "Who issues access tokens (`iss`)"),
    setting("audience", "DAYBOOK_AUDIENCE", Some("daybook"), "Whom access tokens are for (`aud`)"),
    setting(
        "access_token_s",
        "DAYBOOK_ACCESS_TOKEN_S",
        Some("900"),
        "How long an access token is good for, in seconds",
    ),
    setting(
        "refresh_token_s",
        "DAYBOOK_REFRESH_TOKEN_S",
        Some("2592000"),
        "How long an unused refresh token is good for, in seconds",
    ),
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Env,
    /// The TOML file.
    File(String),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env => f.write_str("environment"),
            Self::File(path) => f.write_str(path),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The values of all settings.
#[derive(Debug)]
pub(crate) struct Resolved(BTreeMap<&'static str, (Option<String>, Source)>);

impl Resolved {
    /// Finds each value: a flag before the environment, the environment before the file, the file before the default.
    pub(crate) fn new(
        flag: impl Fn(&'static str) -> Option<String>,
        env: impl Fn(&'static str) -> Option<String>,
        file: Option<(&Path, &str)>,
    ) -> anyhow::Result<Self> {
        let (path, file) = match file {
            None => (String::new(), BTreeMap::new()),
            Some((path, text)) => {
                (path.display().to_string(), parse_file(text).with_context(|| format!("in {}", path.display()))?)
            }
        };
        let value = |setting: &Setting| {
            if let Some(value) = flag(setting.key) {
                (Some(value), Source::Flag)
            } else if let Some(value) = env(setting.env).filter(|value| !value.is_empty()) {
                (Some(value), Source::Env)
            } else if let Some(value) = file.get(setting.key) {
                (Some(value.clone()), Source::File(path.clone()))
            } else {
                (setting.default.map(ToOwned::to_owned), Source::Default)
            }
        };
        Ok(Self(SETTINGS.iter().map(|setting| (setting.key, value(setting))).collect()))
    }

    /// A setting's value and where it came from.
    pub(crate) fn get(&self, key: &'static str) -> (Option<&str>, &Source) {
        let (value, source) = &self.0[key];
        (value.as_deref(), source)
    }

    /// A setting's value, parsed.
    pub(crate) fn parse<T: FromStr>(&self, key: &'static str) -> anyhow::Result<Option<T>>
    where
        T::Err: fmt::Display,
    {
        let (value, source) = self.get(key);
        value
            .map(|value| {
                value.parse().map_err(|error| match holds_password(key) {
                    true => anyhow::anyhow!("`{key}` (from {source}) cannot be used: {error}"),
                    false => anyhow::anyhow!("`{key}` (from {source}) cannot be `{value}`: {error}"),
                })
            })
            .transpose()
    }

    /// The value of a setting that has a default, parsed.
    pub(crate) fn required<T: FromStr>(&self, key: &'static str) -> anyhow::Result<T>
    where
        T::Err: fmt::Display,
    {
        self.parse(key)?.with_context(|| format!("`{key}` is not set"))
    }
}

fn parse_file(text: &str) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let table: toml::Table = text.parse().map_err(|error| syntax_error(text, &error))?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            bail!("there is no setting `{key}`; `daybook config` lists all");
        };
        values.insert(setting.key, plain(&value).with_context(|| format!("`{key}` is of the wrong type"))?);
    }
    Ok(values)
}

/// What is wrong and in which line, without the line: there may be a password in it.
fn syntax_error(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    anyhow::anyhow!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

/// A TOML value as the flag would say it.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(plain).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &[(&str, &str)], env: &[(&str, &str)], file: &str) -> anyhow::Result<Resolved> {
        let find = |all: &[(&str, &str)], key: &str| {
            all.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        };
        Resolved::new(|key| find(flags, key), |key| find(env, key), Some((Path::new("daybook.toml"), file)))
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
        let file = "listen = 'file'\ndata = 'file'\nissuer = 'file'\nworkers = 3\nroles = ['api', 'projector']";
        let all = resolve(&[("listen", "flag")], &[("DAYBOOK_LISTEN", "env"), ("DAYBOOK_DATA", "env")], file)
            .expect("valid");
        assert_eq!(all.get("listen"), (Some("flag"), &Source::Flag));
        assert_eq!(all.get("data"), (Some("env"), &Source::Env));
        assert_eq!(all.get("issuer"), (Some("file"), &Source::File("daybook.toml".into())));
        assert_eq!(all.get("audience"), (Some("daybook"), &Source::Default));
        assert_eq!(all.get("database_url"), (None, &Source::Default));
        assert_eq!(all.required::<usize>("workers").expect("a number"), 3);
        assert_eq!(all.get("roles").0, Some("api,projector"));
    }

    #[test]
    fn an_unknown_key_and_a_value_that_does_not_parse_are_named() {
        assert!(resolve(&[], &[], "lisen = 'x'").expect_err("unknown").to_string().contains("daybook.toml"));
        let error = resolve(&[], &[("DAYBOOK_DRAIN_S", "soon")], "").expect("a text").required::<u64>("drain_s");
        let message = error.expect_err("no number").to_string();
        assert!(message.contains("drain_s") && message.contains("environment"), "{message}");
    }

    #[test]
    fn a_password_is_not_shown() {
        let wrong = "postgres://u:s3cret@host:notaport/db";
        for (env, file) in [(wrong, String::new()), ("", format!("data = 'd'\ndatabase_url = '{wrong}"))] {
            let config = resolve(&[], &[("DATABASE_URL", env)], &file)
                .and_then(|all| crate::config::Config::from(&all).map(|_| ()));
            let message = format!("{:#}", config.expect_err("no URL"));
            assert!(message.contains("database_url") || message.contains("line 2"), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn a_secret_has_no_flag_and_is_not_shown() {
        let all = resolve(&[], &[("DAYBOOK_MASTER_KEY", "s3cret")], "").expect("resolved");
        assert_eq!(all.get("master_key"), (Some("s3cret"), &Source::Env));
        assert!(holds_password("master_key") && !holds_password("master_key_file"));
    }

    #[test]
    fn every_default_parses() {
        let all = resolve(&[], &[], "").expect("valid");
        crate::config::Config::from(&all).expect("valid");
    }
}
