use daybook_core::{Actor, Personal, Scenario, account_subject, event};
use daybook_events::{CustomerForgotten, CustomerRegistered, ProductCreated, StockReceived, TaxCategory};

use super::*;
use crate::order::given::{ADA, BOB, MUG, ORDER, TEA, account};

/// One product of a given catalogue: id, price, currency, how many are in the house.
type Given = (Uuid, i64, &'static str, i64);

const TEN_TEAS: Given = (TEA, 1290, "EUR", 10);
const TEN_MUGS: Given = (MUG, 1850, "EUR", 10);

fn given(products: &[Given]) -> Scenario {
    let personal = |value: &str| Personal::new(account_subject(ADA), value.to_owned());
    let registered =
        CustomerRegistered { customer_id: ADA, name: personal("Ada"), email: personal("ada@example.com") };
    let scenario = Scenario::new().actor(account(ADA, Role::Customer)).given::<Customer>(ADA, [registered]);
    products.iter().fold(scenario, |scenario, (product_id, amount, currency, on_hand)| {
        let created = ProductCreated {
            product_id: *product_id,
            sku: format!("SKU-{amount}"),
            name: format!("Thing at {amount}"),
            category: "Things".into(),
            price: Money::new(*amount, currency.parse().expect("a currency")),
            tax_category: TaxCategory::Standard,
        };
        let received = (*on_hand > 0).then_some(StockReceived { quantity: *on_hand });
        scenario.given::<Product>(product_id, [created]).given::<StockItem>(product_id, received)
    })
}

fn place<const N: usize>(lines: [(Uuid, i64); N]) -> PlaceOrder {
    let lines = lines.map(|(product_id, quantity)| PlaceOrderLine { product_id, quantity });
    PlaceOrder { order_id: Some(ORDER), lines: lines.into() }
}

fn placed<const N: usize>(order_id: Uuid, lines: [(Uuid, i64, i64); N]) -> OrderPlaced {
    let money = |amount| Money::new(amount, "EUR".parse().expect("a currency"));
    OrderPlaced {
        order_id,
        customer_id: ADA,
        pricing_policy: 1,
        total: money(lines.iter().map(|(_, quantity, amount)| quantity * amount).sum()),
        lines: lines
            .map(|(product_id, quantity, amount)| OrderLine {
                product_id,
                sku: format!("SKU-{amount}"),
                name: format!("Thing at {amount}"),
                quantity,
                unit_price: money(amount),
                total: money(quantity * amount),
            })
            .into(),
        placed_at: chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("a time"),
    }
}

fn rejected(scenario: Scenario, command: PlaceOrder, code: &str, field: &str) {
    let outcome = scenario.when(command);
    assert!(format!("{outcome:?}").contains(&format!("field: Some({field:?})")), "{field} is not in {outcome:?}");
    outcome.then_rejected(code);
}

#[test]
fn an_order_freezes_its_prices_and_sets_its_stock_aside() {
    given(&[TEN_TEAS, TEN_MUGS]).when(place([(TEA, 2), (MUG, 1)])).then([
        event::<Order>(ORDER, placed(ORDER, [(TEA, 2, 1290), (MUG, 1, 1850)])),
        event::<StockItem>(TEA, StockAllocated { order_id: ORDER, quantity: 2 }),
        event::<StockItem>(MUG, StockAllocated { order_id: ORDER, quantity: 1 }),
        event::<Activity>(ADA, ActivityOrderOpened { order_id: ORDER }),
    ]);
}

#[test]
fn an_order_without_an_id_gets_a_new_one() {
    let fresh = Uuid::from_u128(0xf0);
    given(&[TEN_TEAS]).when(PlaceOrder { order_id: None, ..place([(TEA, 1)]) }).then([
        event::<Order>(fresh, placed(fresh, [(TEA, 1, 1290)])),
        event::<StockItem>(TEA, StockAllocated { order_id: fresh, quantity: 1 }),
        event::<Activity>(ADA, ActivityOrderOpened { order_id: fresh }),
    ]);
}

#[test]
fn everything_that_is_left_can_be_sold_and_no_more() {
    given(&[TEN_TEAS]).when(place([(TEA, 10)])).decision();
    rejected(given(&[TEN_TEAS]), place([(TEA, 11)]), "out_of_stock", "lines[0].quantity");
    rejected(
        given(&[TEN_TEAS, (MUG, 1850, "EUR", 1)]),
        place([(TEA, 1), (MUG, 2)]),
        "out_of_stock",
        "lines[1].quantity",
    );
}

#[test]
fn what_was_never_received_is_out_of_stock() {
    rejected(given(&[(TEA, 1290, "EUR", 0)]), place([(TEA, 1)]), "out_of_stock", "lines[0].quantity");
}

#[test]
fn an_order_is_placed_once() {
    let again = given(&[TEN_TEAS]).given::<Order>(ORDER, [placed(ORDER, [(TEA, 1, 1290)])]);
    rejected(again, place([(TEA, 1)]), "order_exists", "order_id");
}

#[test]
fn a_product_is_on_one_line() {
    rejected(
        given(&[TEN_TEAS, TEN_MUGS]),
        place([(TEA, 1), (MUG, 1), (TEA, 1)]),
        "duplicate_line",
        "lines[2].product_id",
    );
}

#[test]
fn what_is_not_in_the_catalogue_cannot_be_ordered() {
    rejected(given(&[TEN_TEAS]), place([(TEA, 1), (MUG, 1)]), "unknown_product", "lines[1].product_id");
}

#[test]
fn currencies_do_not_mix_in_an_order() {
    let mixed = given(&[TEN_TEAS, (MUG, 1850, "USD", 10)]);
    rejected(mixed, place([(TEA, 1), (MUG, 1)]), "mixed_currencies", "lines[1].product_id");
}

#[test]
fn a_total_that_overflows_is_refused_and_does_not_wrap() {
    let dear = |product| (product, i64::MAX / 10, "EUR", 20);
    given(&[dear(TEA)]).when(place([(TEA, 10)])).decision();
    rejected(given(&[dear(TEA)]), place([(TEA, 11)]), "total_too_large", "lines[0].quantity");
    rejected(given(&[dear(TEA), dear(MUG)]), place([(TEA, 9), (MUG, 2)]), "total_too_large", "lines[1].quantity");
}

#[test]
fn only_customers_place_orders() {
    let given = || given(&[TEN_TEAS]);
    given().actor(Actor::System("seed")).when(place([(TEA, 1)])).then_rejected("no_customer");
    given().actor(account(BOB, Role::Customer)).when(place([(TEA, 1)])).then_rejected("no_customer");
    given().given::<Customer>(ADA, [CustomerForgotten {}]).when(place([(TEA, 1)])).then_rejected("no_customer");
    given().actor(account(ADA, Role::Analyst)).when(place([(TEA, 1)])).then_denied();
    given().actor(Actor::Anonymous).when(place([(TEA, 1)])).then_denied();
    given().actor(account(ADA, Role::Staff)).when(place([(TEA, 1)])).decision();
}

#[test]
fn an_order_has_between_one_and_fifty_lines_of_at_least_one() {
    let lines = |count: u128, quantity| PlaceOrder {
        order_id: None,
        lines: (0..count).map(|n| PlaceOrderLine { product_id: Uuid::from_u128(n), quantity }).collect(),
    };
    assert!(lines(1, 1).validate().is_ok());
    assert!(lines(50, 1_000_000).validate().is_ok());
    for (count, quantity) in [(0, 1), (51, 1), (1, 0), (1, -1), (1, i64::MIN), (1, 1_000_001), (1, i64::MAX)] {
        assert!(lines(count, quantity).validate().is_err(), "{count} lines of {quantity}");
    }
}

#[test]
fn the_largest_order_fits_in_an_event() {
    let line = OrderLine {
        product_id: TEA,
        sku: "𝄞".repeat(40),
        name: "𝄞".repeat(100),
        quantity: 1_000_000,
        unit_price: Money::new(100_000_000_000, "EUR".parse().expect("a currency")),
        total: Money::new(100_000_000_000_000_000, "EUR".parse().expect("a currency")),
    };
    let order = OrderPlaced { lines: vec![line; 50], ..placed(ORDER, [(TEA, 1, 1)]) };
    let bytes = serde_json::to_string(&order).expect("JSON").len();
    assert!(bytes < 40_000, "{bytes} bytes leave little room for metadata and what pricing adds");
}
