//! `cargo xtask test`: every check and every test.

use std::path::PathBuf;

use tokio::process::Command;

use crate::build::{self, cargo};
use crate::kafka::Broker;
use crate::nginx::{self, Place, Proxy};
use crate::postgres::Cluster;
use crate::steps::Steps;
use crate::suite::{self, Binary};
use crate::{child, install};

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
    let postgres = Found::or_start("DATABASE_URL", Cluster::start(&[]), Cluster::url);
    let postgres = steps.take("PostgreSQL", postgres).await?;
    let proxy = steps.take("nginx", proxy()).await?;
    // It takes seconds to start, while the compiler is at work.
    let kafka = Found::or_start("KAFKA_BROKERS", Broker::start(), |broker| broker.address().to_owned());
    let ((binary, tests), kafka) = tokio::try_join!(check_and_build(steps), kafka)?;
    // What an interrupted test cannot remove by itself goes with this folder.
    let folder = tempfile::Builder::new().prefix("daybook-test-").tempdir()?;
    let mut settings = vec![
        ("DAYBOOK_BIN", binary.as_os_str()),
        ("TMPDIR", folder.path().as_os_str()),
        ("DATABASE_URL", postgres.address.as_ref()),
        ("KAFKA_BROKERS", kafka.address.as_ref()),
    ];
    settings.extend(proxy.iter().map(|proxy| ("DAYBOOK_TEST_PROXY", proxy.address.as_ref())));
    steps.take("tests", suite::run(tests, &settings, test_args)).await
}

/// The proxy that tests put in front of processes, and `jq`, which the README's tour reads answers with. Where there is
/// neither, the tests that need them say so, and the others are run.
async fn proxy() -> anyhow::Result<Option<Found<Proxy>>> {
    for found in [nginx::find_or_install().await, install::program("jq", "jq").await] {
        if let Err(error) = found {
            println!("Not started: {error:#}.");
            return Ok(None);
        }
    }
    let start = async { Proxy::start(Place::apart()?).await };
    Found::or_start("DAYBOOK_TEST_PROXY", start, Proxy::addresses).await.map(Some)
}

/// Whether there is what TLS and SASL are built with, installing it where that is possible.
async fn has_openssl() -> anyhow::Result<bool> {
    if is_there().await {
        return Ok(true);
    }
    if install::possible()? {
        install::packages(&["libssl-dev", "pkg-config"]).await?;
        return Ok(true);
    }
    println!("Not checked: TLS towards Kafka (Debian, Ubuntu: sudo apt-get install libssl-dev pkg-config).");
    Ok(false)
}

async fn is_there() -> bool {
    let asked = Command::new("pkg-config").args(["--exists", "openssl"]).status().await;
    asked.is_ok_and(|status| status.success())
}

/// Takes the steps between the servers' start and the tests; answers where the binary is, and the tests.
async fn check_and_build(steps: &mut Steps) -> anyhow::Result<(PathBuf, Vec<Binary>)> {
    let clippy = &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.take("lints", child::run(&mut cargo(clippy))).await?;
    if has_openssl().await? {
        let tls = &["check", "--package", "daybook", "--features", "kafka-tls"];
        steps.take("TLS towards Kafka", child::run(&mut cargo(tls))).await?;
    }
    let doc = &["doc", "--workspace", "--no-deps"];
    steps.take("documentation", child::run(cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))).await?;
    let [binary] = steps.take("the binary", build::binaries(["daybook"], "dev")).await?;
    let tests = steps.take("the tests' build", suite::build()).await?;
    Ok((binary, tests))
}

/// A server that the tests use.
struct Found<S> {
    address: String,
    /// When it is not somebody else's, it goes with this.
    _ours: Option<S>,
}

impl<S> Found<S> {
    /// The one that `setting` names, or else one of our own.
    async fn or_start(
        setting: &str,
        start: impl Future<Output = anyhow::Result<S>>,
        address: impl FnOnce(&S) -> String,
    ) -> anyhow::Result<Self> {
        match std::env::var(setting) {
            Ok(given) if !given.is_empty() => Ok(Self { address: given, _ours: None }),
            _ => {
                let ours = start.await?;
                Ok(Self { address: address(&ours), _ours: Some(ours) })
            }
        }
    }
}
