//! Where a measurement is made.

use anyhow::bail;
use clap::ArgMatches;
use daybook_database::{Database, Location, Options, Schema};

/// Where the log is.
pub(crate) struct Store(Location);

impl Store {
    /// Out of `--url` or `--file`.
    pub(crate) fn from(arguments: &ArgMatches) -> anyhow::Result<Self> {
        match (arguments.get_one::<String>("url"), arguments.get_one::<String>("file")) {
            (Some(url), None) => Ok(Self(url.parse()?)),
            (None, Some(path)) => Ok(Self(Location::Sqlite(path.into()))),
            _ => bail!("say where: `--url` or `--file`"),
        }
    }

    /// Connects as a process of Daybook does, and makes the log when there is none.
    pub(crate) async fn open(&self) -> anyhow::Result<Database> {
        let database = Database::connect(&self.0, &Options::default()).await?;
        database.migrate(Schema::Log).await?;
        Ok(database)
    }
}
