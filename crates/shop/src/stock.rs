//! Stock: how much of each product there is to sell. A product and its stock item have the same id.

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, NotLoaded, Reads, Rejection, Role, Snapshots, StreamId,
};
use daybook_events::{StockEvent, StockLevel, StockReceived};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::product::Product;

/// The stock of one product.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StockItem {
    /// What is there, and what of it is set aside.
    pub level: StockLevel,
}

impl StockItem {
    /// The most of one product that can be in the house. Far below what 64 bits hold, so that no sum of stock can
    /// overflow.
    pub const ON_HAND_MAX: i64 = 1_000_000_000;

    /// How many more can be sold. Nothing is kept back.
    pub fn saleable(&self) -> i64 {
        self.level.saleable(0)
    }
}

impl Aggregate for StockItem {
    const CATEGORY: &'static str = "stock";
    type Event = StockEvent;
    /// Every order of the product is two events here.
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(1_000, 1));

    fn apply(&mut self, event: &StockEvent) {
        self.level.apply(event);
    }
}

/// Takes goods that arrived into stock.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct ReceiveStock {
    /// The product.
    #[garde(skip)]
    pub product_id: Uuid,
    /// How many of it arrived.
    #[garde(range(min = 1, max = 1_000_000))]
    pub quantity: i64,
}

/// What [`ReceiveStock`] decides over.
#[derive(Debug)]
pub struct Receiving {
    product: Entity<Product>,
    stock: Entity<StockItem>,
}

impl Command for ReceiveStock {
    const NAME: &'static str = "stock.receive";
    const ACCESS: Access = Access::roles(&[Role::Staff]);
    type Model = Receiving;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(StockItem::CATEGORY, self.product_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Receiving, NotLoaded> {
        let (product, stock) = (reads.get(self.product_id), reads.get(self.product_id));
        Ok(Receiving { product: product?, stock: stock? })
    }

    fn handle(&self, model: &Receiving, _: &Context) -> Result<Decision, Rejection> {
        if !model.product.exists() {
            return Err(Rejection::not_found("product").field("product_id"));
        }
        if model.stock.level.on_hand > StockItem::ON_HAND_MAX - self.quantity {
            let message = format!("There would be more than {} of it.", StockItem::ON_HAND_MAX);
            return Err(Rejection::rule("stock_limit", message).field("quantity"));
        }
        Ok(Decision::new().emit(&model.stock, StockReceived { quantity: self.quantity }))
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Actor, Scenario, event};
    use daybook_events::{Money, ProductCreated, TaxCategory};

    use super::*;

    const TEA: Uuid = Uuid::from_u128(1);

    fn given_tea() -> Scenario {
        let created = ProductCreated {
            product_id: TEA,
            sku: "TEA-1".into(),
            name: "Assam".into(),
            category: "Tea".into(),
            price: Money::new(1290, "EUR".parse().expect("a currency")),
            tax_category: TaxCategory::Reduced,
        };
        Scenario::new().given::<Product>(TEA, [created])
    }

    #[test]
    fn goods_are_received() {
        given_tea()
            .when(ReceiveStock { product_id: TEA, quantity: 5 })
            .then([event::<StockItem>(TEA, StockReceived { quantity: 5 })]);
    }

    #[test]
    fn there_is_no_stock_of_what_is_no_product() {
        Scenario::new().when(ReceiveStock { product_id: TEA, quantity: 5 }).then_rejected("not_found");
    }

    #[test]
    fn the_house_is_full_at_its_limit_and_not_before() {
        let room_for_five = StockReceived { quantity: StockItem::ON_HAND_MAX - 5 };
        let given = || given_tea().given::<StockItem>(TEA, [room_for_five.clone()]);
        given()
            .when(ReceiveStock { product_id: TEA, quantity: 5 })
            .then([event::<StockItem>(TEA, StockReceived { quantity: 5 })]);
        given().when(ReceiveStock { product_id: TEA, quantity: 6 }).then_rejected("stock_limit");
    }

    #[test]
    fn customers_receive_no_stock() {
        given_tea()
            .actor(Actor::Account { id: Uuid::from_u128(9), roles: vec![Role::Customer] })
            .when(ReceiveStock { product_id: TEA, quantity: 5 })
            .then_denied();
    }

    #[test]
    fn a_quantity_is_at_least_one_and_at_most_a_million() {
        for (quantity, valid) in
            [(i64::MIN, false), (-1, false), (0, false), (1, true), (1_000_000, true), (1_000_001, false)]
        {
            assert_eq!(ReceiveStock { product_id: TEA, quantity }.validate().is_ok(), valid, "{quantity}");
        }
    }
}
