//! A process that relays, and does nothing else.

use std::num::NonZeroU16;
use std::time::Duration;

use daybook_database::{Database, Location, Options};
use daybook_kafka::{ClientSettings, Relay, Settings, TopicName};
use daybook_log::Log;

use crate::writer::orders_from_stdin;

/// How long a relay's lease lasts: short, so that one that is frozen loses it.
pub const LEASE: Duration = Duration::from_millis(800);

/// How many partitions the topic has.
const PARTITIONS: NonZeroU16 = NonZeroU16::new(4).unwrap();

/// How a process relays.
#[derive(Debug, Clone)]
pub struct RelayPlan {
    /// Where the log is.
    pub database: Location,
    /// Where it publishes.
    pub settings: Settings,
}

/// Where a process publishes, or reads what is published. It is called `process`.
pub fn settings(brokers: String, topic: TopicName, process: String) -> Settings {
    let client = ClientSettings::default();
    Settings { brokers, topic, partitions: PARTITIONS, client, process, lease: LEASE }
}

/// Works until its standard input closes.
///
/// # Errors
///
/// When the database does not answer at the beginning.
pub async fn run(plan: RelayPlan) -> anyhow::Result<()> {
    let RelayPlan { database, settings } = plan;
    let database = Database::connect(&database, &Options::default()).await?;
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await?;
    let relay = Relay::start(&log, &database, settings);
    // It is told nothing, until there is nobody who could tell it anything.
    orders_from_stdin().recv().await;
    relay.stop().await;
    log.close().await;
    Ok(())
}
