//! One measurement at a time: `cargo xtask bench` runs this again and again, in turn with a baseline, and compares.
//!
//! Each verb prints one line of JSON and ends. The load comes from within the process, on one thread (`--threads`), as
//! light as it can be: it shares the machine with what is measured.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measurement is there to be printed")]

mod append;
mod closed_loop;
mod hot;
mod process;
mod store;
mod workload;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::closed_loop::Window;
use crate::store::Store;

fn main() -> ExitCode {
    let matches = cli().get_matches();
    match measure(&matches) {
        Ok(measured) => {
            println!("{measured}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn cli() -> Command {
    let value = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").default_value(default).help(help)
    };
    let load = [
        Arg::new("url").long("url").value_name("URL").help("The log's PostgreSQL database"),
        Arg::new("file").long("file").value_name("PATH").conflicts_with("url").help("The log's SQLite file"),
        value("callers", "64", "How many call at a time"),
        value("warm-up", "2", "Seconds before anything counts"),
        value("seconds", "5", "Seconds that count"),
        value("threads", "1", "Threads that the callers share"),
    ];
    Command::new("daybook-bench")
        .about("One measurement; `cargo xtask bench` compares")
        .subcommand_required(true)
        .subcommand(Command::new("append").about("Appends, one event each").args(load.clone()))
        .subcommand(
            Command::new("hot").about("Commands, each deciding on the newest state of a stream").args(load).args(
                [
                    value("streams", "1", "How many streams the callers share"),
                    Arg::new("prefix").long("prefix").default_value("").help("What the streams' ids begin with"),
                ],
            ),
        )
}

fn measure(matches: &ArgMatches) -> anyhow::Result<Value> {
    let Some((verb, arguments)) = matches.subcommand() else { bail!("say what to measure") };
    runtime(number(arguments, "threads")?)?.block_on(async {
        let store = Store::from(arguments)?;
        let window = Window { warm_up: seconds(arguments, "warm-up")?, measured: seconds(arguments, "seconds")? };
        let callers = number(arguments, "callers")?;
        match verb {
            "append" => append::append(&store, callers, window).await,
            "hot" => {
                let prefix = arguments.get_one::<String>("prefix").map_or("", String::as_str);
                hot::hot(&store, prefix, callers, number(arguments, "streams")?, window).await
            }
            other => bail!("`{other}` is not measured here"),
        }
    })
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    match threads {
        1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    arguments: &ArgMatches,
    name: &str,
) -> anyhow::Result<T> {
    let text = arguments.get_one::<String>(name).with_context(|| format!("`--{name}` is missing"))?;
    text.parse().with_context(|| format!("`--{name}`"))
}

fn seconds(arguments: &ArgMatches, name: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(number(arguments, name)?)?)
}
