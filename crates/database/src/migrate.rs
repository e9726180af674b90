//! Migrations: the files under `migrations/`, compiled in, each run once and never changed.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, SqlSafeStr};

use crate::{Database, DatabaseError};

/// A set of tables that belong together and may live in a database of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// The event log.
    Log,
    /// Checkpoints and leases of the projections. The views' own tables are derived: their projector makes them.
    Views,
    /// Credentials, tokens and keys.
    Keys,
}

/// One migration file: its number, what it does, its text.
type File = (i64, &'static str, &'static str);

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../migrations/", $path)))),*]
    };
}

/// Splits `postgres/log/0001_events.sql` into its number and what it does.
fn parse((path, sql): &(&'static str, &'static str)) -> Option<File> {
    let name = path.rsplit('/').next()?.strip_suffix(".sql")?;
    let (number, what) = name.split_once('_')?;
    Some((number.parse().ok()?, what, sql))
}

impl Schema {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Log, Self::Views, Self::Keys];

    /// Its name, in messages and folders.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Views => "views",
            Self::Keys => "keys",
        }
    }

    /// The table that remembers which of its migrations have run. One for each schema, since several may share a
    /// database.
    const fn table(self) -> &'static str {
        match self {
            Self::Log => "daybook_log_migrations",
            Self::Views => "daybook_views_migrations",
            Self::Keys => "daybook_keys_migrations",
        }
    }

    fn files(self, database: &Database) -> &'static [(&'static str, &'static str)] {
        match (database, self) {
            (Database::Postgres(_), Self::Log) => {
                files![
                    "postgres/log/0001_events.sql",
                    "postgres/log/0002_events_of_people.sql",
                    "postgres/log/0003_relay.sql",
                    "postgres/log/0004_fence.sql",
                ]
            }
            (Database::Postgres(_), Self::Views) => {
                files![
                    "postgres/views/0001_projections.sql",
                    "postgres/views/0002_generations.sql",
                    "postgres/views/0003_pauses.sql"
                ]
            }
            (Database::Postgres(_), Self::Keys) => {
                files!["postgres/keys/0001_keys.sql", "postgres/keys/0002_subjects_forgotten.sql"]
            }
            (Database::Sqlite(_), Self::Log) => {
                files![
                    "sqlite/log/0001_events.sql",
                    "sqlite/log/0002_events_of_people.sql",
                    "sqlite/log/0003_relay.sql",
                ]
            }
            (Database::Sqlite(_), Self::Views) => {
                files![
                    "sqlite/views/0001_projections.sql",
                    "sqlite/views/0002_generations.sql",
                    "sqlite/views/0003_pauses.sql"
                ]
            }
            (Database::Sqlite(_), Self::Keys) => {
                files!["sqlite/keys/0001_keys.sql", "sqlite/keys/0002_subjects_forgotten.sql"]
            }
        }
    }

    fn migrator(self, database: &Database) -> Migrator {
        let migrations = self
            .files(database)
            .iter()
            .filter_map(parse)
            .map(|(number, what, sql)| {
                Migration::new(number, what.into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect();
        let mut migrator = Migrator::with_migrations(migrations);
        migrator.dangerous_set_table_name(self.table());
        migrator
    }
}

impl Database {
    /// Runs the migrations that have not run yet. Safe to call from several processes at once. When all have run, it only
    /// looks.
    ///
    /// # Errors
    ///
    /// When one fails, or one that has run is not the one that this program knows.
    pub async fn migrate(&self, schema: Schema) -> Result<(), DatabaseError> {
        let migrator = schema.migrator(self);
        let known = migrator.iter().map(|one| (one.version, one.checksum.to_vec(), true));
        if self.ran(schema).await?.into_iter().eq(known) {
            return Ok(());
        }
        match self {
            // On a connection of its own: a migration, or waiting for another process's, may take as long as it takes.
            Self::Postgres(pool) => {
                let mut connection = PgConnection::connect_with(pool.connect_options().as_ref()).await?;
                migrator.run(&mut connection).await
            }
            Self::Sqlite(file) => migrator.run(file.writer()).await,
        }
        .map_err(|source| DatabaseError::Migration { schema: schema.name(), source })
    }

    /// Checks that all migrations have run.
    ///
    /// # Errors
    ///
    /// [`DatabaseError::NotMigrated`] when not.
    pub async fn check_migrated(&self, schema: Schema) -> Result<(), DatabaseError> {
        let newest = schema.migrator(self).iter().map(|one| one.version).max();
        let reached =
            self.ran(schema).await?.into_iter().filter(|(.., success)| *success).map(|(version, ..)| version);
        if reached.max() < newest { Err(DatabaseError::NotMigrated(schema.name())) } else { Ok(()) }
    }

    /// The migrations that ran, in their order: their numbers, their checksums, and whether they succeeded.
    async fn ran(&self, schema: Schema) -> Result<Vec<(i64, Vec<u8>, bool)>, DatabaseError> {
        let exists: bool = match self {
            Self::Postgres(pool) => {
                sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                    .bind(schema.table())
                    .fetch_one(pool)
                    .await?
            }
            Self::Sqlite(file) => {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = $1)")
                    .bind(schema.table())
                    .fetch_one(file.readers())
                    .await?
            }
        };
        if !exists {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT version, checksum, success FROM {} ORDER BY version", schema.table());
        let sql = sqlx::AssertSqlSafe(sql);
        Ok(match self {
            Self::Postgres(pool) => sqlx::query_as(sql).fetch_all(pool).await?,
            Self::Sqlite(file) => sqlx::query_as(sql).fetch_all(file.readers()).await?,
        })
    }
}
