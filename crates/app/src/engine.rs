//! The parts of Daybook, joined.

use std::sync::Arc;

use anyhow::{Context, bail};
use daybook_core::{Domain, SubjectEvent};
use daybook_database::{Database, DatabaseError, Location, Schema};
use daybook_dispatch::{Dispatcher, OpeningEvent, RefusalEvent};
use daybook_identity::{AccountEvent, Identity, SessionEvent};
use daybook_keys::Keys;
use daybook_log::Log;
use daybook_views::{ProjectionEvent, Views};
use futures_util::future::try_join_all;
use tokio::try_join;

use crate::backup::RestoreEvent;
use crate::config::Config;
use crate::demo::DemoEvent;
use crate::master::{self, Missing};
use crate::verbs::FillEvent;

/// The domain with the engine's own contracts: all that can be in its log.
pub(crate) fn with_own_contracts(domain: Domain) -> Domain {
    let domain = domain.events::<RefusalEvent>().events::<OpeningEvent>().events::<SubjectEvent>();
    let domain = domain.events::<AccountEvent>().events::<SessionEvent>();
    domain.events::<DemoEvent>().events::<FillEvent>().events::<RestoreEvent>().events::<ProjectionEvent>()
}

/// The databases of an installation. Several of them may be one.
pub(crate) struct Databases {
    pub(crate) log: Database,
    pub(crate) views: Database,
    pub(crate) keys: Database,
}

impl Databases {
    /// Connects to all of them; makes the files of the embedded store when they are not there.
    pub(crate) async fn create(config: &Config) -> anyhow::Result<Self> {
        let at = [&config.log, &config.views, &config.keys];
        if at.iter().any(|location| matches!(location, Location::Sqlite(_))) {
            make_private_folder(&config.data)?;
        }
        Self::connect(config).await
    }

    /// Connects to all of them, migrated as they have to be.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        if let Location::Sqlite(path) = &config.log
            && !path.exists()
        {
            bail!("there is no embedded store in {}: name its folder with `--data`", config.data.display());
        }
        let databases = Self::connect(config).await?;
        databases.check_migrated().await?;
        Ok(databases)
    }

    async fn connect(config: &Config) -> anyhow::Result<Self> {
        let connect = |location| Database::connect(location, &config.database);
        let (log, views, keys) = try_join!(connect(&config.log), connect(&config.views), connect(&config.keys))?;
        Ok(Self { log, views, keys })
    }

    fn each(&self) -> [(&Database, Schema); 3] {
        [(&self.log, Schema::Log), (&self.views, Schema::Views), (&self.keys, Schema::Keys)]
    }

    /// Runs the migrations that wait.
    pub(crate) async fn migrate(&self) -> Result<(), DatabaseError> {
        try_join_all(self.each().map(|(database, schema)| database.migrate(schema))).await.map(drop)
    }

    /// Checks that no migrations wait.
    pub(crate) async fn check_migrated(&self) -> Result<(), DatabaseError> {
        try_join_all(self.each().map(|(database, schema)| database.check_migrated(schema))).await.map(drop)
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        for (database, _) in self.each() {
            database.close().await;
        }
    }
}

/// Makes the data folder, readable for nobody else: it holds keys.
fn make_private_folder(path: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data folder {}", path.display()))
}

/// The log and the views, for what needs no keys.
pub(crate) struct LogAndViews {
    pub(crate) databases: Databases,
    pub(crate) log: Log,
    pub(crate) views: Views,
}

impl LogAndViews {
    /// Opens them. The databases have to be migrated.
    pub(crate) async fn open(domain: Domain, config: &Config) -> anyhow::Result<Self> {
        let databases = Databases::open(config).await?;
        let log = Log::open(databases.log.clone(), config.appends.clone()).await?;
        let projections = domain.projections.into_values().collect();
        let views = Views::open(databases.views.clone(), log.clone(), domain.events, projections)?;
        Ok(Self { databases, log, views })
    }

    /// Closes them; what was begun is finished.
    pub(crate) async fn close(self) {
        self.log.close().await;
        self.databases.close().await;
    }
}

/// The parts of Daybook, joined and running.
pub(crate) struct Engine {
    pub(crate) domain: Arc<Domain>,
    pub(crate) databases: Databases,
    pub(crate) log: Log,
    pub(crate) keys: Keys,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) identity: Identity,
    pub(crate) views: Views,
}

impl Engine {
    /// Starts everything that every process needs. The databases have to be migrated.
    pub(crate) async fn start(
        domain: Domain,
        config: &Config,
        databases: Databases,
        missing: Missing,
    ) -> anyhow::Result<Self> {
        let domain = Arc::new(domain);
        let log = async { anyhow::Ok(Log::open(databases.log.clone(), config.appends.clone()).await?) };
        let keys = async {
            let masters = master::keys(config, &databases.keys, missing).await?;
            anyhow::Ok(Keys::open(&databases.keys, masters).await?)
        };
        let (log, keys) = try_join!(log, keys)?;
        let dispatcher = Dispatcher::new(log.clone(), keys.clone(), config.commands.clone());
        let identity = Identity::start(
            databases.keys.clone(),
            log.clone(),
            dispatcher.clone(),
            keys.clone(),
            domain.on_account_opened,
            config.identity.clone(),
        )
        .await?;
        let projections = domain.projections.values().cloned().collect();
        let views = Views::open(databases.views.clone(), log.clone(), domain.events.clone(), projections)?;
        Ok(Self { domain, databases, log, keys, dispatcher, identity, views })
    }

    /// Stops it in the reverse order; what was begun is finished.
    pub(crate) async fn stop(self) {
        self.identity.stop().await;
        self.dispatcher.close().await;
        self.log.close().await;
        self.databases.close().await;
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::EventSet;
    use daybook_core::testing::check_contracts;

    use super::*;

    #[test]
    fn contracts_are_kept() {
        check_contracts(env!("CARGO_MANIFEST_DIR"), &[DemoEvent::TYPES, FillEvent::TYPES, RestoreEvent::TYPES]);
    }
}
