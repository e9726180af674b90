//! Databases for tests: each test gets one of its own, and none is left behind.

use std::future::Future;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{Database, Location, Options, Schema};

/// The backends that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A SQLite file in a temporary folder.
    Sqlite,
    /// A fresh database on the server of `DATABASE_URL`.
    Postgres,
}

/// Runs a test on a fresh database with `schemas` migrated, and removes the database whatever the outcome.
///
/// # Panics
///
/// When the test does, or when there is no server to test on.
pub async fn run<F>(backend: Backend, schemas: &[Schema], test: impl FnOnce(Location, Database) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    match backend {
        Backend::Sqlite => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let location = Location::Sqlite(folder.path().join("test.db"));
            run_at(location, schemas, test).await;
        }
        Backend::Postgres => {
            let url = std::env::var("DATABASE_URL")
                .expect("DATABASE_URL is not set: `cargo xtask test` starts a PostgreSQL and sets it");
            let name = format!("daybook_test_{}", unique());
            let mut server = PgConnection::connect(&url).await.expect("the test server answers");
            sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
                .execute(&mut server)
                .await
                .expect("a database of the test's own");
            let Ok(Location::Postgres(options)) = url.parse() else {
                panic!("DATABASE_URL is not a PostgreSQL URL")
            };
            run_at(Location::Postgres(Box::new(options.database(&name))), schemas, test).await;
        }
    }
}

async fn run_at<F>(location: Location, schemas: &[Schema], test: impl FnOnce(Location, Database) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let database = Database::connect(&location, &Options::default()).await.expect("the test's database answers");
    for schema in schemas {
        database.migrate(*schema).await.expect("the migrations run");
    }
    let outcome = tokio::spawn(test(location.clone(), database.clone())).await;
    database.close().await;
    if let Location::Postgres(options) = location {
        let name = options.get_database().unwrap_or_default().to_owned();
        let mut server =
            PgConnection::connect_with(&options.database("postgres")).await.expect("the test server answers");
        sqlx::query(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
            .execute(&mut server)
            .await
            .expect("the test's database goes");
    }
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// How long a test waits for anything.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks until `look` answers something, and answers that.
///
/// # Panics
///
/// When that takes too long.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, found)
        .await
        .unwrap_or_else(|_| panic!("after {WAIT_MAX:?} still waiting for {what}"))
}

/// Unique among all tests that run on one server.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    format!("{}_{nanos}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes one test for each backend out of an `async fn(Location, Database)`, as a module with the function's name;
/// `Schema` is in scope for the list of schemas.
///
/// ```text
/// on_both!(&[Schema::Log], appended_events_are_read_back);
/// ```
#[macro_export]
macro_rules! on_both {
    ($schemas:expr, $($test:ident),+ $(,)?) => {
        $(mod $test {
            use $crate::Schema;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::testing::run($crate::testing::Backend::Sqlite, $schemas, super::$test).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::testing::run($crate::testing::Backend::Postgres, $schemas, super::$test).await;
            }
        })+
    };
}
