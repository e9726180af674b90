//! Commands over HTTP, to the server that people run, with tokens that it has issued.

mod connection;
pub(crate) mod plain;
pub(crate) mod query;
pub(crate) mod rebuild;
mod server;
mod shop;
pub(crate) mod start;

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use self::connection::{Connection, Request};
use self::server::Server;
use self::shop::{Shop, Traffic};
use crate::calls::{Caller, closed_loop};
use crate::workload::has_key;
use crate::{arguments, process};

pub(crate) fn command() -> Command {
    Command::new("http")
        .about("Sends commands to a server that it starts on a database of its own")
        .args(server::arguments())
        .args(arguments::load())
        .args([
            arguments::with_default("command", "stock.receive", "What is sent: stock.receive or order.place"),
            arguments::with_default("rest", "0", "Seconds to wait before the memory at rest is read"),
        ])
}

/// As many connections as there are callers, each sending its next command when the one before was answered.
pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let callers: usize = arguments::parse(arguments, "callers")?;
    let window = arguments::window(arguments)?;
    let rest = Duration::try_from_secs_f64(arguments::parse(arguments, "rest")?)?;
    let server = Server::start(arguments, &["--roles", "api"]).await?;
    let shop = Shop::open(arguments, &server, callers).await?;
    let traffic: Traffic = arguments::text(arguments, "command")?.parse()?;
    let mut sending = Vec::new();
    for index in 0..callers {
        let connection = Connection::open(server.address()).await?;
        sending.push(Sending { connection, requests: shop.requests(traffic, index), calls: index as u64 });
    }

    let (cpu, begun) = (process::cpu_s(None), Instant::now());
    let measured = closed_loop(sending, window).await?;
    let cores = process::cpu_s(None).zip(cpu).map(|(now, before)| (now - before) / begun.elapsed().as_secs_f64());
    let peak = server.memory_mib("VmHWM");
    tokio::time::sleep(rest).await;
    let at_rest = server.memory_mib("VmRSS");
    server.stop().await?;
    let mut json = measured.to_json();
    let fields = json.as_object_mut().context("an object")?;
    fields.insert("generator_cores".into(), json!(cores));
    fields.insert("peak_mib".into(), json!(peak));
    fields.insert("rest_mib".into(), json!(at_rest));
    Ok(json)
}

/// A connection, and what is sent over it in turn.
struct Sending {
    connection: Connection,
    requests: Vec<Request>,
    calls: u64,
}

impl Caller for Sending {
    async fn call(&mut self) -> anyhow::Result<()> {
        let request = &self.requests[self.calls as usize % self.requests.len()];
        let key = has_key(self.calls);
        self.calls += 1;
        self.connection.send(request, key).await?.success().map(drop)
    }
}
