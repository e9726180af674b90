//! Developer commands: `cargo xtask test`, `bench`, `campaign`, `postgres`, `kafka`, `nginx` and `cluster`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a developer command is for")]

mod bench;
mod build;
mod campaign;
mod child;
mod cluster;
mod disk;
mod install;
mod kafka;
mod loopback;
mod nginx;
mod orders;
mod postgres;
mod server;
mod server_binaries;
mod steps;
mod suite;
mod test;
mod user;

use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use crate::campaign::Campaign;
use crate::cluster::System;
use crate::kafka::Broker;
use crate::nginx::{Place, Proxy};
use crate::postgres::Cluster;
use crate::server::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = run(&cli().get_matches()).await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn cli() -> Command {
    Command::new("cargo xtask")
        .about("Developer commands")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("test")
                .about("Runs every check and every test, on SQLite and PostgreSQL")
                .long_about(
                    "Runs every check and every test, on SQLite and PostgreSQL.\n\nUses the PostgreSQL server of \
                     DATABASE_URL when that is set (each test makes a database of its own there), the Kafka of \
                     KAFKA_BROKERS (each test makes topics of its own there), and the nginx of DAYBOOK_TEST_PROXY, \
                     and else starts its own, which are gone afterwards.",
                )
                .arg(
                    Arg::new("args")
                        .value_name("ARGS")
                        .num_args(0..)
                        .last(true)
                        .help("Passed on to each binary of tests: part of a test's name, or `--nocapture`"),
                ),
        )
        .subcommand(bench::command())
        .subcommand(
            Command::new("campaign")
                .about("Makes things go wrong, and proves that nothing comes of it")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(log_campaign())
                .subcommand(views_campaign())
                .subcommand(kafka_campaign()),
        )
        .subcommand(
            Command::new("postgres")
                .about("Starts a throw-away PostgreSQL, prints its DATABASE_URL, and stops it on Ctrl-C"),
        )
        .subcommand(
            Command::new("kafka")
                .about("Starts a throw-away Apache Kafka, prints its KAFKA_BROKERS, and stops it on Ctrl-C"),
        )
        .subcommand(Command::new("nginx").about(
            "Starts an nginx for tests, prints its DAYBOOK_TEST_PROXY (its address, and those of the two API processes \
             that it is in front of), and stops it on Ctrl-C",
        ))
        .subcommand(
            Command::new("cluster")
                .about("Starts all that a production has on one machine, and stops it on Ctrl-C")
                .long_about(
                    "Starts all that a production has, as separate processes on the loopback interface: PostgreSQL, \
                     Apache Kafka, nginx in front of two API processes, two projectors and two relays. It is gone \
                     afterwards.\n\nRuns the binary of DAYBOOK_BIN when that is set, and else builds it.",
                ),
        )
}

fn log_campaign() -> Command {
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    Command::new("log")
        .about("Writers on one log are killed, frozen and cut off; a checker proves that the log kept its word")
        .arg(number("seed").help("What all dice start from [default: drawn, and printed]"))
        .arg(number("faults").default_value("3500").help("How many faults, on each store"))
        .arg(number("seconds").help(
            "When to stop on a store, however many faults there were [default: when all were made; fewer are a failure]",
        ))
        .arg(Arg::new("store").long("store").value_parser(["postgres", "sqlite", "both"]).default_value("both"))
}

fn views_campaign() -> Command {
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    Command::new("views")
        .about("Processes that project are killed and frozen while views are rebuilt; each view has to be the log's fold")
        .arg(number("seed").help("What all dice start from [default: drawn, and printed]"))
        .arg(number("faults").default_value("300").help("How many faults, on each store"))
        .arg(Arg::new("store").long("store").value_parser(["postgres", "sqlite", "both"]).default_value("both"))
}

fn kafka_campaign() -> Command {
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    Command::new("kafka")
        .about(
            "Relays and projectors are killed, frozen and cut off, the broker is stopped, messages are removed; the topic has to \
             have had the log, and views that are fed from it have to be those that are fed from the log",
        )
        .arg(number("seed").help("What all dice start from [default: drawn, and printed]"))
        .arg(number("faults").default_value("100").help("How many faults, on each store"))
        .arg(Arg::new("store").long("store").value_parser(["postgres", "sqlite", "both"]).default_value("both"))
}

fn campaign(about: &'static str, matches: &ArgMatches) -> Campaign {
    let number = |name: &str| matches.try_get_one(name).ok().flatten().copied();
    Campaign {
        about,
        seed: number("seed").unwrap_or_else(|| UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()),
        faults: number("faults").unwrap_or_default(),
        seconds: number("seconds"),
        store: matches.try_get_one("store").ok().flatten().cloned().unwrap_or_default(),
    }
}

async fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("test", matches)) => {
            let args: Vec<_> = matches.get_many::<String>("args").unwrap_or_default().cloned().collect();
            unless_stopped(test::run(&args)).await
        }
        Some(("bench", matches)) => unless_stopped(bench::run(matches)).await,
        Some(("campaign", matches)) => match matches.subcommand() {
            Some(("log", matches)) => unless_stopped(campaign("log", matches).run()).await,
            Some(("views", matches)) => unless_stopped(campaign("views", matches).run()).await,
            Some(("kafka", matches)) => unless_stopped(campaign("kafka", matches).run()).await,
            other => unreachable!("clap let {other:?} through"),
        },
        Some(("postgres", _)) => {
            let mut cluster = unless_stopped(Cluster::start(&[])).await?;
            println!("DATABASE_URL={}", cluster.url());
            until_stopped(&mut [cluster.server()]).await
        }
        Some(("kafka", _)) => {
            let mut broker = unless_stopped(Broker::start()).await?;
            println!("KAFKA_BROKERS={}", broker.address());
            until_stopped(&mut [broker.server()]).await
        }
        Some(("nginx", _)) => {
            let mut proxy = unless_stopped(async { Proxy::start(Place::apart()?).await }).await?;
            println!("DAYBOOK_TEST_PROXY={}", proxy.addresses());
            until_stopped(&mut [proxy.server()]).await
        }
        Some(("cluster", _)) => {
            let mut system = unless_stopped(System::start()).await?;
            println!("{system}");
            until_stopped(&mut system.servers()).await
        }
        other => unreachable!("clap let {other:?} through"),
    }
}

/// Watches servers until a signal comes, and does meanwhile what is typed.
async fn until_stopped(servers: &mut [&mut Server]) -> anyhow::Result<()> {
    println!("{}", orders::HELP);
    tokio::select! {
        signal = stop_signal() => println!("{}: all is stopped, and removed.", signal?),
        never = orders::obey(servers) => match never {},
    }
    Ok(())
}

/// Does `work`, unless a signal comes first. What `work` had started is then stopped and removed as its values are
/// dropped.
async fn unless_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        signal = stop_signal() => Err(anyhow::anyhow!("stopped by {}", signal?)),
        outcome = work => outcome,
    }
}

/// Waits until somebody wants this process to end, and answers the signal's name.
async fn stop_signal() -> anyhow::Result<&'static str> {
    let listen = |kind| signal(kind).context("cannot listen to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}
