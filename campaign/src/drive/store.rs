//! The store that a campaign is about: made for it, and gone afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use daybook_database::{Database, Location, Options, Schema};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use uuid::Uuid;

/// The two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file that several processes open.
    Sqlite,
    /// A database on a server.
    Postgres,
}

/// Makes a store for `work`, and removes it, whatever comes of that.
pub(crate) async fn with_store<T>(
    backend: Backend,
    server_url: Option<&str>,
    folder: &Path,
    work: impl AsyncFnOnce(&Store) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let store = match backend {
        Backend::Postgres => Store::postgres(server_url.context("PostgreSQL needs DATABASE_URL")?).await?,
        Backend::Sqlite => Store::sqlite(folder).await?,
    };
    let outcome = work(&store).await;
    let removed = store.remove().await;
    let outcome = outcome?;
    removed?;
    Ok(outcome)
}

/// A store of a campaign's own.
#[derive(Debug)]
pub(crate) struct Store {
    location: Location,
    /// The server that the database was made on, and its name there.
    made: Option<(PgConnectOptions, String)>,
}

impl Store {
    /// A database on the server at `url`.
    async fn postgres(url: &str) -> anyhow::Result<Self> {
        let server: PgConnectOptions = url.parse().context("DATABASE_URL is no PostgreSQL URL")?;
        let server = server.ssl_mode(PgSslMode::Disable);
        let name = format!("daybook_campaign_{}", Uuid::now_v7().simple());
        let location = Location::Postgres(Box::new(server.clone().database(&name)));
        let store = Self { location, made: Some((server, name)) };
        store.administer("CREATE DATABASE").await?;
        store.migrated().await
    }

    /// A file in a folder.
    async fn sqlite(folder: &Path) -> anyhow::Result<Self> {
        Self { location: Location::Sqlite(folder.join("log.db")), made: None }.migrated().await
    }

    async fn migrated(self) -> anyhow::Result<Self> {
        let database = self.connect().await?;
        database.migrate(Schema::Log).await?;
        database.migrate(Schema::Keys).await?;
        database.migrate(Schema::Views).await?;
        database.close().await;
        Ok(self)
    }

    /// Connects to it, past every proxy.
    pub(crate) async fn connect(&self) -> anyhow::Result<Database> {
        self.connect_with(&Options::default()).await
    }

    /// The same, as somebody does who waits longer, say.
    pub(crate) async fn connect_with(&self, options: &Options) -> anyhow::Result<Database> {
        Ok(Database::connect(&self.location, options).await?)
    }

    /// A connection to its server's administration.
    pub(super) async fn administration(&self) -> anyhow::Result<PgConnection> {
        let (server, _) = self.made.as_ref().context("an embedded store has no server")?;
        Ok(PgConnection::connect_with(server).await?)
    }

    /// The database's name on its server.
    pub(super) fn name(&self) -> Option<&str> {
        self.made.as_ref().map(|(_, name)| name.as_str())
    }

    /// The server's address, for a proxy.
    pub(super) fn server(&self) -> anyhow::Result<String> {
        let (server, _) = self.made.as_ref().context("an embedded store has no server")?;
        if server.get_socket().is_some() || server.get_host().starts_with('/') {
            bail!("the campaign needs a server that listens on TCP");
        }
        Ok(format!("{}:{}", server.get_host(), server.get_port()))
    }

    /// How a process is told where it is: through a proxy, where there is one.
    pub(crate) fn arguments(&self, proxy: Option<std::net::SocketAddr>) -> anyhow::Result<[String; 2]> {
        match (&self.location, proxy) {
            (Location::Sqlite(path), _) => Ok(["--file".into(), path.display().to_string()]),
            (Location::Postgres(options), proxy) => {
                let options = (**options).clone();
                let options = match proxy {
                    Some(proxy) => options.host(&proxy.ip().to_string()).port(proxy.port()),
                    None => options,
                };
                Ok(["--database-url".into(), options.to_url_lossy().to_string()])
            }
        }
    }

    /// The file that it is.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match &self.location {
            Location::Sqlite(path) => Some(path.clone()),
            Location::Postgres(_) => None,
        }
    }

    /// Removes the database from its server. A file goes with its folder.
    async fn remove(&self) -> anyhow::Result<()> {
        if self.made.is_some() { self.administer("DROP DATABASE IF EXISTS").await } else { Ok(()) }
    }

    async fn administer(&self, what: &str) -> anyhow::Result<()> {
        let mut connection = self.administration().await?;
        let force = if what.starts_with("DROP") { " WITH (FORCE)" } else { "" };
        let statement = format!("{what} {}{force}", self.name().unwrap_or_default());
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}
