//! A view that is built anew while commands go on and its readers read.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::connection::{Connection, Request};
use super::query::{create_products, follow};
use super::server::{self, Server, daybook};
use super::shop::Shop;
use crate::arguments;
use crate::calls::{Caller, Window, open_loop};

/// After how many commands each connection reads what the last of them did.
const READ_EVERY: usize = 20;

/// How much longer it may take than alone.
const TIMES_MAX: u32 = 10;

pub(crate) fn command() -> Command {
    Command::new("rebuild-while-serving")
        .about("Has a view built anew, alone and while commands go on in open loop")
        .args(server::arguments())
        .args(arguments::load())
        .arg(arguments::with_default("documents", "500000", "How many documents the view has"))
        .arg(Arg::new("rate").long("rate").required(true).help("How many commands are due a second"))
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let documents: u64 = arguments::parse(arguments, "documents")?;
    let callers: usize = arguments::parse(arguments, "callers")?;
    let rate: f64 = arguments::parse(arguments, "rate")?;
    let server = Server::start(arguments, &["--roles", "api,projector"]).await?;
    let shop = Shop::open(arguments, &server, 1).await?;
    let head = create_products(arguments, documents).await?;
    follow(server.address(), "stock", head).await?;

    let alone = rebuild(arguments).await?;
    let mut serving = Vec::new();
    for caller in 0..callers {
        let connection = Connection::open(server.address()).await?;
        serving.push(Serving { connection, requests: shop.deliveries(caller), calls: 0, shown: 0 });
    }
    let window = Window { warm_up: Duration::ZERO, measured: alone * TIMES_MAX };
    let (rebuilt, served) = tokio::join!(rebuild(arguments), open_loop(serving, rate, window));
    let (rebuilt, served) = (rebuilt?, served?);
    ensure!(rebuilt < window.measured, "it took {rebuilt:?}, and {alone:?} alone");
    server.stop().await?;
    let per_second = |time: Duration| documents as f64 / time.as_secs_f64();
    Ok(json!({
        "per_second": per_second(rebuilt),
        "alone": per_second(alone),
        "kept_up": served.kept_up(),
        "commands": served.to_json(),
    }))
}

/// Has the stock's view built anew, and waits until it is served.
async fn rebuild(arguments: &ArgMatches) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let output = daybook(arguments, &["projection", "rebuild", "stock", "--json"])?.output().await?;
    if !output.status.success() {
        bail!("the view is not rebuilt: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(begun.elapsed())
}

/// A connection that sends commands, and now and then looks at what they did.
struct Serving {
    connection: Connection,
    requests: Vec<(String, Request)>,
    calls: usize,
    /// The position of what it was shown last.
    shown: u64,
}

impl Caller for Serving {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (product, request) = &self.requests[self.calls % self.requests.len()];
        self.calls += 1;
        if !self.calls.is_multiple_of(READ_EVERY) {
            return self.connection.send(request, false).await?.success().map(drop);
        }
        let receipt = self.connection.send(request, false).await?.json()?;
        let position = receipt["position"].as_u64().context("a receipt has a position")?;
        let path = format!("/v1/views/stock/{product}");
        for (path, least) in [(format!("{path}?min_position={position}"), position), (path, self.shown)] {
            let answer = self.connection.send(&Request::get(&path), false).await?.json()?;
            let shown = answer["position"].as_u64().context("an answer has a position")?;
            ensure!(shown >= least.max(self.shown), "shown {shown} behind {least} and {}", self.shown);
            self.shown = shown;
        }
        Ok(())
    }
}
