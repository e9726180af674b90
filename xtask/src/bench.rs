//! `cargo xtask bench`: measures, compares, prints.

mod append;
mod figures;
mod goals;
mod hot;
mod plan;
mod programs;
mod server;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};

use crate::bench::figures::Row;
use crate::bench::goals::METRICS;
use crate::bench::plan::{Pace, Plan};
use crate::bench::programs::Programs;
use crate::bench::server::Server;

/// The command line of it.
pub(crate) fn command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(clap::value_parser!(u64).range(1..))
            .help(help)
    };
    Command::new("bench")
        .about("Measures, next to a baseline on the same server, and prints a table")
        .arg(
            Arg::new("names")
                .value_name("NAME")
                .num_args(1..)
                .required(true)
                .help("Benches (`append`), metrics (`append.c64`), or `all`"),
        )
        .args([
            Arg::new("json").long("json").value_name("FILE").help("Write the rows there, too"),
            number("rounds", "3", "How often each thing is measured, in turn with the others"),
            number("warm-up", "2", "Seconds of each measurement before anything counts"),
            number("seconds", "5", "Seconds of each measurement that count"),
            Arg::new("profile")
                .long("profile")
                .default_value("release")
                .help("The profile that is measured; `measure` builds faster, for tuning"),
        ])
}

/// Measures what was asked for.
///
/// # Errors
///
/// When something cannot be measured; a goal that is not met is no error.
pub(crate) async fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or(1);
    let plan = Plan {
        names: matches.get_many::<String>("names").unwrap_or_default().cloned().collect(),
        rounds: usize::try_from(number("rounds"))?,
        pace: Pace { warm_up_s: number("warm-up"), seconds: number("seconds") },
    };
    if let Some(name) =
        plan.names.iter().find(|name| METRICS.iter().all(|metric| !metric.is_meant_by(name.as_str())))
    {
        let all: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        bail!("nothing is named `{name}`; there are: {}", all.join(", "));
    }
    let profile = matches.get_one::<String>("profile").map_or("release", String::as_str);
    let programs = Programs::build(profile).await?;
    let server = Server::start().await?;
    println!("PostgreSQL {}, profile {profile}", server.version().await?);

    let mut rows = Vec::new();
    rows.extend(append::measure_all(&plan, &programs, &server).await?);
    rows.extend(hot::measure_all(&plan, &programs, &server).await?);
    println!("\n{}", table::table(&rows));
    if let Some(path) = matches.get_one::<String>("json").map(PathBuf::from) {
        write_json(&path, &rows)?;
    }
    Ok(())
}

fn write_json(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
    let text = serde_json::to_string_pretty(&rows)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
