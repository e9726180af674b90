//! `kill -9` at any moment loses nothing that was answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daybook_tests::{Backend, Customer, Daybook, Product, Role, assert_counted_once, on_both, wait_for};
use futures_util::future::join_all;
use serde_json::Value;
use uuid::Uuid;

on_both!(what_was_answered_before_a_kill_is_there_once);

const CLIENTS: usize = 8;
const KILLS: usize = 3;
const PIECES: usize = 2;
const LIMIT: Duration = Duration::from_secs(60);

async fn what_was_answered_before_a_kill_is_there_once(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1_000_000).await;
    let mut customer = Customer::register(&daybook.client()).await;
    let mut receipts: HashMap<String, Value> = HashMap::new();

    for _ in 0..KILLS {
        let answered = AtomicUsize::new(0);
        // Somewhere between the first orders and the many, and so at any moment of one's way.
        let enough = CLIENTS + usize::from(Uuid::new_v4().as_bytes()[0]) % 50;
        let clients = join_all((0..CLIENTS).map(|_| place_until_killed(&customer, &product, &answered)));
        let kill = async {
            let many = async || (answered.load(Ordering::SeqCst) >= enough).then_some(());
            wait_for("orders to be answered", LIMIT, many).await;
            daybook.kill();
        };
        let (attempts, ()) = tokio::join!(clients, kill);
        daybook.restart().await;
        customer.client = daybook.known_to(&customer.client);

        for attempt in attempts.into_iter().flatten() {
            // The same key again: the receipt that was lost, or now for the first time.
            let order = customer.order(&product.order(PIECES as i64)).idempotency_key(&attempt.key);
            let receipt = order.send().await.expect(200);
            if let Some(first) = attempt.receipt {
                assert_eq!(receipt, first, "a repeated command gets the first receipt");
            }
            receipts.insert(attempt.key, receipt);
        }
    }

    for receipt in receipts.values() {
        let order = customer.client.order(receipt).await.expect(200);
        assert_eq!((&order["data"]["status"], &order["revision"]), (&"placed".into(), &1.into()));
    }
    let analyst = daybook.login(Role::Analyst).await;
    let placed = analyst.events(&format!("type=order.placed&actor={}&limit=100", customer.account_id)).await;
    let mut in_log: Vec<_> = placed.iter().map(|event| event["stream"].to_string()).collect();
    let mut expected: Vec<_> =
        receipts.values().map(|receipt| format!("\"order-{}\"", receipt["id"].as_str().unwrap_or("?"))).collect();
    in_log.sort();
    expected.sort();
    assert_eq!(in_log, expected, "each order is in the log once, and no other");

    // A status is the same however often an event is folded; counts and sums are not.
    let last = receipts.values().max_by_key(|receipt| receipt["position"].as_u64()).expect("there were orders");
    assert_counted_once(&customer, &product, receipts.len(), PIECES * receipts.len(), last).await;
}

/// An order that was sent, and its receipt if one came back.
struct Attempt {
    key: String,
    receipt: Option<Value>,
}

/// Places one order after the other until the server is gone; the last one got no answer.
async fn place_until_killed(customer: &Customer, product: &Product, answered: &AtomicUsize) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    loop {
        let key = Uuid::new_v4().to_string();
        let order = customer.order(&product.order(PIECES as i64)).idempotency_key(&key);
        match order.try_send().await {
            Ok(answer) => {
                attempts.push(Attempt { key, receipt: Some(answer.expect(200)) });
                answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => {
                attempts.push(Attempt { key, receipt: None });
                return attempts;
            }
        }
    }
}
