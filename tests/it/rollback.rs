//! A log that is rolled back to an older backup under the processes that use it.

use std::time::Duration;

use daybook_tests::{Backend, Customer, Daybook, Product, Role, on_both};
use tokio::time::timeout;

on_both!(a_process_ends_when_its_log_is_rolled_back, whoever_follows_the_events_is_told_when_they_are_rolled_back);

/// How long a process may take to notice, and to end.
const LIMIT: Duration = Duration::from_secs(30);

async fn a_process_ends_when_its_log_is_rolled_back(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let customer = Customer::register(&daybook.client()).await;
    let placed = customer.order(&product.order(1)).send().await.expect(200);
    let position = placed["position"].as_u64().expect("a position");

    daybook.store().roll_back(position - 1).await;

    // It may be gone already.
    if let Ok(answer) = customer.order(&product.order(1)).try_send().await {
        assert_ne!(answer.status, 200, "built on what is gone: {answer}");
    }
    let status = timeout(LIMIT, daybook.ended()).await.expect("it ends by itself");
    assert!(!status.success(), "{status}");
    let log = daybook.logged("rolled back").await;
    assert!(log.contains(&position.to_string()), "it says where: {log}");
}

async fn whoever_follows_the_events_is_told_when_they_are_rolled_back(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let follow = ["events", "tail", "--follow", "--lines", "1", "--json"];
    let mut following = daybook.begin_verb(&follow, "{").await;
    daybook.store().roll_back(1).await;
    let ended = following.ended().await;
    assert!(!ended.status.success(), "{ended:?}");
    // In its own words, whatever it logged before.
    assert!(ended.stderr.lines().last().is_some_and(|line| line.contains("rolled back")), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
}
