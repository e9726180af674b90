//! The shop: an order-management domain, written with `daybook-core` alone.
//!
//! One file or folder for each aggregate, with the commands that change it beside it. All of it is pure: a command
//! says which aggregates it decides over and what follows from their states; everything else is the engine's.

mod activity;
mod customer;
mod order;
mod product;
mod seed;
mod stock;
mod text;

#[cfg(test)]
mod book;
#[cfg(test)]
mod laws;

use daybook_core::Domain;
use daybook_events::{ActivityEvent, CustomerEvent, OrderEvent, ProductEvent, StockEvent};

pub use activity::Activity;
pub use customer::{Customer, ForgetCustomer, UpdateCustomer};
pub use order::{
    Allocation, CancelOrder, ConfirmOrder, Order, OrderAndStock, PlaceOrder, PlaceOrderLine, Placed, Placing,
};
pub use product::{CreateProduct, Listing, Price, Product};
pub use stock::{ReceiveStock, Receiving, StockItem};

/// The shop, ready to be joined with its projections and handed to the engine.
pub fn domain() -> Domain {
    Domain::new("shop")
        .events::<CustomerEvent>()
        .events::<ActivityEvent>()
        .events::<ProductEvent>()
        .events::<StockEvent>()
        .events::<OrderEvent>()
        .command::<UpdateCustomer>()
        .command::<ForgetCustomer>()
        .command::<CreateProduct>()
        .command::<ReceiveStock>()
        .command::<PlaceOrder>()
        .command::<ConfirmOrder>()
        .command::<CancelOrder>()
        .on_account_opened(customer::on_account_opened)
        .forget_account(customer::forget_account)
        .seed(seed::seed)
}

#[cfg(test)]
mod tests {
    use daybook_core::InputError;
    use serde_json::{Value, json};

    use super::*;

    /// What is wrong with a body: `shape` or `invalid`, and the first field that is named.
    fn wrong(command: &str, body: &Value) -> (&'static str, String) {
        match (domain().commands[command].decode)(body.to_string().as_bytes()) {
            Ok(_) => ("nothing", String::new()),
            Err(InputError::Malformed(message)) => ("malformed", message),
            Err(InputError::Shape(error)) => ("shape", error.field),
            Err(InputError::Invalid(errors)) => ("invalid", errors[0].field.clone()),
        }
    }

    #[test]
    fn no_command_takes_a_field_that_it_does_not_know() {
        for name in domain().commands.keys() {
            assert_eq!(wrong(name, &json!({"price_paid": 1})), ("shape", "price_paid".into()), "{name}");
        }
        let line = json!({"product_id": uuid::Uuid::nil(), "quantity": 1, "unit_price": 1});
        assert_eq!(wrong("order.place", &json!({"lines": [line]})), ("shape", "lines[0].unit_price".into()));
    }

    #[test]
    fn a_wrong_type_is_told_from_a_value_out_of_range() {
        let line = |quantity: Value| json!({"lines": [{"product_id": uuid::Uuid::nil(), "quantity": quantity}]});
        let field = || "lines[0].quantity".to_owned();
        for quantity in [json!("1"), json!(1.5), json!(null), json!(9_223_372_036_854_775_808_u64)] {
            assert_eq!(wrong("order.place", &line(quantity.clone())), ("shape", field()), "{quantity}");
        }
        for quantity in [json!(0), json!(-1), json!(i64::MAX)] {
            assert_eq!(wrong("order.place", &line(quantity.clone())), ("invalid", field()), "{quantity}");
        }
        assert_eq!(wrong("order.place", &line(json!(1))), ("nothing", String::new()));
        assert_eq!(wrong("order.place", &json!({"lines": []})), ("invalid", "lines".into()));
    }

    #[test]
    fn the_limits_of_a_command_show_in_its_schema() {
        let mut generator = schemars::SchemaGenerator::default();
        for spec in domain().commands.values() {
            (spec.schema)(&mut generator);
        }
        let schemas = Value::Object(generator.take_definitions(true));
        for (pointer, limit) in [
            ("/PlaceOrder/additionalProperties", json!(false)),
            ("/PlaceOrder/required", json!(["lines"])),
            ("/PlaceOrder/properties/lines/minItems", json!(1)),
            ("/PlaceOrder/properties/lines/maxItems", json!(50)),
            ("/PlaceOrderLine/additionalProperties", json!(false)),
            ("/PlaceOrderLine/properties/quantity/minimum", json!(1)),
            ("/PlaceOrderLine/properties/quantity/maximum", json!(1_000_000)),
            ("/CreateProduct/properties/sku/maxLength", json!(40)),
            ("/Price/properties/amount/maximum", json!(100_000_000_000_i64)),
            ("/Price/properties/currency/pattern", json!("^[A-Z]{3}$")),
            ("/UpdateCustomer/properties/name/maxLength", json!(100)),
            ("/CancelOrder/properties/reason/maxLength", json!(500)),
        ] {
            assert_eq!(schemas.pointer(pointer), Some(&limit), "{pointer}");
        }
    }
}
