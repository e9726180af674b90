//! A view that is built anew while commands go on and its readers read.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::connection::{Connection, Request};
use super::query::{create_products, follow};
use super::server::{self, Server, daybook};
use super::shop::Shop;
use crate::arguments;
use crate::calls::{Caller, Window, keeps_up, open_loop};

/// After how many commands each connection reads what the last of them did.
const READ_EVERY: usize = 20;

/// How many times as long as alone it may take. What takes longer has failed by far what is asked of it.
const TIMES_MAX: u32 = 4;

/// How often the rate that was begun with is halved, until everything goes well.
const HALVINGS_MAX: u32 = 3;

pub(crate) fn command() -> Command {
    let rate = |name| Arg::new(name).long(name).required(true).value_name("COMMANDS");
    Command::new("rebuild-while-serving")
        .about("Has a view built anew, alone and while commands go on in open loop")
        .args(server::arguments())
        .args(arguments::load())
        .arg(arguments::with_default("documents", "200000", "How many documents the view has"))
        .arg(rate("rate").help("How many commands are due a second"))
        .arg(rate("reachable-rate").help("From which rate on one is looked for at which nothing fails"))
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let documents: u64 = arguments::parse(arguments, "documents")?;
    let server = Server::start(arguments, &["--roles", "api,projector"]).await?;
    let shop = Shop::open(arguments, &server, 1).await?;
    let head = create_products(arguments, documents).await?;
    follow(server.address(), "stock", head).await?;
    let alone = rebuild(arguments).await?;
    let asked = beside(arguments, &server, &shop, arguments::parse(arguments, "rate")?, alone).await?;
    let mut rate: f64 = arguments::parse(arguments, "reachable-rate")?;
    let mut reachable = beside(arguments, &server, &shop, rate, alone).await?;
    for _ in 0..HALVINGS_MAX {
        if reachable.missed().is_none() {
            break;
        }
        rate /= 2.0;
        reachable = beside(arguments, &server, &shop, rate, alone).await?;
    }
    server.stop().await?;
    let per_second = |time: Duration| documents as f64 / time.as_secs_f64();
    Ok(json!({
        "alone": per_second(alone),
        "per_second": per_second(asked.rebuilt),
        "missed": asked.missed(),
        "reachable": {
            "rate": reachable.rate,
            "per_second": per_second(reachable.rebuilt),
            "missed": reachable.missed(),
        },
    }))
}

/// A rebuild beside commands.
struct Beside {
    rate: f64,
    /// How long commands were sent at most.
    window: Duration,
    rebuilt: Duration,
    served: Served,
}

/// What the callers saw.
#[derive(Debug, Clone, Default)]
struct Served {
    commands: u64,
    reads: u64,
    failed: u64,
    /// How the first of these failed.
    failure: Option<String>,
}

impl Beside {
    /// Why it is not what was asked for, if it is not.
    fn missed(&self) -> Option<String> {
        let Served { commands, reads, failed, failure } = &self.served;
        let reached = *commands as f64 / self.rebuilt.min(self.window).as_secs_f64();
        if let Some(failure) = failure {
            let calls = commands + reads;
            return Some(format!(
                "at {:.0} commands a second, {failed} of {calls} calls failed: {failure}",
                self.rate
            ));
        }
        if self.rebuilt > self.window {
            return Some(format!(
                "it took longer than {TIMES_MAX} times as long as alone at {:.0} commands a second",
                self.rate
            ));
        }
        (!keeps_up(reached, self.rate))
            .then(|| format!("{:.0} commands a second were due, and {reached:.0} were answered", self.rate))
    }
}

/// Has the view built anew while commands are due so many times a second.
async fn beside(
    arguments: &ArgMatches,
    server: &Server,
    shop: &Shop,
    rate: f64,
    alone: Duration,
) -> anyhow::Result<Beside> {
    let callers: usize = arguments::parse(arguments, "callers")?;
    let seen = Arc::new(Mutex::new(Served::default()));
    let mut serving = Vec::new();
    for caller in 0..callers {
        let connection = Connection::open(server.address()).await?;
        let (requests, seen) = (shop.deliveries(caller), seen.clone());
        serving.push(Serving { connection, requests, calls: 0, shown: 0, seen });
    }
    let window = Window { warm_up: Duration::ZERO, measured: alone * TIMES_MAX };
    let mut rebuilding = pin!(rebuild(arguments));
    let rebuilt = tokio::select! {
        rebuilt = &mut rebuilding => rebuilt?,
        served = open_loop(serving, rate, window) => {
            served?;
            rebuilding.await?
        }
    };
    let served = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Beside { rate, window: window.measured, rebuilt, served })
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
    seen: Arc<Mutex<Served>>,
}

impl Serving {
    fn note(&self, note: impl FnOnce(&mut Served)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The JSON that is answered; nothing, and it is noted, when it is none.
    async fn ask(&mut self, request: &Request) -> anyhow::Result<Option<Value>> {
        match self.connection.send(request, false).await?.json() {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                self.note(|seen| {
                    seen.failed += 1;
                    seen.failure.get_or_insert(error.to_string());
                });
                Ok(None)
            }
        }
    }
}

impl Caller for Serving {
    /// Fails when it is shown what it must not be shown. What is not answered is noted.
    async fn call(&mut self) -> anyhow::Result<()> {
        let (product, request) = self.requests[self.calls % self.requests.len()].clone();
        self.calls += 1;
        let receipt = self.ask(&request).await?;
        self.note(|seen| seen.commands += 1);
        let Some(receipt) = receipt.filter(|_| self.calls.is_multiple_of(READ_EVERY)) else { return Ok(()) };
        let position = receipt["position"].as_u64().context("a receipt has a position")?;
        let path = format!("/v1/views/stock/{product}");
        // Without waiting, "not yet" is an answer like any other; with it, a view that does not come is a failure.
        let own = Request::get(&format!("{path}?min_position={position}")).waiting();
        for (request, least) in [(own, position), (Request::get(&path), self.shown)] {
            let answer = self.ask(&request).await?;
            self.note(|seen| seen.reads += 1);
            let Some(answer) = answer else { continue };
            let shown = answer["position"].as_u64().context("an answer has a position")?;
            ensure!(shown >= least.max(self.shown), "shown {shown} behind {least} and {}", self.shown);
            self.shown = shown;
        }
        Ok(())
    }
}
