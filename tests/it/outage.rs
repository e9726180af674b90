//! A PostgreSQL that is down, or that cannot be relied on.

use std::sync::Arc;
use std::time::Duration;

use daybook_tests::{Answer, Backend, Customer, Daybook, Product, Request, Role, Store, wait_for};
use reqwest::Method;
use serde_json::Value;

/// How long it may take until a database that is back is used again.
const LIMIT: Duration = Duration::from_secs(30);

/// How often each is asked for: more than there are connections in a pool, so that those that broke are used up and
/// new ones are refused.
const ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_it_says_so_and_accepts_nothing() {
    let daybook = Daybook::demo(Backend::Postgres).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let analyst = daybook.login(Role::Analyst).await;
    let customer = Customer::register(&daybook.client()).await;
    let placed = customer.order(&product.order(1)).send().await.expect(200);
    customer.client.order(&placed).await.expect(200);
    let order = || customer.order(&product.order(1)).idempotency_key("in-the-dark");

    daybook.store().shut().await;
    for _ in 0..ROUNDS {
        assert_unavailable(&order().send().await);
        assert_unavailable(&customer.order(&product.order(1)).send().await);
        assert_unavailable(&daybook.client().get("/v1/views/products").await);
        assert_unavailable(&customer.client.get("/v1/views/orders").await);
        assert_unavailable(&analyst.get("/v1/events").await);
        assert_unavailable(&daybook.client().get("/health/ready").await);
    }
    daybook.client().get("/health/live").await.expect(200);

    daybook.store().open().await;
    let receipt = taken_up_again(order).await;
    for (client, path) in
        [(&customer.client, "/v1/views/orders"), (&analyst, "/v1/events"), (&analyst, "/health/ready")]
    {
        taken_up_again(|| client.request(Method::GET, path)).await;
    }
    // The projector, too: the view has the new order.
    let id = receipt["id"].as_str().expect("an id");
    let path = format!("/v1/views/orders/{id}?min_position={}", receipt["position"]);
    taken_up_again(|| customer.client.request(Method::GET, &path)).await;
    let orders = analyst.events(&format!("type=order.placed&actor={}", customer.account_id)).await;
    let streams: Vec<_> = orders.iter().filter_map(|event| event["stream"].as_str()).collect();
    let expected: Vec<_> = [placed, receipt]
        .iter()
        .map(|receipt| format!("order-{}", receipt["id"].as_str().expect("an id")))
        .collect();
    assert_eq!(streams, expected, "what was answered 200, and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_forgets_is_not_served_unless_asked_for() {
    let store = Arc::new(Store::new(Backend::Postgres).await);
    store.set("synchronous_commit", "off").await;

    store.give_master_key();
    let refused = Daybook::refused(&store, &["serve"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert!(refused.stderr.contains("synchronous_commit"), "{refused:?}");

    let daybook = Daybook::start(store, &["serve", "--unsafe-durability", "true"]).await;
    assert!(daybook.logged("synchronous_commit").await.contains("WARN"), "it is not silent about it");
}

/// Sends a request again until it succeeds; until then the answer says to come back.
async fn taken_up_again(request: impl Fn() -> Request) -> Value {
    wait_for("the database to be used again", LIMIT, async || {
        let answer = request().send().await;
        if answer.status == 200 {
            return Some(answer.json());
        }
        assert_unavailable(&answer);
        None
    })
    .await
}

/// Checks that the answer says to come back, and when.
#[track_caller]
fn assert_unavailable(answer: &Answer) {
    answer.problem(503);
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "when to ask again: {:?}", answer.headers);
}
