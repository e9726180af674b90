//! `cargo xtask bench`: measures, compares, prints.

mod append;
mod figures;
mod goals;
mod hot;
mod http;
mod memory;
mod plan;
mod programs;
mod publish;
mod query;
mod relay;
mod replay;
mod server;
mod size;
mod start;
mod table;
mod views;

use std::path::Path;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::bench::figures::Row;
use crate::bench::goals::{BENCHES, metrics};
use crate::bench::plan::{Pace, Plan};
use crate::bench::programs::Programs;
use crate::bench::server::Server;

/// The command line of it.
pub(crate) fn command() -> Command {
    let number = |name: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(clap::value_parser!(u64).range(1..))
    };
    Command::new("bench")
        .about("Measures, next to a baseline on the same server, and prints a table")
        .arg(
            Arg::new("names")
                .value_name("NAME")
                .num_args(1..)
                .required_unless_present("publish")
                .help("Benches (`append`), metrics (`append.c64`), or `all`"),
        )
        .args([
            Arg::new("json").long("json").value_name("FILE").help("Write the rows there, too"),
            Arg::new("publish").long("publish").action(ArgAction::SetTrue).help(
                "Write benches that were measured whole into BENCHMARKS.md, too; without a NAME, only its text",
            ),
            number("rounds").default_value("3").help("How often each thing is measured, in turn with the others"),
            number("warm-up").default_value("2").help("Seconds of each measurement before anything counts"),
            number("seconds").default_value("5").help("Seconds of each measurement that count"),
            number("snapshot-seconds").default_value("60").help("How long a snapshot is open before that"),
            number("events").help(
                "How many events a long log has [default: replay, rebuild and relay 1000000, size 10000000]",
            ),
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
    let number = |name| matches.get_one::<u64>(name).copied();
    let plan = Plan {
        names: matches.get_many::<String>("names").unwrap_or_default().cloned().collect(),
        rounds: usize::try_from(number("rounds").context("how many rounds?")?)?,
        pace: Pace {
            warm_up_s: number("warm-up").context("how long to warm up?")?,
            seconds: number("seconds").context("how long?")?,
        },
        snapshot_s: number("snapshot-seconds").context("how long a snapshot?")?,
        events: number("events"),
    };
    if let Some(name) = plan.names.iter().find(|name| !metrics().any(|metric| metric.is_meant_by(name))) {
        let all: Vec<_> = metrics().map(|metric| metric.name).collect();
        bail!("nothing is named `{name}`; there are: {}", all.join(", "));
    }
    let profile = matches.get_one::<String>("profile").map_or("release", String::as_str);
    let publish = matches.get_flag("publish");
    if plan.names.is_empty() {
        return write_published(&[], "");
    }
    if publish && profile != "release" {
        bail!("what is published is the release's: `--profile {profile}` is for tuning");
    }
    let commit = publish.then(publish::commit).transpose()?;
    let takes_daybook = BENCHES
        .iter()
        .any(|bench| bench.takes_daybook && bench.metrics.iter().any(|metric| plan.wants(metric.name)));
    let programs = Programs::build(profile, takes_daybook).await?;
    let server = Server::start().await?;
    let postgres = server.version().await?;
    println!("PostgreSQL {postgres}, profile {profile}");

    // What was measured before something failed is not lost.
    let mut rows = Vec::new();
    let outcome = measure(&plan, &programs, &server, &mut rows).await;
    println!("\n{}", table::table(&rows));
    if let Some(path) = matches.get_one::<String>("json") {
        write_json(Path::new(path), &rows)?;
    }
    if let Some(commit) = commit {
        let pace = format!(
            "{} rounds of {} s, a snapshot open for {} s before",
            plan.rounds, plan.pace.seconds, plan.snapshot_s
        );
        write_published(&rows, &publish::provenance(&commit, &postgres, &pace)?)?;
    }
    outcome
}

async fn measure(plan: &Plan, programs: &Programs, server: &Server, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    rows.extend(append::measure(plan, programs, server).await?);
    rows.extend(hot::measure(plan, programs, server).await?);
    rows.extend(replay::measure(plan, programs, server).await?);
    rows.extend(views::rebuild(plan, programs, server).await?);
    rows.extend(views::while_serving(plan, programs, server).await?);
    rows.extend(views::project(plan, programs, server).await?);
    rows.extend(views::lag(plan, programs, server).await?);
    rows.extend(relay::measure(plan, programs, server).await?);
    rows.extend(query::measure(plan, programs, server).await?);
    rows.extend(http::measure(plan, programs, server).await?);
    rows.extend(memory::measure(plan, programs, server).await?);
    rows.extend(start::measure(plan, programs, server).await?);
    rows.extend(size::measure(plan, programs, server).await?);
    Ok(())
}

fn write_json(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
    let text = serde_json::to_string_pretty(&rows)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn write_published(rows: &[Row], provenance: &str) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(publish::path()).unwrap_or_default();
    std::fs::write(publish::path(), publish::merged(&old, rows, provenance)).context("cannot write BENCHMARKS.md")
}
