//! Whose address a request has that somebody passed on.

use daybook_tests::{Backend, Client, Customer, Daybook, Product, Role};
use reqwest::Method;
use serde_json::Value;

/// What a proxy would say, behind what its client says of itself.
const FORWARDED: &str = "6.6.6.6, 198.51.100.7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_believed_unless_they_are_named() {
    let daybook = Daybook::demo(Backend::Sqlite).await;
    assert_eq!(seen(&daybook, &daybook.client(), FORWARDED).await, ["127.0.0.1"; 2]);
    let shown = daybook.cli(&["config"]).stdout;
    let line = shown.lines().find(|line| line.starts_with("trusted_proxies")).expect("it is a setting");
    assert!(line.contains("default"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_named_says_who_the_client_is() {
    let trusting = ["demo", "--trusted-proxies", "127.0.0.1/32, 203.0.113.0/24", "--live-per-actor-max", "1"];
    let daybook = Daybook::start(Daybook::seeded(Backend::Sqlite).await, &trusting).await;
    let proxy = daybook.client();
    assert_eq!(seen(&daybook, &proxy, FORWARDED).await, ["198.51.100.7"; 2]);
    assert_eq!(seen(&daybook, &proxy, "6.6.6.6, 198.51.100.8, 203.0.113.9").await, ["198.51.100.8"; 2]);
    assert_eq!(seen(&daybook, &proxy, "198.51.100.7, nonsense").await, ["127.0.0.1"; 2]);
    let elsewhere = proxy.from("elsewhere", "127.0.0.77");
    assert_eq!(seen(&daybook, &elsewhere, FORWARDED).await, ["127.0.0.77"; 2], "it is none of ours");

    // Each client follows as many views as one may, not all of a proxy's together.
    let path = "/v1/views/products/live";
    let _first = proxy.follow(path, None).await;
    proxy.get(path).await.problem_code(429, "too_many_live");
    proxy.request(Method::HEAD, path).header("x-forwarded-for", FORWARDED).send().await.expect(200);

    let wrong = Daybook::refused(daybook.store(), &["serve", "--trusted-proxies", "proxy.example"]).await;
    assert!(wrong.stderr.contains("trusted_proxies"), "{wrong:?}");
}

/// The address of an order's client, as its event and the line of its request have it.
async fn seen(daybook: &Daybook, proxy: &Client, forwarded: &str) -> [String; 2] {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1).await;
    let customer = Customer::register(proxy).await;
    let correlation = format!("order-of-{}", customer.account_id);
    let order = customer.order(&product.order(1)).header("x-forwarded-for", forwarded);
    let receipt = order.header("x-correlation-id", &correlation).send().await.expect(200);
    let event = format!("/v1/events/{}", receipt["events"][0]["position"]);
    let event = daybook.login(Role::Admin).await.get(&event).await.expect(200);
    let log = daybook.logged(&correlation).await;
    let line = log.lines().find(|line| line.contains(&correlation)).expect("it is there");
    let line: Value = serde_json::from_str(line).expect("JSON");
    [&event["metadata"]["client"]["ip"], &line["client_ip"]].map(|ip| ip.as_str().unwrap_or_default().to_owned())
}
