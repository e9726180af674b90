//! What happens to an order. Stream `order-<id>`.

use chrono::{DateTime, Utc};
use daybook_core::{Event, Personal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Money;

/// A customer placed an order. Everything that it was priced with is frozen here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderPlaced {
    /// The order.
    pub order_id: Uuid,
    /// Who placed it.
    pub customer_id: Uuid,
    /// The rules that it was priced by, [`PRICING_POLICY`](Self::PRICING_POLICY) at that time.
    pub pricing_policy: u32,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// What it comes to.
    pub total: Money,
    /// When it was placed, by the clock of whoever took the order.
    #[serde(with = "crate::micros")]
    #[schemars(with = "DateTime<Utc>")]
    pub placed_at: DateTime<Utc>,
}

impl OrderPlaced {
    /// The pricing policy in force. In this version of the contract its breakdown is list price times quantity;
    /// discounts, shipping and tax come with the next.
    pub const PRICING_POLICY: u32 = 1;
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "order.placed";
    const VERSION: u32 = 1;
}

/// One line of an order, as it was when the order was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// The product.
    pub product_id: Uuid,
    /// Its number.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// How many of it.
    pub quantity: i64,
    /// The list price of one.
    pub unit_price: Money,
    /// What the line comes to.
    pub total: Money,
}

/// The business accepted an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderConfirmed {
    /// Whose order it is.
    pub customer_id: Uuid,
}

impl Event for OrderConfirmed {
    const TYPE: &'static str = "order.confirmed";
    const VERSION: u32 = 1;
}

/// An order was called off.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderCancelled {
    /// Whose order it was.
    pub customer_id: Uuid,
    /// Why, in somebody's words, which may tell of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Personal<String>>,
}

impl Event for OrderCancelled {
    const TYPE: &'static str = "order.cancelled";
    const VERSION: u32 = 1;
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// It came in.
    Placed,
    /// The business accepted it.
    Confirmed,
    /// It was called off.
    Cancelled,
}

daybook_core::event_set! {
    /// What happens to an order.
    pub enum OrderEvent { OrderPlaced, OrderConfirmed, OrderCancelled }
}
