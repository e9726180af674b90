//! Several processes behind a proxy, as a production has them: they come and go, and nobody notices.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daybook_tests::{Client, Cluster, Customer, Product, Request, Role, assert_counted_once, wait_for};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;

const README: &str = include_str!("../../README.md");

/// How many clients order at once, and how many pieces each time.
const CLIENTS: usize = 6;
const PIECES: usize = 2;

/// How many orders are answered between one event and the next.
const ENOUGH: usize = 2 * CLIENTS;

/// How long that may take.
const LIMIT: Duration = Duration::from_secs(60);

/// When to try again.
const AGAIN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_is_as_told_and_each_key_has_one_receipt_whoever_is_killed() {
    let mut cluster = Cluster::start().await;
    the_tour_is_as_told(&cluster).await;
    each_key_has_one_receipt_whoever_is_killed(&mut cluster).await;
}

/// All that the README has one do, at the proxy.
async fn the_tour_is_as_told(cluster: &Cluster) {
    let api = &cluster.apis[0];
    let mut script = "set -euo pipefail; shopt -s expand_aliases; trap 'kill $(jobs -p)' EXIT\n".to_owned();
    for block in tour() {
        // What would go on until one ends it goes on beside the rest.
        match block.contains("curl -sN ") {
            true => script += &format!("{{ exec {}; }} > live.txt &\n", block.trim()),
            false => script += &block.replace("tail --follow", "tail --follow > tail.txt &"),
        }
    }
    script = script.replace("http://127.0.0.1:8080", cluster.client().base_url());
    script = script.replace("http://127.0.0.1:9464/metrics", api.metrics_url());
    let store = api.store().clone();
    let done = tokio::task::spawn_blocking(move || store.shell(&script)).await.expect("no panic");
    assert!(done.status.success(), "{done:?}");

    let said = |text: &str| done.stdout.matches(text).count();
    assert_eq!(said("\"type\": \"urn:daybook:error:"), 1, "{}", done.stdout);
    assert_eq!(said("\"code\": \"forbidden\""), 1, "{}", done.stdout);
    for text in ["\"sealed\": true", "\"order.cancelled\"", "\n\"placed\"\n", "daybook_events_appended_total"] {
        assert!(said(text) > 0, "no {text}: {}", done.stdout);
    }
    let told = |file: &str| std::fs::read_to_string(api.store().data().join(file)).expect("it was begun");
    assert!(told("live.txt").contains("id: "), "{}", told("live.txt"));
    assert!(told("tail.txt").contains("order.placed"), "{}", told("tail.txt"));
}

/// The README's blocks of shell in its tour.
fn tour() -> Vec<&'static str> {
    let (_, tour) = README.split_once("\n## A tour\n").expect("there is a tour");
    let (tour, _) = tour.split_once("\n## ").expect("it ends");
    let blocks = tour.split("\n```sh\n").skip(1).map(|block| block.split_once("```").expect("it ends").0);
    blocks.collect()
}

async fn each_key_has_one_receipt_whoever_is_killed(cluster: &mut Cluster) {
    let buyers = Buyer::several(cluster).await;
    let (answered, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let orders = join_all(buyers.iter().map(|buyer| buyer.order_until(&done, &answered)));
    let killing = async {
        for round in 0..2 {
            more(&answered).await;
            cluster.apis[round].kill();
            more(&answered).await;
            cluster.apis[round].restart().await;
            more(&answered).await;
            cluster.replace_projector(round).await;
        }
        more(&answered).await;
        done.store(true, Ordering::Relaxed);
    };
    let (receipts, ()) = tokio::join!(orders, killing);

    cluster.caught_up().await;
    let analyst = cluster.login(Role::Analyst).await;
    for (buyer, receipts) in buyers.iter().zip(receipts) {
        buyer.has_one_order_for_each(&receipts, &analyst).await;
    }
    cluster.topic().holding_all_of(&cluster.apis[0]).await;
}

/// Somebody who orders something again and again, and is the only one who does: who orders the same in several processes
/// may have to wait for the others.
struct Buyer {
    customer: Customer,
    product: Product,
}

impl Buyer {
    async fn several(cluster: &Cluster) -> Vec<Self> {
        let (staff, client) = (cluster.login(Role::Staff).await, cluster.client());
        let one = async || {
            let product = Product::create(&staff, 100, 1_000_000).await;
            Self { customer: Customer::register(&client).await, product }
        };
        join_all((0..CLIENTS).map(|_| one())).await
    }

    fn order(&self) -> Request {
        self.customer.order(&self.product.order(PIECES as i64))
    }

    /// Places one order after the other, each until it has its receipt; answers keys and receipts.
    async fn order_until(&self, done: &AtomicBool, answered: &AtomicUsize) -> Vec<(String, Value)> {
        let mut receipts = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let key = Uuid::new_v4().to_string();
            let receipt = loop {
                match self.order().idempotency_key(&key).try_send().await {
                    Ok(answer) if answer.status < 500 => break answer.expect(200),
                    Ok(_) | Err(_) => sleep(AGAIN).await,
                }
            };
            answered.fetch_add(1, Ordering::Relaxed);
            receipts.push((key, receipt));
        }
        receipts
    }

    /// Each key has one receipt, and each receipt one order, in the log and in the views.
    async fn has_one_order_for_each(&self, receipts: &[(String, Value)], analyst: &Client) {
        let mut expected = Vec::new();
        for (key, receipt) in receipts {
            let again = self.order().idempotency_key(key).send().await.expect(200);
            assert_eq!(again, *receipt, "the same key has the same receipt");
            let order = self.customer.client.order(receipt).await.expect(200);
            assert_eq!((&order["data"]["status"], &order["revision"]), (&"placed".into(), &1.into()));
            expected.push(format!("order-{}", receipt["id"].as_str().expect("a receipt has an id")));
        }
        let placed = format!("type=order.placed&actor={}&limit=100", self.customer.account_id);
        let placed = analyst.events(&placed).await;
        let in_log: Vec<_> = placed.iter().map(|event| event["stream"].as_str().expect("a stream")).collect();
        assert_eq!(in_log, expected, "each order is in the log once, in the order of the receipts, and no other");
        let (orders, (_, last)) = (receipts.len(), receipts.last().expect("there were orders"));
        assert_counted_once(&self.customer, &self.product, orders, PIECES * orders, last).await;
    }
}

/// Waits until some more orders were answered.
async fn more(answered: &AtomicUsize) {
    let enough = answered.load(Ordering::Relaxed) + ENOUGH;
    let many = async || (answered.load(Ordering::Relaxed) >= enough).then_some(());
    wait_for("orders to be answered", LIMIT, many).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_processes_are_stopped_and_started() {
    let mut cluster = Cluster::start().await;
    let buyers = Buyer::several(&cluster).await;
    let (answered, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let order = async |buyer: &Buyer| {
        while !done.load(Ordering::Relaxed) {
            // Without a key, so it is sent once: nobody could tell whether to send it again.
            let receipt = buyer.order().send().await.expect(200);
            buyer.customer.client.order(&receipt).await.expect(200);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let orders = join_all(buyers.iter().map(order));
    let stopping = async {
        for round in 0..4 {
            more(&answered).await;
            let api = &mut cluster.apis[round % 2];
            assert!(api.terminate().await.success(), "{}", api.output());
            more(&answered).await;
            api.restart().await;
        }
        more(&answered).await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(orders, stopping);
}
