//! What happens to a product's stock. Stream `stock-<product id>`.

use daybook_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Goods arrived.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StockReceived {
    /// How many.
    pub quantity: i64,
}

impl Event for StockReceived {
    const TYPE: &'static str = "stock.received";
    const VERSION: u32 = 1;
}

/// Goods were set aside for an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StockAllocated {
    /// The order.
    pub order_id: Uuid,
    /// How many.
    pub quantity: i64,
}

impl Event for StockAllocated {
    const TYPE: &'static str = "stock.allocated";
    const VERSION: u32 = 1;
}

/// Goods that were set aside for an order are free again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StockReleased {
    /// The order.
    pub order_id: Uuid,
    /// How many.
    pub quantity: i64,
}

impl Event for StockReleased {
    const TYPE: &'static str = "stock.released";
    const VERSION: u32 = 1;
}

daybook_core::event_set! {
    /// What happens to a product's stock.
    pub enum StockEvent { StockReceived, StockAllocated, StockReleased }
}

/// How much of a product there is: what the stock's events add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockLevel {
    /// How many are in the house.
    pub on_hand: i64,
    /// How many of these are set aside for orders.
    pub allocated: i64,
}

impl StockLevel {
    /// Takes one event in.
    pub fn apply(&mut self, event: &StockEvent) {
        match event {
            StockEvent::StockReceived(received) => self.on_hand += received.quantity,
            StockEvent::StockAllocated(allocated) => self.allocated += allocated.quantity,
            StockEvent::StockReleased(released) => self.allocated -= released.quantity,
        }
    }

    /// How many more can be sold when `threshold` are to be kept back; a negative threshold allows so many to be sold
    /// before they have arrived. Negative when more is promised than that.
    pub fn saleable(&self, threshold: i64) -> i64 {
        self.on_hand.saturating_sub(self.allocated).saturating_sub(threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saleable_is_on_hand_less_allocated_less_the_threshold() {
        let saleable = |on_hand, allocated, threshold| StockLevel { on_hand, allocated }.saleable(threshold);
        assert_eq!(saleable(10, 5, 3), 2);
        assert_eq!(saleable(10, 10, -5), 5);
        assert_eq!(saleable(0, 0, 0), 0);
        assert_eq!(saleable(10, 10, 0), 0);
        assert_eq!(saleable(10, 5, 8), -3);
    }

    #[test]
    fn a_release_undoes_an_allocation() {
        let order_id = Uuid::from_u128(1);
        let mut level = StockLevel::default();
        for event in [
            StockReceived { quantity: 10 }.into(),
            StockAllocated { order_id, quantity: 4 }.into(),
            StockReleased { order_id, quantity: 4 }.into(),
        ] {
            level.apply(&event);
        }
        assert_eq!(level, StockLevel { on_hand: 10, allocated: 0 });
    }
}
