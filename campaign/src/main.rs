//! The campaigns' program: `daybook-campaign log`, `views` and `kafka` run a campaign, and start themselves as its writers and
//! processes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its summary is what it is for")]

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use daybook_campaign::drive::{self, Backend, Plan};
use daybook_campaign::kafka::drive::{Broker, Detour};
use daybook_campaign::kafka::relay::RelayPlan;
use daybook_campaign::summary::Summary;
use daybook_campaign::views::process::ProcessPlan;
use daybook_campaign::writer::{self, WriterPlan};
use daybook_campaign::{kafka, views};
use daybook_database::Location;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    match run(&cli().get_matches()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn cli() -> Command {
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    let path = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(PathBuf));
    let port = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u16));
    Command::new("daybook-campaign")
        .subcommand_required(true)
        .subcommand(
            Command::new("log")
                .about("Writes to a log under faults, and proves that it kept its word")
                .arg(Arg::new("store").long("store").value_parser(["postgres", "sqlite"]).required(true))
                .arg(number("seed").required(true))
                .arg(number("faults").required(true))
                .arg(
                    number("seconds")
                        .help("When to stop, however many faults there were; else all have to be made"),
                )
                .arg(number("writers").default_value("4"))
                .arg(number("clients").default_value("8").help("Of each writer"))
                .arg(number("lock-ms").default_value("1000").help("How long a writer waits for the log's head"))
                .arg(path("journals").required(true).help("An empty folder"))
                .arg(path("disk").help("A folder on a disk that may be filled, for the embedded store"))
                .arg(Arg::new("crash").long("crash").action(ArgAction::SetTrue).help("The server may be crashed"))
                .arg(Arg::new("database-url").long("database-url").env("DATABASE_URL").hide_env_values(true)),
        )
        .subcommand(
            Command::new("views")
                .about("Kills and freezes processes that project, and proves that their views kept their word")
                .arg(Arg::new("store").long("store").value_parser(["postgres", "sqlite"]).required(true))
                .arg(number("seed").required(true))
                .arg(number("faults").required(true))
                .arg(number("processes").default_value("4"))
                .arg(path("journals").required(true).help("An empty folder"))
                .arg(Arg::new("database-url").long("database-url").env("DATABASE_URL").hide_env_values(true)),
        )
        .subcommand(
            Command::new("kafka")
                .about(
                    "Kills and freezes relays and projectors, stops the broker, cuts connections and removes messages, and proves \
                     that the topic had the log, and that views were fed from it",
                )
                .arg(Arg::new("store").long("store").value_parser(["postgres", "sqlite"]).required(true))
                .arg(number("seed").required(true))
                .arg(number("faults").required(true))
                .arg(path("journals").required(true).help("An empty folder"))
                .arg(Arg::new("brokers").long("brokers").env("KAFKA_BROKERS").required(true))
                .arg(port("proxy").requires("proxied").help("Where the broker sends whoever comes by the proxy"))
                .arg(port("proxied").requires("proxy").help("Where it listens for the proxy"))
                .arg(path("broker-process").help("The file that says which process the broker is, if it may be killed"))
                .arg(Arg::new("database-url").long("database-url").env("DATABASE_URL").hide_env_values(true)),
        )
        .subcommand(
            Command::new("relay")
                .hide(true)
                .arg(Arg::new("database-url").long("database-url"))
                .arg(path("file"))
                .arg(Arg::new("brokers").long("brokers").required(true))
                .arg(Arg::new("topic").long("topic").required(true))
                .arg(Arg::new("name").long("name").required(true)),
        )
        .subcommand(
            Command::new("process")
                .hide(true)
                .arg(Arg::new("database-url").long("database-url"))
                .arg(path("file"))
                .arg(path("notes").required(true))
                .arg(number("seed").required(true))
                .arg(number("clients").required(true))
                .arg(Arg::new("brokers").long("brokers").requires("topic"))
                .arg(Arg::new("topic").long("topic").requires("brokers").help("Read instead of the log")),
        )
        .subcommand(
            Command::new("writer")
                .hide(true)
                .arg(Arg::new("database-url").long("database-url"))
                .arg(path("file"))
                .arg(path("journals").required(true))
                .arg(number("writer").required(true))
                .arg(number("life").required(true))
                .arg(number("seed").required(true))
                .arg(number("clients").required(true))
                .arg(number("lock-ms").required(true)),
        )
}

async fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("log", matches)) => {
            let plan = plan(matches)?;
            conduct(drive::run(&plan), drive::Summary::succeeded).await
        }
        Some(("views", matches)) => {
            let plan = views_plan(matches)?;
            conduct(views::drive::run(&plan), Summary::succeeded).await
        }
        Some(("kafka", matches)) => {
            let plan = kafka_plan(matches)?;
            conduct(kafka::drive::run(&plan), Summary::succeeded).await
        }
        Some(("relay", matches)) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            let settings = kafka_settings(matches, text(matches, "name"))?;
            kafka::relay::run(RelayPlan { database: location(matches)?, settings }).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(("process", matches)) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            let (database, notes) = (location(matches)?, path(matches, "notes"));
            let (seed, clients) = (number(matches, "seed"), number(matches, "clients").try_into()?);
            let reader = || kafka_settings(matches, "projector".to_owned());
            let topic = matches.contains_id("topic").then(reader).transpose()?;
            views::process::run(ProcessPlan { database, notes, seed, clients, topic }).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(("writer", matches)) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
            writer::run(writer_plan(matches)?).await?;
            Ok(ExitCode::SUCCESS)
        }
        other => unreachable!("clap let {other:?} through"),
    }
}

/// Runs a campaign, and prints what came of it.
async fn conduct<S: Display>(
    campaign: impl Future<Output = anyhow::Result<S>>,
    succeeded: impl FnOnce(&S) -> bool,
) -> anyhow::Result<ExitCode> {
    // Dropping it ends the processes, those that are frozen too.
    let summary = tokio::select! {
        summary = campaign => summary?,
        stopped = stop_signal() => anyhow::bail!("stopped by {}", stopped?),
    };
    print!("{summary}");
    Ok(if succeeded(&summary) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until somebody wants this process to end, and answers the signal's name.
async fn stop_signal() -> std::io::Result<&'static str> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    })
}

fn backend(matches: &ArgMatches) -> Backend {
    let sqlite = matches.get_one::<String>("store").is_some_and(|store| store == "sqlite");
    if sqlite { Backend::Sqlite } else { Backend::Postgres }
}

fn views_plan(matches: &ArgMatches) -> anyhow::Result<views::drive::Plan> {
    Ok(views::drive::Plan {
        backend: backend(matches),
        server_url: matches.get_one("database-url").cloned(),
        notes: path(matches, "journals"),
        binary: std::env::current_exe()?,
        seed: number(matches, "seed"),
        faults: number(matches, "faults"),
        processes: number(matches, "processes").try_into()?,
    })
}

fn kafka_plan(matches: &ArgMatches) -> anyhow::Result<kafka::drive::Plan> {
    let port = |name: &str| matches.get_one::<u16>(name).copied();
    let detour = port("proxy").zip(port("proxied")).map(|(proxy, broker)| Detour { proxy, broker });
    let process = matches.get_one("broker-process").cloned();
    Ok(kafka::drive::Plan {
        backend: backend(matches),
        server_url: matches.get_one("database-url").cloned(),
        broker: Broker { address: text(matches, "brokers"), detour, process },
        notes: path(matches, "journals"),
        binary: std::env::current_exe()?,
        seed: number(matches, "seed"),
        faults: number(matches, "faults"),
    })
}

fn kafka_settings(matches: &ArgMatches, process: String) -> anyhow::Result<daybook_kafka::Settings> {
    let topic = text(matches, "topic").parse().map_err(anyhow::Error::msg)?;
    Ok(kafka::relay::settings(text(matches, "brokers"), topic, process))
}

fn plan(matches: &ArgMatches) -> anyhow::Result<Plan> {
    Ok(Plan {
        backend: backend(matches),
        server_url: matches.get_one("database-url").cloned(),
        crash: matches.get_flag("crash"),
        disk: matches.get_one("disk").cloned(),
        journals: path(matches, "journals"),
        binary: std::env::current_exe()?,
        seed: number(matches, "seed"),
        faults: number(matches, "faults"),
        time_limit: matches.get_one("seconds").copied().map(Duration::from_secs),
        writers: number(matches, "writers").try_into()?,
        clients: number(matches, "clients").try_into()?,
        lock_timeout: Duration::from_millis(number(matches, "lock-ms")),
    })
}

fn writer_plan(matches: &ArgMatches) -> anyhow::Result<WriterPlan> {
    Ok(WriterPlan {
        database: location(matches)?,
        journals: path(matches, "journals"),
        writer: number(matches, "writer").try_into()?,
        life: number(matches, "life").try_into()?,
        seed: number(matches, "seed"),
        clients: number(matches, "clients").try_into()?,
        lock_timeout: Duration::from_millis(number(matches, "lock-ms")),
    })
}

fn location(matches: &ArgMatches) -> anyhow::Result<Location> {
    Ok(match matches.get_one::<String>("database-url") {
        Some(url) => url.parse()?,
        None => Location::Sqlite(path(matches, "file")),
    })
}

fn number(matches: &ArgMatches, name: &str) -> u64 {
    matches.get_one(name).copied().unwrap_or_default()
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one(name).cloned().unwrap_or_default()
}

fn path(matches: &ArgMatches, name: &str) -> PathBuf {
    matches.get_one(name).cloned().unwrap_or_default()
}
