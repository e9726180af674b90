//! A store of a test's own.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::process::Process;
use crate::{Output, wait_for};

/// How long connections may take to end.
const LIMIT: Duration = Duration::from_secs(30);

/// The backends that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded store, in the data folder.
    Sqlite,
    /// A database on the server of `DATABASE_URL`.
    Postgres,
}

/// A data folder and, on PostgreSQL, a database. Both go when it is dropped.
#[derive(Debug)]
pub struct Store {
    data: TempDir,
    database: Option<Database>,
    /// What it was copied from, which others may want to copy as long as it is there.
    _original: Option<Arc<Store>>,
}

/// A database on the test server.
#[derive(Debug)]
struct Database {
    server: PgConnectOptions,
    name: String,
}

/// Keeps everybody from appending until it is dropped.
#[must_use]
pub struct Held(#[expect(dead_code, reason = "dropping it is what it is for")] Box<dyn Send>);

impl Store {
    /// Makes an empty one.
    ///
    /// # Panics
    ///
    /// When there is no server to make a database on.
    pub async fn new(backend: Backend) -> Self {
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => {
                let url = std::env::var("DATABASE_URL")
                    .expect("DATABASE_URL is not set: `cargo xtask test` starts a PostgreSQL and sets it");
                let server = PgConnectOptions::from_str(&url).expect("DATABASE_URL is a PostgreSQL URL");
                Some(Database::create(server, "template1").await)
            }
        };
        Self { data: folder(), database, _original: None }
    }

    /// Makes one with all that is in another, which nobody uses.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub(crate) async fn copy(original: Arc<Self>) -> Self {
        let data = folder();
        for file in std::fs::read_dir(original.data()).expect("a folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), data.path().join(file.file_name())).expect("there is room for a copy");
        }
        let database = match &original.database {
            None => None,
            Some(Database { server, name }) => Some(Database::create(server.clone(), name).await),
        };
        Self { data, database, _original: Some(original) }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Runs a verb of the command line on it.
    pub fn cli(&self, args: &[&str]) -> Output {
        Process::run(self, args, "")
    }

    /// Runs a script of a shell, for which `daybook-data` is its data folder and `target/release/daybook` the binary.
    pub fn shell(&self, script: &str) -> Output {
        Process::shell(self, script)
    }

    /// Puts a master key where `serve` looks for it: on PostgreSQL it makes none.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub fn give_master_key(&self) {
        let key = [Uuid::new_v4(), Uuid::new_v4()].map(|half| half.simple().to_string()).concat();
        std::fs::write(self.data().join("master.key"), key).expect("the folder is ours");
    }

    /// The `DATABASE_URL` of the database, on PostgreSQL.
    pub fn database_url(&self) -> Option<String> {
        let Database { server, name } = self.database.as_ref()?;
        Some(server.clone().database(name).to_url_lossy().to_string())
    }

    /// Lets nobody into the database and ends every connection to it, as if its server were down.
    ///
    /// # Panics
    ///
    /// When it is not on PostgreSQL, or that does not succeed.
    pub async fn shut(&self) {
        let Database { server, name } = self.database();
        execute(server, format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.expect("it can be shut");
        let mut connection = PgConnection::connect_with(server).await.expect("the server itself still runs");
        wait_for("the connections to end", LIMIT, async || {
            let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
            let left: i64 =
                sqlx::query_scalar(ended).bind(name).fetch_one(&mut connection).await.expect("we may end them");
            (left == 0).then_some(())
        })
        .await;
        connection.close().await.expect("nobody has ended this one");
    }

    /// Ends what [`shut`](Self::shut) began.
    ///
    /// # Panics
    ///
    /// When it is not on PostgreSQL, or that does not succeed.
    pub async fn open(&self) {
        let Database { server, name } = self.database();
        execute(server, format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.expect("it can be opened");
    }

    /// Gives a setting another value for all connections to come.
    ///
    /// # Panics
    ///
    /// When it is not on PostgreSQL, or that does not succeed.
    pub async fn set(&self, setting: &str, value: &str) {
        let Database { server, name } = self.database();
        execute(server, format!("ALTER DATABASE {name} SET {setting} = {value}")).await.expect("it can be set");
    }

    /// Takes the log back to where it ended at a position, under whoever uses it, as putting an older backup in its
    /// place does.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub async fn roll_back(&self, position: u64) {
        let delete = format!("DELETE FROM events WHERE position > {position}");
        let rolled_back = match &self.database {
            None => {
                let options = SqliteConnectOptions::new().filename(self.data().join("log.db"));
                let mut connection = options.connect().await.expect("the file opens");
                let allow = "DROP TRIGGER events_never_delete";
                sqlx::raw_sql(AssertSqlSafe(format!("{allow}; {delete}"))).execute(&mut connection).await.map(drop)
            }
            Some(Database { server, name }) => {
                let allow = "ALTER TABLE events DISABLE TRIGGER events_never_change";
                execute(&server.clone().database(name), format!("{allow}; {delete}")).await
            }
        };
        rolled_back.expect("whoever owns the database can do anything");
    }

    /// Appends to a log that nobody uses, behind the newest event of a type and in its stream, another one that no version
    /// of the program would have let in.
    ///
    /// # Panics
    ///
    /// When there is none of this type, or that does not succeed.
    pub async fn append_unlawful(&self, event_type: &str, payload: &serde_json::Value) {
        let insert = format!(
            "INSERT INTO events SELECT (SELECT max(position) + 1 FROM events), stream, \
             (SELECT max(revision) + 1 FROM events WHERE stream = one.stream), '{}', type, schema_version, \
             (SELECT max(recorded_at) FROM events), metadata, '{payload}' \
             FROM events AS one WHERE type = '{event_type}' ORDER BY position DESC LIMIT 1",
            Uuid::new_v4()
        );
        let appended = self.execute("log.db", insert).await;
        appended.expect("whoever owns the database can do anything");
    }

    /// Runs a statement on the views, as somebody might who mends them by hand.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub async fn tamper_with_views(&self, statement: &str) {
        self.execute("views.db", statement.to_owned()).await.expect("whoever owns the database can do anything");
    }

    /// Runs a statement in a file of the embedded store, or else in the database.
    async fn execute(&self, file: &str, statement: String) -> Result<(), sqlx::Error> {
        match &self.database {
            None => {
                let options = SqliteConnectOptions::new().filename(self.data().join(file));
                let mut connection = options.connect().await?;
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
                connection.close().await
            }
            Some(Database { server, name }) => execute(&server.clone().database(name), statement).await,
        }
    }

    /// Keeps everybody from appending, as a process does that is frozen while it commits, until what is answered is
    /// dropped.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub async fn hold_head(&self) -> Held {
        match &self.database {
            None => {
                let options = SqliteConnectOptions::new().filename(self.data().join("log.db"));
                let mut connection = options.connect().await.expect("the file opens");
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
                Held(Box::new(connection))
            }
            Some(Database { server, name }) => {
                let options = server.clone().database(name);
                let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
                let lock = "BEGIN; SELECT FROM log_identity FOR UPDATE";
                sqlx::raw_sql(lock).execute(&mut connection).await.expect("the lock");
                Held(Box::new(connection))
            }
        }
    }

    /// Keeps everybody from reading events, too.
    ///
    /// # Panics
    ///
    /// When it is not on PostgreSQL, or that does not succeed.
    pub async fn hold_events(&self) -> Held {
        let Database { server, name } = self.database();
        let options = server.clone().database(name);
        let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
        let lock = "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut connection).await.expect("the lock");
        Held(Box::new(connection))
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("the test runs on PostgreSQL only")
    }
}

impl Database {
    /// Makes one with all that is in another on its server.
    async fn create(server: PgConnectOptions, original: &str) -> Self {
        let name = format!("daybook_it_{}", Uuid::now_v7().simple());
        let create = format!("CREATE DATABASE {name} TEMPLATE {original}");
        execute(&server, create).await.expect("a database of the test's own");
        Self { server, name }
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("daybook-it-").tempdir().expect("a temporary folder")
}

impl Drop for Store {
    /// On a thread with a runtime of its own: a test's runtime cannot be waited on from within.
    fn drop(&mut self) {
        let Some(Database { server, name }) = self.database.take() else { return };
        let dropping = std::thread::spawn(move || {
            let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(execute(&server, statement)))
        });
        let outcome = dropping.join();
        if !std::thread::panicking() {
            outcome.expect("no panic").expect("a runtime").expect("the test's database goes");
        }
    }
}

async fn execute(server: &PgConnectOptions, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}
