//! The same command with the same key happens once.

use daybook_tests::{Backend, Client, Customer, Daybook, Product, Role, on_both};
use futures_util::future::join_all;
use serde_json::{Value, json};

on_both!(the_same_command_happens_once);

async fn the_same_command_happens_once(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    twins_at_the_same_moment_place_one_order(&daybook).await;
    a_key_belongs_to_its_actor_and_command(&daybook).await;
    a_repeated_command_gets_the_first_receipt(&mut daybook).await;
}

async fn a_repeated_command_gets_the_first_receipt(daybook: &mut Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1).await;
    let mut customer = Customer::register(&daybook.client()).await;
    let place = |customer: &Customer, body: &Value| customer.order(body).idempotency_key("once");

    // Stock for one: a second order would be refused.
    let first = place(&customer, &product.order(1)).send().await.expect(200);
    assert_eq!(place(&customer, &product.order(1)).send().await.expect(200), first);
    let spaced = format!(r#"{{ "lines" : [ {{ "quantity": 1, "product_id": "{}" }} ] }}"#, product.id);
    let again = customer.client.request(reqwest::Method::POST, "/v1/commands/order.place");
    let again = again.header("content-type", "application/json").body(spaced).idempotency_key("once");
    assert_eq!(again.send().await.expect(200), first, "the same JSON in other white space is the same body");
    place(&customer, &product.order(2)).send().await.problem_code(422, "idempotency_key_reused");

    daybook.kill();
    daybook.restart().await;
    customer.client = daybook.known_to(&customer.client);
    assert_eq!(place(&customer, &product.order(1)).send().await.expect(200), first, "from any process");
    place(&customer, &product.order(2)).send().await.problem_code(422, "idempotency_key_reused");
    assert_eq!(orders(daybook, &customer).await, 1);
}

async fn a_key_belongs_to_its_actor_and_command(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let one = Customer::register(&daybook.client()).await;
    let other = Customer::register(&daybook.client()).await;

    let first = one.order(&product.order(1)).idempotency_key("key").send().await.expect(200);
    let second = other.order(&product.order(1)).idempotency_key("key").send().await.expect(200);
    assert_ne!(first["id"], second["id"], "another's key is another key");
    let cancel = one.client.command("order.cancel", &json!({"order_id": first["id"]})).idempotency_key("key");
    assert_ne!(cancel.send().await.expect(200)["command_id"], first["command_id"], "and so is another command's");
    // A refusal uses no key up.
    one.order(&product.order(99)).idempotency_key("too-many").send().await.problem_code(422, "out_of_stock");
    one.order(&product.order(1)).idempotency_key("too-many").send().await.expect(200);
    assert_eq!((orders(daybook, &one).await, orders(daybook, &other).await), (2, 1));
}

async fn twins_at_the_same_moment_place_one_order(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 100).await;
    let customer = Customer::register(&daybook.client()).await;

    let twins = (0..16).map(|_| customer.order(&product.order(1)).idempotency_key("twins").send());
    let mut receipts = Vec::new();
    for answer in join_all(twins).await {
        if answer.status == 200 {
            receipts.push(answer.json());
        } else {
            answer.problem_code(409, "in_flight");
        }
    }
    assert!(!receipts.is_empty(), "one of them is the first");
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    assert_eq!(orders(daybook, &customer).await, 1);
}

/// How many orders the log says a customer has placed.
async fn orders(daybook: &Daybook, customer: &Customer) -> usize {
    let analyst: Client = daybook.login(Role::Analyst).await;
    analyst.events(&format!("type=order.placed&actor={}", customer.account_id)).await.len()
}
