//! Assembles a backend from any registered domain.
//!
//! [`main`] is all that a binary needs:
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     daybook_app::main(daybook_projections::register(daybook_shop::domain()))
//! }
//! ```

mod backup;
mod cli;
mod config;
mod demo;
mod engine;
mod master;
mod progress;
mod serve;
mod settings;
mod telemetry;
mod terminal;
mod verbs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use daybook_core::Domain;

use crate::config::Config;
use crate::settings::Resolved;

/// Runs what the command line asks for, and says how it went: 0 when it was done, 1 when not, 2 when it was not
/// understood.
pub fn main(domain: Domain) -> ExitCode {
    let matches = cli::command().get_matches();
    match run(engine::with_own_contracts(domain), &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if terminal::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(domain: Domain, matches: &ArgMatches) -> anyhow::Result<()> {
    let Some((verb, arguments)) = matches.subcommand() else { anyhow::bail!("say what to do: `daybook --help`") };
    let settings = settings(arguments)?;
    let config = Config::from(&settings)?;
    let json = arguments.get_flag("json");
    match verb {
        "config" => return verbs::config(&settings, json),
        "openapi" => return terminal::json(&daybook_http::openapi(&domain)),
        "events" if let Some(("schema", arguments)) = arguments.subcommand() => {
            return verbs::event_schema(&domain.events, arguments);
        }
        _ => {}
    }
    telemetry::start_logging(
        if matches!(verb, "serve" | "demo") { &config.log_level } else { "warn" },
        config.log_format,
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match verb {
            "demo" => serve::serve(domain, config, serve::Kind::Demo).await,
            "serve" => serve::serve(domain, config, serve::Kind::Plain).await,
            "migrate" => verbs::migrate(&config).await,
            "status" => verbs::status(domain, &config, json).await,
            "events" => verbs::events(&config, arguments, json).await,
            "bench" => verbs::bench(&config, arguments, json).await,
            "backup" => verbs::backup(domain, &config, arguments, json).await,
            "restore" => verbs::restore(domain, &config, arguments, json).await,
            "keys" => verbs::keys(&config, arguments, json).await,
            "projection" => match arguments.subcommand() {
                Some(("verify", arguments)) => verbs::verify(domain, &config, arguments, json).await,
                Some(("try", arguments)) => verbs::try_out(domain, &config, arguments, json).await,
                _ => anyhow::bail!("say what to do with the projection: verify or try"),
            },
            "subject" => verbs::subject(domain, &config, arguments, json).await,
            "user" => verbs::user(domain, &config, arguments, json).await,
            other => anyhow::bail!("there is no verb `{other}`"),
        }
    });
    // What still runs on blocking threads (a password being hashed) is not worth waiting for.
    runtime.shutdown_background();
    result
}

/// Finds every setting's value: flags, environment, file, defaults.
fn settings(arguments: &ArgMatches) -> anyhow::Result<Resolved> {
    let asked = arguments.get_one::<String>("config-file").map(PathBuf::from);
    let path = asked.clone().unwrap_or_else(|| Path::new("daybook.toml").to_owned());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && asked.is_none() => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    Resolved::new(
        |key| cli::flag(arguments, key),
        |name| std::env::var(name).ok(),
        text.as_deref().map(|text| (path.as_path(), text)),
    )
}
