//! A shop to send commands to: products with enough in stock, somebody who works there, and customers.

use std::str::FromStr;

use anyhow::{Context, bail};
use clap::ArgMatches;
use serde_json::{Value, json};

use super::connection::{Connection, Request};
use super::server::{Server, daybook};

/// How many products there are.
const PRODUCTS: usize = 1_000;

/// How many different commands each caller sends in turn.
const REQUESTS: usize = 500;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Goods arrive: two streams read, one event.
    Receive,
    /// Two products are ordered: six streams read, three events in three streams.
    Order,
}

impl FromStr for Traffic {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "stock.receive" => Ok(Self::Receive),
            "order.place" => Ok(Self::Order),
            other => bail!("`{other}` is not sent here"),
        }
    }
}

pub(super) struct Shop {
    products: Vec<String>,
    /// The token of somebody who works there.
    staff: String,
    /// The tokens of the customers.
    customers: Vec<String>,
}

impl Shop {
    /// Opens the accounts and makes the products.
    pub(super) async fn open(arguments: &ArgMatches, server: &Server, customers: usize) -> anyhow::Result<Self> {
        let mut create =
            daybook(arguments, &["user", "create", "staff@bench.example", "--role", "staff", "--json"])?;
        let output = create.output().await?;
        if !output.status.success() {
            bail!("cannot open an account: {}", String::from_utf8_lossy(&output.stderr));
        }
        let account: Value = serde_json::from_slice(&output.stdout)?;
        let staff = login(server, &account["email"], &account["password"]).await?;
        let mut shop = Self { products: Vec::new(), staff, customers: Vec::new() };
        for index in 0..customers {
            shop.customers.push(register(server, index).await?);
        }
        let mut connection = Connection::open(server.address()).await?;
        for index in 0..PRODUCTS {
            shop.products.push(shop.create_product(&mut connection, index).await?);
        }
        Ok(shop)
    }

    async fn create_product(&self, connection: &mut Connection, index: usize) -> anyhow::Result<String> {
        let product = json!({
            "sku": format!("BENCH-{index}"),
            "name": format!("Product {index}"),
            "category": "Bench",
            "price": {"amount": 1_990, "currency": "EUR"},
            "tax_category": "standard",
        });
        let create = Request::post("/v1/commands/product.create", Some(&self.staff), &product);
        let receipt = connection.send(&create, false).await?.json()?;
        let id = receipt["id"].as_str().context("a receipt has an id")?.to_owned();
        let delivery = json!({"product_id": id, "quantity": 1_000_000});
        let receive = Request::post("/v1/commands/stock.receive", Some(&self.staff), &delivery);
        connection.send(&receive, false).await?.success()?;
        Ok(id)
    }

    /// What caller number `caller` sends in turn when goods arrive, and for which product.
    pub(super) fn deliveries(&self, caller: usize) -> Vec<(String, Request)> {
        let products = (0..REQUESTS).map(|call| self.product(caller, call, 0).clone());
        products.zip(self.requests(Traffic::Receive, caller)).collect()
    }

    /// The product of a caller's call, or one `further` on. Callers begin at different products, and go on in different
    /// steps.
    fn product(&self, caller: usize, call: usize, further: usize) -> &String {
        &self.products[(caller * 389 + call * (2 * caller + 7) + further) % self.products.len()]
    }

    /// What caller number `caller` sends in turn.
    pub(super) fn requests(&self, traffic: Traffic, caller: usize) -> Vec<Request> {
        (0..REQUESTS)
            .map(|call| {
                let product = self.product(caller, call, 0);
                match traffic {
                    Traffic::Receive => {
                        let body = json!({"product_id": product, "quantity": 1});
                        Request::post("/v1/commands/stock.receive", Some(&self.staff), &body)
                    }
                    Traffic::Order => {
                        let line = |id: &String, quantity| json!({"product_id": id, "quantity": quantity});
                        let body = json!({"lines": [line(product, 1), line(self.product(caller, call, 331), 2)]});
                        let customer = &self.customers[caller % self.customers.len()];
                        Request::post("/v1/commands/order.place", Some(customer), &body)
                    }
                }
            })
            .collect()
    }
}

async fn register(server: &Server, index: usize) -> anyhow::Result<String> {
    let (email, password) = (json!(format!("customer-{index}@bench.example")), json!("three-lions-on-a-hill"));
    let account = json!({"email": email, "password": password, "name": "A Customer"});
    server.ask(&Request::post("/v1/auth/register", None, &account)).await?;
    login(server, &email, &password).await
}

async fn login(server: &Server, email: &Value, password: &Value) -> anyhow::Result<String> {
    let body = json!({"email": email, "password": password});
    let tokens = server.ask(&Request::post("/v1/auth/login", None, &body)).await?;
    Ok(tokens["access_token"].as_str().context("an access token")?.to_owned())
}
