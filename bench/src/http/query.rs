//! Queries over HTTP: one document by its key, and lists.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use chrono::Utc;
use clap::{ArgMatches, Command};
use daybook_core::{Position, StreamId};
use daybook_dispatch::Request as Sender;
use daybook_log::{Append, Log, NewRecord, Settings, Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

use super::connection::{Connection, Request};
use super::plain::Plain;
use super::server::{self, Server};
use crate::arguments;
use crate::calls::{Caller, closed_loop, open_loop};

/// How many products an append creates.
const PRODUCTS: u64 = 1_000;

/// How many documents are asked for by their keys.
const KEYS: u64 = 1_000;

/// How many parts the catalogue has.
const CATEGORIES: u64 = 500;

pub(crate) fn command() -> Command {
    Command::new("query")
        .about("Sends queries to a server that it starts on a database of its own")
        .args(server::arguments())
        .args(arguments::load())
        .args([
            arguments::with_default("documents", "1000000", "How many documents the view has"),
            arguments::with_default(
                "ask",
                "key",
                "What is asked for: key, plain (the same by plain actix), or list",
            ),
        ])
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let documents: u64 = arguments::parse(arguments, "documents")?;
    let server = Server::start(arguments, &["--roles", "api,projector"]).await?;
    let head = create_products(arguments, documents).await?;
    follow(server.address(), "products", head).await?;
    let window = arguments::window(arguments)?;
    let callers: u64 = arguments::parse(arguments, "callers")?;
    let measured = match arguments::text(arguments, "ask")? {
        "key" => {
            let measured = closed_loop(asking(server.address(), callers, by_key).await?, window).await?;
            measured.to_json()
        }
        "plain" => {
            let mut connection = Connection::open(server.address()).await?;
            let plain = Plain::start(connection.send(&by_key(0), false).await?.success()?).await?;
            let measured = closed_loop(asking(plain.address(), callers, by_key).await?, window).await?;
            measured.to_json()
        }
        "list" => {
            let peak = closed_loop(asking(server.address(), callers, list).await?, window).await?.per_second();
            let measured = open_loop(asking(server.address(), callers, list).await?, peak / 2.0, window).await?;
            let mut json = measured.to_json();
            json["peak_per_second"] = json!(peak);
            json
        }
        other => bail!("`{other}` is not asked for here"),
    };
    server.stop().await?;
    Ok(measured)
}

fn product(number: u64) -> Uuid {
    Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

/// Puts products into the log, past all commands; answers where it ends then.
pub(super) async fn create_products(arguments: &ArgMatches, count: u64) -> anyhow::Result<Position> {
    let database = arguments::open(arguments).await?;
    let log = Log::open(database.clone(), Settings::default()).await?;
    let mut position = Position::START;
    for first in (0..count).step_by(PRODUCTS as usize) {
        let command_id = Uuid::now_v7();
        let append = Append {
            id: String::new(),
            command_id,
            events: (first..count.min(first + PRODUCTS)).map(created).collect(),
            metadata: Sender::system("bench").metadata("daybook.bench.fill", command_id, Utc::now()),
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        match log.append(append).await? {
            Verdict::Committed(receipt) => position = receipt.position,
            other => bail!("nobody was in the way, and yet: {other:?}"),
        }
    }
    log.close().await;
    database.close().await;
    Ok(position)
}

fn created(number: u64) -> NewRecord {
    let id = product(number);
    let payload = json!({
        "product_id": id,
        "sku": format!("BENCH-{number}"),
        "name": format!("Product {number}"),
        "category": category(number),
        "price": {"amount": 1_000 + number * 7_919 % 100_000, "currency": "EUR"},
        "tax_category": "standard",
    });
    NewRecord {
        stream: StreamId::new("product", id),
        id: Uuid::now_v7(),
        event_type: "product.created".into(),
        schema_version: 1,
        payload: payload.to_string(),
    }
}

fn category(number: u64) -> String {
    format!("Part {}", number % CATEGORIES)
}

/// Waits until the view is as far as the log. An answer waits for some seconds, so it is asked for again.
pub(super) async fn follow(address: SocketAddr, view: &str, head: Position) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    let request = Request::get(&format!("/v1/views/{view}?limit=1&min_position={head}")).waiting();
    for _ in 0..60 {
        if connection.send(&request, false).await?.status == 200 {
            return Ok(());
        }
    }
    bail!("the view does not get to {head}")
}

/// One of the documents that are asked for again and again.
fn by_key(number: u64) -> Request {
    Request::get(&format!("/v1/views/products/{}", product(number % KEYS)))
}

/// The first page of a part of the catalogue, the cheapest first.
fn list(number: u64) -> Request {
    let category = category(number).replace(' ', "%20");
    Request::get(&format!("/v1/views/products?category={category}&sort=price&limit=20"))
}

async fn asking(address: SocketAddr, callers: u64, request: fn(u64) -> Request) -> anyhow::Result<Vec<Asking>> {
    let mut asking = Vec::new();
    for caller in 0..callers {
        let connection = Connection::open(address).await?;
        let requests = (0..KEYS).map(|call| request(caller * 389 + call * (2 * caller + 7))).collect();
        asking.push(Asking { connection, requests, calls: 0 });
    }
    Ok(asking)
}

/// A connection, and what is asked over it in turn.
struct Asking {
    connection: Connection,
    requests: Vec<Request>,
    calls: usize,
}

impl Caller for Asking {
    async fn call(&mut self) -> anyhow::Result<()> {
        let request = &self.requests[self.calls % self.requests.len()];
        self.calls += 1;
        let body = self.connection.send(request, false).await?.success()?;
        ensure!(!body.is_empty(), "an answer says something");
        Ok(())
    }
}
