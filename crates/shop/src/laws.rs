//! What holds of the shop whatever is sent to it in whatever order.

use std::collections::BTreeSet;

use daybook_core::{Actor, Role};
use daybook_events::OrderStatus;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::book::Book;
use crate::{Activity, Customer, Order, StockItem};

const PRODUCTS: usize = 3;

/// Something that somebody wants.
#[derive(Debug, Clone)]
enum Wish {
    Receive { product: usize, quantity: i64 },
    Place { lines: Vec<(usize, i64)> },
    Confirm { order: Index },
    Cancel { order: Index },
    BeForgotten,
}

fn wish() -> impl Strategy<Value = Wish> {
    let receive = (0..PRODUCTS, 1..20_i64).prop_map(|(product, quantity)| Wish::Receive { product, quantity });
    let place = prop::collection::vec((0..PRODUCTS, 1..8_i64), 1..4).prop_map(|lines| Wish::Place { lines });
    let confirm = any::<Index>().prop_map(|order| Wish::Confirm { order });
    let cancel = any::<Index>().prop_map(|order| Wish::Cancel { order });
    prop_oneof![4 => receive, 16 => place, 4 => confirm, 8 => cancel, 1 => Just(Wish::BeForgotten)]
}

/// A shop with three products, somebody who works there and somebody who buys.
struct Shop {
    book: Book,
    staff: Actor,
    customer: Actor,
    orders: Vec<Uuid>,
}

fn product_id(product: usize) -> Uuid {
    Uuid::from_u128(product as u128 + 1)
}

impl Shop {
    fn open() -> Self {
        let mut book = Book::default();
        let (staff, customer) = (book.open_account(Role::Staff), book.open_account(Role::Customer));
        for product in 0..PRODUCTS {
            let body = json!({
                "product_id": product_id(product), "sku": product.to_string(), "name": "Thing", "category": "Things",
                "price": {"amount": 100, "currency": "EUR"}, "tax_category": "standard",
            });
            book.send(&staff, "product.create", &body).expect("a new product");
        }
        Self { book, staff, customer, orders: Vec::new() }
    }

    /// Sends what is wished, whether or not it can be had; answers whether it could.
    fn try_to(&mut self, wish: &Wish) -> bool {
        let order = |index: &Index| match self.orders.len() {
            0 => json!({"order_id": Uuid::nil()}),
            count => json!({"order_id": self.orders[index.index(count)]}),
        };
        let (actor, command, body): (_, _, Value) = match wish {
            Wish::Receive { product, quantity } => {
                (&self.staff, "stock.receive", json!({"product_id": product_id(*product), "quantity": quantity}))
            }
            Wish::Confirm { order: index } => (&self.staff, "order.confirm", order(index)),
            Wish::Cancel { order: index } => (&self.staff, "order.cancel", order(index)),
            Wish::BeForgotten => (&self.customer, "customer.forget", json!({})),
            Wish::Place { lines } => {
                let order_id = Uuid::from_u128(1000 + self.orders.len() as u128);
                let lines: Vec<_> = lines
                    .iter()
                    .map(|(product, quantity)| json!({"product_id": product_id(*product), "quantity": quantity}))
                    .collect();
                (&self.customer, "order.place", json!({"order_id": order_id, "lines": lines}))
            }
        };
        let taken = self.book.send(actor, command, &body).is_ok();
        if taken && matches!(wish, Wish::Place { .. }) {
            self.orders.push(Uuid::from_u128(1000 + self.orders.len() as u128));
        }
        taken
    }

    /// The orders that are not cancelled.
    fn open_orders(&self) -> BTreeSet<Uuid> {
        let is_open = |order_id: &Uuid| {
            let placed = self.book.state::<Order>(*order_id).placed;
            placed.is_some_and(|placed| placed.status != OrderStatus::Cancelled)
        };
        self.orders.iter().copied().filter(is_open).collect()
    }

    /// How many of a product the orders that are not cancelled have.
    fn promised(&self, product: usize) -> i64 {
        let orders = self.open_orders().into_iter();
        orders
            .filter_map(|order_id| self.book.state::<Order>(order_id).placed)
            .flat_map(|placed| placed.allocations)
            .filter(|allocation| allocation.product_id == product_id(product))
            .map(|allocation| allocation.quantity)
            .sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_oversold_and_what_is_allocated_is_what_open_orders_have(
        wishes in prop::collection::vec(wish(), 1..60),
    ) {
        let mut shop = Shop::open();
        let mut received = [0; PRODUCTS];
        for wish in &wishes {
            if shop.try_to(wish) && let Wish::Receive { product, quantity } = wish {
                received[*product] += quantity;
            }
            for (product, received) in received.iter().enumerate() {
                let level = shop.book.state::<StockItem>(product_id(product)).level;
                prop_assert_eq!(level.on_hand, *received);
                prop_assert_eq!(level.allocated, shop.promised(product));
                prop_assert!(0 <= level.allocated && level.allocated <= level.on_hand, "{:?}", level);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_customers_activity_knows_their_open_orders_and_who_was_forgotten_has_none(
        wishes in prop::collection::vec(wish(), 1..40),
    ) {
        let mut shop = Shop::open();
        let customer_id = shop.customer.account().expect("an account");
        for wish in &wishes {
            let before = shop.open_orders();
            let done = shop.try_to(wish);
            let open = shop.book.state::<Activity>(customer_id).open_orders;
            prop_assert_eq!(&open, &shop.open_orders());
            if matches!(wish, Wish::BeForgotten) {
                prop_assert_eq!(done, before.is_empty());
            }
            if shop.book.state::<Customer>(customer_id).forgotten {
                prop_assert!(open.is_empty());
            }
        }
    }
}

#[test]
fn two_products_never_share_a_number() {
    let Shop { mut book, staff, .. } = Shop::open();
    let body = json!({
        "sku": "0", "name": "Another", "category": "Things",
        "price": {"amount": 100, "currency": "EUR"}, "tax_category": "standard",
    });
    let rejection = book.send(&staff, "product.create", &body).expect_err("the number is taken");
    assert_eq!(rejection.code, "sku_taken");
}
