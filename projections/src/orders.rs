//! Orders, each for the customer who placed it and for staff.

use chrono::{DateTime, Utc};
use daybook_core::{Access, Envelope, Field, FieldKind, Keys, Personal, Projection, ProjectionSpec, Role};
use daybook_events::{Money, OrderEvent, OrderLine, OrderStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct OrderView {
    /// The order.
    pub order_id: Uuid,
    /// Who placed it.
    pub customer_id: Uuid,
    /// How far it has come.
    pub status: OrderStatus,
    /// What was ordered, at the prices of that time.
    pub lines: Vec<OrderLine>,
    /// What it comes to.
    pub total: Money,
    /// The rules that it was priced by.
    pub pricing_policy: u32,
    /// When it was placed.
    #[serde(with = "daybook_events::micros")]
    #[schemars(with = "DateTime<Utc>")]
    pub placed_at: DateTime<Utc>,
    /// When its status changed last.
    #[serde(with = "daybook_events::micros")]
    #[schemars(with = "DateTime<Utc>")]
    pub updated_at: DateTime<Utc>,
    /// Why it was cancelled, when somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation_reason: Option<Personal<String>>,
}

/// The view `orders`.
#[derive(Debug)]
pub struct Orders;

impl Projection for Orders {
    type Event = OrderEvent;
    type View = OrderView;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "orders",
            version: 1,
            summary: "Orders: one's own, or everybody's for staff.",
            category: "order",
            fields: &[
                Field { name: "customer_id", path: &["customer_id"], kind: FieldKind::Text },
                Field { name: "status", path: &["status"], kind: FieldKind::Text },
                Field { name: "total", path: &["total", "amount"], kind: FieldKind::Integer },
                Field { name: "placed_at", path: &["placed_at"], kind: FieldKind::Time },
            ],
            indexes: &[&["customer_id", "placed_at"], &["status", "placed_at"]],
            access: Access::owner_or(&[Role::Staff]),
            owner: Some("customer_id"),
        }
    }

    fn keys(event: &Envelope<'_, OrderEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn categories() -> &'static [&'static str] {
        &["order"]
    }

    fn apply(_: &str, view: &mut Option<OrderView>, event: &Envelope<'_, OrderEvent>) {
        if let OrderEvent::OrderPlaced(placed) = &event.event {
            *view = Some(OrderView {
                order_id: placed.order_id,
                customer_id: placed.customer_id,
                status: OrderStatus::Placed,
                lines: placed.lines.clone(),
                total: placed.total,
                pricing_policy: placed.pricing_policy,
                placed_at: placed.placed_at,
                updated_at: placed.placed_at,
                cancellation_reason: None,
            });
        } else if let Some(order) = view {
            order.updated_at = event.record.recorded_at;
            match &event.event {
                OrderEvent::OrderPlaced(_) => {}
                OrderEvent::OrderConfirmed(_) => order.status = OrderStatus::Confirmed,
                OrderEvent::OrderCancelled(cancelled) => {
                    order.status = OrderStatus::Cancelled;
                    order.cancellation_reason.clone_from(&cancelled.reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use daybook_events::{OrderCancelled, OrderConfirmed};
    use serde_json::json;

    use super::*;
    use crate::fold::{ADA, History, ORDER, TEA, document, order, subject};

    #[test]
    fn a_fresh_order_is_placed_and_shows_its_lines_and_total() {
        let changed = History::new().add("order", ORDER, order()).fold::<Orders>();
        assert_eq!(
            document(&changed, ORDER),
            json!({
                "order_id": ORDER, "customer_id": ADA, "status": "placed", "pricing_policy": 1,
                "lines": [{
                    "product_id": TEA, "sku": "TEA-1", "name": "Assam", "quantity": 2,
                    "unit_price": {"amount": 1290, "currency": "EUR"}, "total": {"amount": 2580, "currency": "EUR"},
                }],
                "total": {"amount": 2580, "currency": "EUR"},
                "placed_at": "2026-01-31T09:15:00.000000Z", "updated_at": "2026-01-31T09:15:00.000000Z",
            })
        );
    }

    #[test]
    fn a_status_follows_what_happens() {
        let mut history = History::new().add("order", ORDER, order());
        history = history.add("order", ORDER, OrderConfirmed { customer_id: ADA });
        assert_eq!(document(&history.fold::<Orders>(), ORDER)["status"], "confirmed");
        let reason = Some(Personal::new(subject(ADA), "Moved house.".to_owned()));
        history = history.add("order", ORDER, OrderCancelled { customer_id: ADA, reason });
        let changed = history.fold::<Orders>();
        let cancelled = document(&changed, ORDER);
        assert_eq!(cancelled["status"], "cancelled");
        assert_eq!(cancelled["cancellation_reason"], "Moved house.");
        assert_eq!(changed[0].revision.get(), 3);
    }
}
