//! How much of each product there is, for everybody.

use daybook_core::{Access, Envelope, Field, FieldKind, Keys, Projection, ProjectionSpec};
use daybook_events::{ProductCreated, StockAllocated, StockEvent, StockLevel, StockReceived, StockReleased};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The stock of a product.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StockView {
    /// The product.
    pub product_id: Uuid,
    /// Its number.
    pub sku: String,
    /// How many are in the house.
    pub on_hand: i64,
    /// How many of these are set aside for orders.
    pub allocated: i64,
    /// How many more can be sold.
    pub available: i64,
}

impl StockView {
    fn apply(&mut self, event: impl Into<StockEvent>) {
        let mut level = StockLevel { on_hand: self.on_hand, allocated: self.allocated };
        level.apply(&event.into());
        (self.on_hand, self.allocated) = (level.on_hand, level.allocated);
        self.available = level.saleable(0);
    }
}

daybook_core::event_set! {
    /// What the stock view follows.
    pub enum StockViewEvent { ProductCreated, StockReceived, StockAllocated, StockReleased }
}

/// The view `stock`.
#[derive(Debug)]
pub struct Stock;

impl Projection for Stock {
    type Event = StockViewEvent;
    type View = StockView;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "stock",
            version: 1,
            summary: "How much of each product there is.",
            category: "stock",
            fields: &[
                Field { name: "sku", path: &["sku"], kind: FieldKind::Text },
                Field { name: "on_hand", path: &["on_hand"], kind: FieldKind::Integer },
                Field { name: "allocated", path: &["allocated"], kind: FieldKind::Integer },
                Field { name: "available", path: &["available"], kind: FieldKind::Integer },
            ],
            indexes: &[],
            access: Access::anyone(),
            owner: None,
        }
    }

    /// A product and its stock item have the same id.
    fn keys(event: &Envelope<'_, StockViewEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn categories() -> &'static [&'static str] {
        &["product", "stock"]
    }

    fn apply(_: &str, view: &mut Option<StockView>, event: &Envelope<'_, StockViewEvent>) {
        match (&event.event, view) {
            (StockViewEvent::ProductCreated(created), view) => {
                *view = Some(StockView {
                    product_id: created.product_id,
                    sku: created.sku.clone(),
                    on_hand: 0,
                    allocated: 0,
                    available: 0,
                });
            }
            (StockViewEvent::StockReceived(received), Some(view)) => view.apply(received.clone()),
            (StockViewEvent::StockAllocated(allocated), Some(view)) => view.apply(allocated.clone()),
            (StockViewEvent::StockReleased(released), Some(view)) => view.apply(released.clone()),
            // There is no stock before its product: see `stock.receive`.
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fold::{History, ORDER, TEA, document, tea};

    #[test]
    fn a_new_product_has_no_stock() {
        let changed = History::new().add("product", TEA, tea()).fold::<Stock>();
        assert_eq!(
            document(&changed, TEA),
            json!({"product_id": TEA, "sku": "TEA-1", "on_hand": 0, "allocated": 0, "available": 0})
        );
        assert_eq!(changed[0].revision.get(), 0);
    }

    #[test]
    fn what_is_allocated_is_not_available_until_it_is_released() {
        let history = History::new()
            .add("product", TEA, tea())
            .add("stock", TEA, StockReceived { quantity: 10 })
            .add("stock", TEA, StockAllocated { order_id: ORDER, quantity: 4 })
            .add("stock", TEA, StockAllocated { order_id: ORDER, quantity: 1 })
            .add("stock", TEA, StockReleased { order_id: ORDER, quantity: 4 });
        let changed = history.fold::<Stock>();
        assert_eq!(
            document(&changed, TEA),
            json!({"product_id": TEA, "sku": "TEA-1", "on_hand": 10, "allocated": 1, "available": 9})
        );
        assert_eq!(changed[0].revision.get(), 4);
    }
}
