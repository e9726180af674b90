//! One measurement at a time: `cargo xtask bench` runs this again and again, in turn with a baseline, and compares.
//!
//! Each verb prints one line of JSON and ends. The load comes from one thread, as light as it can be: it shares the
//! machine with what is measured.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measurement is there to be printed")]

mod append;
mod arguments;
mod batch_writer;
mod by_hand;
mod calls;
mod filled;
mod hot;
mod http;
mod load;
mod process;
mod relay;
mod replay;
mod row_stream;
mod views;
mod workload;

use std::process::ExitCode;

use anyhow::bail;
use clap::{ArgMatches, Command};
use serde_json::Value;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Builder;

/// What is measured here has the allocator that Daybook's own binary has.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

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
    Command::new("daybook-bench")
        .about("One measurement; `cargo xtask bench` compares")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            append::command(),
            batch_writer::command(),
            by_hand::command(),
            hot::command(),
            http::command(),
            http::plain::command(),
            http::query::command(),
            http::rebuild::command(),
            load::command(),
            relay::backlog::command(),
            relay::by_hand::command(),
            relay::lag::command(),
            replay::command(),
            row_stream::command(),
            http::start::command(),
            views::lag::command(),
            views::project::command(),
            views::rebuild::command(),
        ])
        .subcommands(views::by_hand::commands())
}

fn measure(matches: &ArgMatches) -> anyhow::Result<Value> {
    let Some((verb, arguments)) = matches.subcommand() else { bail!("say what to measure") };
    if verb == "plain" {
        return http::plain::serve(arguments).map(|()| Value::Null);
    }
    let mut runtime = match verb {
        // What is measured here is more than one thread's work, and it is the process that does it.
        "lag" | "relay" | "relay-lag" | "rebuild" | "rebuild-by-hand" | "project" => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    runtime.enable_all().build()?.block_on(async {
        match verb {
            "append" => append::measure(arguments).await,
            "append-by-hand" => by_hand::measure(arguments).await,
            "batch-writer" => batch_writer::measure(arguments).await,
            "hot" => hot::measure(arguments).await,
            "http" => http::measure(arguments).await,
            "lag" => views::lag::measure(arguments).await,
            "load" => load::measure(arguments).await,
            "project" => views::project::measure(arguments).await,
            "project-by-hand" => views::by_hand::project(arguments).await,
            "query" => http::query::measure(arguments).await,
            "rebuild" => views::rebuild::measure(arguments).await,
            "rebuild-by-hand" => views::by_hand::rebuild(arguments).await,
            "rebuild-while-serving" => http::rebuild::measure(arguments).await,
            "relay" => relay::backlog::measure(arguments).await,
            "relay-by-hand" => relay::by_hand::measure(arguments).await,
            "relay-lag" => relay::lag::measure(arguments).await,
            "replay" => replay::measure(arguments).await,
            "row-stream" => row_stream::measure(arguments).await,
            "start" => http::start::measure(arguments).await,
            other => bail!("`{other}` is not measured here"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        cli().debug_assert();
    }

    /// What needs a server is seen to work by whoever runs the benchmarks.
    #[test]
    fn the_embedded_store_is_measured() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (index, verb) in
            ["append", "append --in-clear", "hot --streams 2", "hot", "batch-writer"].into_iter().enumerate()
        {
            let path = folder.path().join(format!("{index}.db"));
            let words = format!("bench {verb} --warm-up 0.1 --seconds 0.4 --file {}", path.display());
            let measured = measure(&cli().get_matches_from(words.split(' '))).expect(verb);
            assert!(measured["per_second"].as_f64() > Some(1.0), "{verb}: {measured}");
        }
    }
}
