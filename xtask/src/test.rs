//! `cargo xtask test`: every check and every test.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::build::{self, cargo};
use crate::child;
use crate::postgres::Cluster;
use crate::steps::Steps;

/// How many tests run at once for each processor: most of them wait for a database, for a process or for time to pass.
const TESTS_PER_PROCESSOR: usize = 2;

/// Takes all steps, until one fails.
///
/// # Errors
///
/// When a step fails.
pub(crate) async fn run(test_args: &[String]) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let outcome = take(&mut steps, test_args).await;
    steps.print_summary();
    outcome
}

/// Cheap steps first, so that a mistake is told early.
async fn take(steps: &mut Steps, test_args: &[String]) -> anyhow::Result<()> {
    steps.take("format", child::run(&mut cargo(&["fmt", "--all", "--check"]))).await?;
    let server = steps.take("PostgreSQL", Server::find_or_start()).await?;
    let clippy = &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.take("lints", child::run(&mut cargo(clippy))).await?;
    let doc = &["doc", "--workspace", "--no-deps"];
    steps.take("documentation", child::run(cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))).await?;
    let [binary] = steps.take("the binary", build::binaries(["daybook"], "dev")).await?;
    let test = &["test", "--workspace", "--no-fail-fast"];
    steps.take("the tests' build", child::run(cargo(test).arg("--no-run"))).await?;
    // What an interrupted test cannot remove by itself goes with this folder.
    let folder = tempfile::Builder::new().prefix("daybook-test-").tempdir()?;
    let threads = TESTS_PER_PROCESSOR * available_parallelism().map_or(1, NonZeroUsize::get);
    let mut test = cargo(test);
    test.args(test_args).env("DATABASE_URL", server.url()).env("DAYBOOK_BIN", binary).env("TMPDIR", folder.path());
    test.env("RUST_TEST_THREADS", threads.to_string());
    steps.take("tests", child::run(&mut test)).await
}

/// The PostgreSQL that the tests use.
enum Server {
    /// Somebody else's.
    Given(String),
    /// Our own.
    Started(Cluster),
}

impl Server {
    async fn find_or_start() -> anyhow::Result<Self> {
        match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Ok(Self::Given(url)),
            _ => Cluster::start(&[]).await.map(Self::Started),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Given(url) => url.clone(),
            Self::Started(cluster) => cluster.url(),
        }
    }
}
