//! A view of orders, as tests of queries need one.

use chrono::{DateTime, Utc};
use daybook_core::{
    Access, AnyProjection, Envelope, Event, Field, FieldKind, Keys, Personal, Projection, ProjectionSpec,
    event_set,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Criteria;
use crate::criteria::Unusable;
use crate::table::Table;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Happened {}

impl Event for Happened {
    const TYPE: &'static str = "happened";
    const VERSION: u32 = 1;
}

event_set! { pub(crate) enum Events { Happened } }

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Order {
    customer_id: Option<String>,
    status: Option<String>,
    total: Option<Total>,
    placed_at: Option<DateTime<Utc>>,
    open: Option<bool>,
    email: Personal<String>,
    note: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Total {
    amount: i64,
}

pub(crate) struct Orders;

pub(crate) const FIELDS: [Field; 5] = [
    Field { name: "customer_id", path: &["customer_id"], kind: FieldKind::Text },
    Field { name: "status", path: &["status"], kind: FieldKind::Text },
    Field { name: "total", path: &["total", "amount"], kind: FieldKind::Integer },
    Field { name: "placed_at", path: &["placed_at"], kind: FieldKind::Time },
    Field { name: "open", path: &["open"], kind: FieldKind::Bool },
];

impl Projection for Orders {
    type Event = Events;
    type View = Order;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "orders",
            version: 1,
            summary: "",
            category: "order",
            fields: &FIELDS,
            indexes: &[&["customer_id", "placed_at"], &["status", "placed_at"], &["status", "total"]],
            access: Access::anyone(),
            owner: Some("customer_id"),
        }
    }

    fn keys(_: &Envelope<'_, Events>, _: &mut Keys) {}

    fn apply(_: &str, _: &mut Option<Order>, _: &Envelope<'_, Events>) {}
}

pub(crate) fn table() -> Table {
    Table::new(&Orders::spec()).expect("a good declaration")
}

/// Reads a query string without escapes.
pub(crate) fn parse(query: &str) -> Result<Criteria, Unusable> {
    let projection: &dyn AnyProjection = &*daybook_core::projection::<Orders>();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    Criteria::parse(projection, pairs.map(|(name, value)| (name.into(), value.into())))
}
