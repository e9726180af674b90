//! What a demonstration of the shop starts with: a catalogue, stock (some of it scarce), customers, and orders in
//! different states. The same every time.

mod catalogue;

use std::collections::BTreeMap;

use daybook_core::{Role, Seed, SeedAccount, SeedActor, SeedExample, SeedStep};
use serde_json::json;
use uuid::Uuid;

use catalogue::{CATALOGUE, Item};

/// Names the ids of what is seeded, so that they are the same in every demonstration.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0d_3c52_8a41_4be9_9d17_52c6_0e8b_a37f);

const ORDERS: usize = 50;

const CUSTOMERS: [(&str, &str); 10] = [
    ("Amara Okafor", "amara.okafor@example.com"),
    ("Bence Kovács", "bence.kovacs@example.org"),
    ("Clara Lindqvist", "clara.lindqvist@example.com"),
    ("Diego Fuentes", "diego.fuentes@example.org"),
    ("Emiko Tanaka", "emiko.tanaka@example.com"),
    ("Farid Rahimi", "farid.rahimi@example.com"),
    ("Greta Hofmann", "greta.hofmann@example.org"),
    ("Hamish Baird", "hamish.baird@example.com"),
    ("Ines Carvalho", "ines.carvalho@example.org"),
    ("Jonas Petit", "jonas.petit@example.com"),
];

/// The demonstration.
pub(crate) fn seed() -> Seed {
    let accounts = CUSTOMERS
        .iter()
        .map(|(name, email)| SeedAccount { name: (*name).to_owned(), email: (*email).to_owned() })
        .collect();
    let mut steps: Vec<_> = CATALOGUE.iter().map(create).collect();
    steps.extend(CATALOGUE.iter().map(receive));
    let mut left: Vec<_> = CATALOGUE.iter().map(|item| item.stock).collect();
    for number in 0..ORDERS {
        steps.push(place(number, &mut left));
        steps.extend(fate(number));
    }
    Seed { accounts, steps, example: Some(example()) }
}

fn create(item: &Item) -> SeedStep {
    let body = json!({
        "product_id": product_id(item),
        "sku": item.sku,
        "name": item.name,
        "category": item.category,
        "price": {"amount": item.price, "currency": "EUR"},
        "tax_category": item.tax_category,
    });
    SeedStep { actor: SeedActor::Role(Role::Staff), command: "product.create", body }
}

fn receive(item: &Item) -> SeedStep {
    let body = json!({"product_id": product_id(item), "quantity": item.stock});
    SeedStep { actor: SeedActor::Role(Role::Staff), command: "stock.receive", body }
}

/// An order of up to three products, never of more than is `left`. Strides that share no factor with the size of the
/// catalogue make the baskets differ; instead of what is sold out, the next that is not.
fn place(number: usize, left: &mut [i64]) -> SeedStep {
    let mut basket = BTreeMap::new();
    for line in 0..=number % 3 {
        let wanted = number * 7 + line * 3;
        let mut shelf = (wanted..wanted + CATALOGUE.len()).map(|place| place % CATALOGUE.len());
        if let Some(product) = shelf.find(|product| left[*product] > 0 && !basket.contains_key(product)) {
            let quantity = left[product].min([1, 2, 1, 3][(number + line) % 4]);
            left[product] -= quantity;
            basket.insert(product, quantity);
        }
    }
    let lines: Vec<_> = basket
        .into_iter()
        .map(|(product, quantity)| json!({"product_id": product_id(&CATALOGUE[product]), "quantity": quantity}))
        .collect();
    SeedStep {
        actor: customer(number),
        command: "order.place",
        body: json!({"order_id": order_id(number), "lines": lines}),
    }
}

/// What became of an order: every second is confirmed, some are cancelled before or after that, the others wait.
fn fate(number: usize) -> Vec<SeedStep> {
    let body = json!({"order_id": order_id(number)});
    let confirm = SeedStep { actor: SeedActor::Role(Role::Staff), command: "order.confirm", body: body.clone() };
    let cancel = SeedStep { actor: customer(number), command: "order.cancel", body };
    match number % 10 {
        0 | 2 | 3 | 5 | 8 => vec![confirm],
        4 => vec![cancel],
        7 if number > 25 => vec![confirm, cancel],
        _ => Vec::new(),
    }
}

/// Something to buy that is not scarce. No id is chosen, so that it can be sent again and again.
fn example() -> SeedExample {
    let (tea, mug) = (&CATALOGUE[0], &CATALOGUE[10]);
    let lines =
        [(tea, 1), (mug, 2)].map(|(item, quantity)| json!({"product_id": product_id(item), "quantity": quantity}));
    SeedExample { role: Role::Customer, command: "order.place", body: json!({ "lines": lines }), view: "orders" }
}

fn customer(order: usize) -> SeedActor {
    let (_, email) = CUSTOMERS[(order * 3 + order / 10) % CUSTOMERS.len()];
    SeedActor::Account(email.to_owned())
}

fn product_id(item: &Item) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("product {}", item.sku).as_bytes())
}

fn order_id(number: usize) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("order {number}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use daybook_core::Actor;
    use daybook_events::OrderStatus;

    use super::*;
    use crate::book::Book;
    use crate::{Order, StockItem};

    /// The whole demonstration, played.
    fn played() -> Book {
        let mut book = Book::default();
        let seed = seed();
        let customers: HashMap<_, _> = seed
            .accounts
            .iter()
            .map(|account| (account.email.clone(), book.open_account(Role::Customer)))
            .collect();
        let staff = book.open_account(Role::Staff);
        for SeedStep { actor, command, body } in &seed.steps {
            let actor: &Actor = match actor {
                SeedActor::Role(Role::Staff) => &staff,
                SeedActor::Role(role) => panic!("nobody is {role}"),
                SeedActor::Account(email) => &customers[email],
            };
            book.send(actor, command, body).unwrap_or_else(|rejection| panic!("{command} {body}: {rejection}"));
        }
        book
    }

    fn statuses(book: &Book) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for number in 0..ORDERS {
            let order: Order = book.state(order_id(number));
            let status: OrderStatus = order.placed.expect("a placed order").status;
            *counts.entry(format!("{status:?}")).or_default() += 1;
        }
        counts
    }

    #[test]
    fn no_step_is_rejected_and_orders_end_in_every_state() {
        let counts = statuses(&played());
        assert_eq!(
            counts,
            [("Cancelled", 8), ("Confirmed", 25), ("Placed", 17)].map(|(k, v)| (k.into(), v)).into()
        );
    }

    #[test]
    fn nothing_is_oversold_and_something_is_nearly_gone() {
        let book = played();
        let levels: Vec<_> =
            CATALOGUE.iter().map(|item| book.state::<StockItem>(product_id(item)).level).collect();
        assert!(levels.iter().all(|level| 0 <= level.allocated && level.allocated <= level.on_hand), "{levels:?}");
        assert!(levels.iter().any(|level| level.saleable(0) <= 1), "{levels:?}");
        assert!(levels.iter().any(|level| level.saleable(0) >= 20), "{levels:?}");
    }

    #[test]
    fn the_example_can_be_tried_more_than_once() {
        let mut book = played();
        let example = example();
        let actor = book.open_account(example.role);
        for _ in 0..3 {
            book.send(&actor, example.command, &example.body).expect("an order");
        }
    }

    #[test]
    fn the_catalogue_has_twenty_products_in_four_categories() {
        let of = |field: fn(&Item) -> &'static str| CATALOGUE.iter().map(field).collect::<BTreeSet<_>>().len();
        assert_eq!((of(|item| item.sku), of(|item| item.name), of(|item| item.category)), (20, 20, 4));
    }

    #[test]
    fn it_is_the_same_every_time() {
        assert_eq!(format!("{:?}", seed()), format!("{:?}", seed()));
    }
}
