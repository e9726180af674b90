//! The server that is measured: our own binary, with the settings that it has when nobody sets any.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::connection::{Connection, Request};
use crate::workload::MASTER_KEY;
use crate::{arguments, process};

/// How long it may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn arguments() -> [Arg; 2] {
    let required = |name| Arg::new(name).long(name).required(true);
    [
        required("daybook").value_name("PATH").help("Daybook's binary"),
        required("url").value_name("URL").help("The PostgreSQL database that it is to run on"),
    ]
}

/// Daybook with a verb, on the database that was named.
pub(super) fn daybook(arguments: &ArgMatches, verb: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::path::absolute(arguments::text(arguments, "daybook")?)?);
    // Nothing of the environment that runs the benchmark finds its way into what is measured.
    command.env_clear().env("DATABASE_URL", arguments::text(arguments, "url")?);
    command.env("DAYBOOK_MASTER_KEY", MASTER_KEY);
    command.current_dir("/").args(verb).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// A server that runs. It is killed when this is dropped.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    /// From when the process was started until it said that it is ready.
    pub(super) started_in: Duration,
}

impl Server {
    /// Starts one with `flags`, and waits until it is ready. It logs what it logs to where it costs least.
    pub(super) async fn start(arguments: &ArgMatches, flags: &[&str]) -> anyhow::Result<Self> {
        let verb = ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
        let mut command = daybook(arguments, &[&verb, flags].concat())?;
        let begun = Instant::now();
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start Daybook")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is ours")?).lines();
        let ready = async {
            let address = loop {
                let Some(line) = lines.next_line().await? else {
                    bail!("Daybook ended with {}", child.wait().await?)
                };
                if let Some(address) = line.strip_prefix("listening on http://") {
                    break address.parse()?;
                }
            };
            let mut connection = Connection::open(address).await?;
            let request = Request::get("/health/ready");
            while connection.send(&request, false).await?.status != 200 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(address)
        };
        let address = timeout(LIMIT, ready).await.context("Daybook is not ready")??;
        Ok(Self { child, address, started_in: begun.elapsed() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// See [`process::memory_mib`].
    pub(super) fn memory_mib(&self, field: &str) -> Option<f64> {
        process::memory_mib(self.child.id(), field)
    }

    /// Kills it, as nothing is lost with it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends one request on a connection of its own, and answers the JSON of a success.
    pub(super) async fn ask(&self, request: &Request) -> anyhow::Result<Value> {
        Connection::open(self.address).await?.send(request, false).await?.json()
    }
}
