//! The log, published to Kafka: by the relay, and by hand.

pub(crate) mod backlog;
pub(crate) mod by_hand;
pub(crate) mod lag;

use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgMatches};
use daybook_kafka::{ClientSettings, Settings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use crate::arguments;

/// The lease of a process with the role.
const LEASE: Duration = Duration::from_secs(2);

/// Where the log is, and where it is published.
fn store() -> impl Iterator<Item = Arg> {
    let required = |name| Arg::new(name).long(name).required(true);
    arguments::store().into_iter().chain([
        required("brokers").value_name("HOST:PORT").help("The brokers"),
        required("topic").value_name("NAME").help("A topic that is not there yet; it is removed in the end"),
        arguments::with_default("partitions", "6", "How many it gets; 6 are what `daybook serve` gives it"),
    ])
}

/// A relay as `daybook serve` has it.
fn settings(arguments: &ArgMatches) -> anyhow::Result<Settings> {
    Ok(Settings {
        brokers: arguments::text(arguments, "brokers")?.to_owned(),
        topic: arguments::text(arguments, "topic")?.parse().map_err(anyhow::Error::msg)?,
        partitions: arguments::parse(arguments, "partitions")?,
        client: ClientSettings::default(),
        process: "bench".to_owned(),
        lease: LEASE,
    })
}

/// Asks the brokers to make topics, or to remove them.
fn admin(settings: &Settings) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", &settings.brokers).create()?)
}

/// Removes the topic: there are many measurements, and each fills one.
async fn remove(settings: &Settings) -> anyhow::Result<()> {
    let removed = admin(settings)?.delete_topics(&[settings.topic.as_str()], &AdminOptions::new()).await?;
    let one = removed.into_iter().next().context("one topic was named")?;
    one.map(drop).map_err(|(topic, error)| anyhow::anyhow!("`{topic}` was not removed: {error}"))
}
