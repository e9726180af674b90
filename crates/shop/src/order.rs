//! Orders.

mod cancel;
mod confirm;
mod place;

use daybook_core::{Aggregate, Entity, NotLoaded, Reads};
use daybook_events::{OrderEvent, OrderStatus};
use uuid::Uuid;

use crate::activity::Activity;
use crate::stock::StockItem;

pub use cancel::CancelOrder;
pub use confirm::ConfirmOrder;
pub use place::{PlaceOrder, PlaceOrderLine, Placing};

/// An order.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// What is known of it since it was placed.
    pub placed: Option<Placed>,
}

/// An order that was placed.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Who placed it.
    pub customer_id: Uuid,
    /// How far it has come.
    pub status: OrderStatus,
    /// The stock that was set aside for it.
    pub allocations: Vec<Allocation>,
}

/// Stock that was set aside for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// The product.
    pub product_id: Uuid,
    /// How many of it.
    pub quantity: i64,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;

    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::OrderPlaced(placed) => {
                let allocations = placed.lines.iter();
                self.placed = Some(Placed {
                    customer_id: placed.customer_id,
                    status: OrderStatus::Placed,
                    allocations: allocations
                        .map(|line| Allocation { product_id: line.product_id, quantity: line.quantity })
                        .collect(),
                });
            }
            OrderEvent::OrderConfirmed(_) => self.advance(OrderStatus::Confirmed),
            OrderEvent::OrderCancelled(_) => self.advance(OrderStatus::Cancelled),
        }
    }

    fn heap_bytes(&self) -> usize {
        self.placed.as_ref().map_or(0, |placed| placed.allocations.len() * size_of::<Allocation>())
    }
}

impl Order {
    fn advance(&mut self, status: OrderStatus) {
        if let Some(placed) = &mut self.placed {
            placed.status = status;
        }
    }
}

/// An order, the stock items that it has stock of, and what else whoever placed it has going on.
#[derive(Debug)]
pub struct OrderAndStock {
    order: Entity<Order>,
    stock: Vec<Entity<StockItem>>,
    /// `None` when there is no such order.
    activity: Option<Entity<Activity>>,
}

impl OrderAndStock {
    fn load(reads: &mut Reads<'_>, order_id: Uuid) -> Result<Self, NotLoaded> {
        let order: Entity<Order> = reads.get(order_id)?;
        let allocations = order.placed.iter().flat_map(|placed| &placed.allocations);
        let stock = reads.all(allocations.map(|allocation| allocation.product_id));
        let activity = order.placed.as_ref().map(|placed| reads.get(placed.customer_id)).transpose();
        Ok(Self { stock: stock?, activity: activity?, order })
    }
}

/// An order that Ada placed, for the tests of what becomes of it.
#[cfg(test)]
mod given {
    use daybook_core::{Actor, Role, Scenario};
    use daybook_events::{ActivityOrderOpened, Money, OrderLine, OrderPlaced, StockAllocated, StockReceived};
    use uuid::Uuid;

    use super::{Activity, Order};
    use crate::stock::StockItem;

    pub(super) const ORDER: Uuid = Uuid::from_u128(0x0d);
    pub(super) const ADA: Uuid = Uuid::from_u128(0xada);
    pub(super) const BOB: Uuid = Uuid::from_u128(0xb0b);
    pub(super) const TEA: Uuid = Uuid::from_u128(0x7ea);
    pub(super) const MUG: Uuid = Uuid::from_u128(0x309);

    pub(super) fn account(id: Uuid, role: Role) -> Actor {
        Actor::Account { id, roles: vec![role] }
    }

    /// Two of `TEA` and one of `MUG` are ordered; ten of each are in the house.
    pub(super) fn order() -> Scenario {
        let line = |product_id, quantity, amount| {
            let money = |amount| Money::new(amount, "EUR".parse().expect("a currency"));
            OrderLine {
                product_id,
                sku: "SKU".into(),
                name: "Name".into(),
                quantity,
                unit_price: money(amount),
                total: money(amount * quantity),
            }
        };
        let lines = vec![line(TEA, 2, 1290), line(MUG, 1, 1850)];
        let total = Money::new(4430, lines[0].total.currency);
        let placed = OrderPlaced {
            order_id: ORDER,
            customer_id: ADA,
            pricing_policy: OrderPlaced::PRICING_POLICY,
            lines,
            total,
            placed_at: chrono::DateTime::UNIX_EPOCH,
        };
        let allocated = |quantity| StockAllocated { order_id: ORDER, quantity };
        Scenario::new()
            .given::<StockItem>(TEA, [StockReceived { quantity: 10 }])
            .given::<StockItem>(MUG, [StockReceived { quantity: 10 }])
            .given::<Order>(ORDER, [placed])
            .given::<StockItem>(TEA, [allocated(2)])
            .given::<StockItem>(MUG, [allocated(1)])
            .given::<Activity>(ADA, [ActivityOrderOpened { order_id: ORDER }])
    }
}
