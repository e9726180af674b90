//! More commands than can be appended.

use std::time::{Duration, Instant};

use daybook_tests::{Answer, Backend, Customer, Daybook, Product, Role, on_both};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

on_both!(what_finds_the_queue_full_is_told_at_once_to_come_back);

/// How long "at once" may take.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn what_finds_the_queue_full_is_told_at_once_to_come_back(backend: Backend) {
    let store = Daybook::seeded(backend).await;
    let mut before = Daybook::start(store.clone(), &["demo"]).await;
    let product = Product::create(&before.login(Role::Staff).await, 100, 100).await;
    let customer = Customer::register(&before.client()).await;
    before.terminate().await;
    let daybook = Daybook::start(store, &["demo", "--queue-appends-max", "1"]).await;
    let client = daybook.known_to(&customer.client);
    let order = product.order(1);
    let send = || client.command("order.place", &order).send();
    send().await.expect(200);

    let held = daybook.store().hold_head().await;
    // One is in the database's hands, one waits, and the others are too many.
    let asked = Instant::now();
    let mut answers: FuturesUnordered<_> = (0..8).map(|_| send()).collect();
    let first = answers.next().await.expect("an answer");
    assert!(asked.elapsed() < AT_ONCE, "{:?}: {first}", asked.elapsed());
    assert_busy(&first);
    drop(held);
    let mut taken = 0;
    while let Some(answer) = answers.next().await {
        match answer.status {
            200 => taken += 1,
            _ => assert_busy(&answer),
        }
    }
    assert!(taken >= 1);
    send().await.expect(200);
}

/// Checks that the answer says that nothing was done, and when to come back.
#[track_caller]
fn assert_busy(answer: &Answer) {
    answer.problem_code(503, "busy");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "when to ask again: {:?}", answer.headers);
}
