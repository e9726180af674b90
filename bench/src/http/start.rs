//! How long the server takes from its start until it is ready.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::server::{self, Server};

pub(crate) fn command() -> Command {
    Command::new("start")
        .about("Starts a server on an existing store")
        .args(server::arguments())
        .arg(crate::arguments::with_default("roles", "api,projector", "What the server does"))
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let server = Server::start(arguments, &["--roles", crate::arguments::text(arguments, "roles")?]).await?;
    let (ms, rest) = (server.started_in.as_secs_f64() * 1_000.0, server.memory_mib("VmRSS"));
    server.stop().await?;
    Ok(json!({"ms": ms, "rest_mib": rest}))
}
