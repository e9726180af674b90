//! What tests of the shop need again and again.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Answer, Client, Request};

/// The password of the accounts that tests open.
const PASSWORD: &str = "three-lions-on-a-hill";

/// A product that a test has made.
#[derive(Debug, Clone)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// Its price, in cents.
    pub price: i64,
}

impl Product {
    /// Makes one, with `stock` of it in store, and answers it once that is visible.
    ///
    /// # Panics
    ///
    /// When `staff` may not, or it goes wrong.
    pub async fn create(staff: &Client, price: i64, stock: i64) -> Self {
        let product = json!({
            "sku": format!("TEST-{}", Uuid::now_v7().simple()),
            "name": "A product under test",
            "category": "Tests",
            "price": {"amount": price, "currency": "EUR"},
            "tax_category": "standard",
        });
        let receipt = staff.receipt("product.create", &product).await;
        let id = receipt["id"].as_str().expect("a receipt has an id").to_owned();
        if stock > 0 {
            staff.receipt("stock.receive", &json!({"product_id": id, "quantity": stock})).await;
        }
        Self { id, price }
    }

    /// The body of an order for some of it.
    pub fn order(&self, quantity: i64) -> Value {
        json!({"lines": [{"product_id": self.id, "quantity": quantity}]})
    }
}

/// A customer with an account of their own.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The account's id.
    pub account_id: String,
    /// The e-mail address.
    pub email: String,
    /// The customer, signed in.
    pub client: Client,
}

impl Customer {
    /// Registers and signs in.
    ///
    /// # Panics
    ///
    /// When that goes wrong.
    pub async fn register(client: &Client) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let email = format!("customer-{}@test.example", COUNT.fetch_add(1, Ordering::Relaxed));
        let account = json!({"email": email, "password": PASSWORD, "name": "A Customer"});
        let opened = client.post("/v1/auth/register", &account).await.expect(201);
        let account_id = opened["account_id"].as_str().expect("an account has an id").to_owned();
        let client = client.login(&email, PASSWORD).await;
        Self { account_id, email, client }
    }

    /// An order that is still to be sent.
    pub fn order(&self, body: &Value) -> Request {
        self.client.command("order.place", body)
    }
}

impl Client {
    /// The order of a receipt as the view has it, not older than the receipt.
    ///
    /// # Panics
    ///
    /// When the receipt is none.
    pub async fn order(&self, receipt: &Value) -> Answer {
        self.fresh("orders", receipt["id"].as_str().expect("a receipt has an id"), receipt).await
    }

    /// A document of a view, not older than a receipt.
    ///
    /// # Panics
    ///
    /// When no answer comes.
    pub async fn fresh(&self, view: &str, key: &str, receipt: &Value) -> Answer {
        let path = format!("/v1/views/{view}/{key}?min_position={}", receipt["position"]);
        self.request(reqwest::Method::GET, &path).header("prefer", "wait=10").send().await
    }
}

/// Checks that each of a customer's orders is counted once in the views that a second fold would change.
///
/// # Panics
///
/// When `orders` and the `pieces` of `product` that are in them are not what the views say at the position of `last`,
/// the receipt of the last order.
pub async fn assert_counted_once(
    customer: &Customer,
    product: &Product,
    orders: usize,
    pieces: usize,
    last: &Value,
) {
    let account = customer.client.fresh("customers", &customer.account_id, last).await.expect(200);
    assert_eq!(account["data"]["orders_placed"], orders, "orders of the customer: {account}");
    let stock = customer.client.fresh("stock", &product.id, last).await.expect(200);
    assert_eq!(stock["data"]["allocated"], pieces, "pieces set aside: {stock}");
}
