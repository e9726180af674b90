//! What operators and integrators rely on: the description, the keys, the metrics, the command line, the end.

use std::time::Duration;

use daybook_tests::{Backend, Customer, Daybook, Output, Product, Role, on_both, wait_for};
use futures_util::future::join_all;
use serde_json::{Value, json};

on_both!(
    the_description_lists_every_command_and_view,
    the_public_keys_are_public_and_nothing_else,
    the_metrics_count_what_happens,
    the_command_line_works_beside_a_running_server,
    sigterm_lets_what_was_begun_end
);

const LIMIT: Duration = Duration::from_secs(30);

async fn the_description_lists_every_command_and_view(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let description = daybook.client().get("/openapi.json").await.expect(200);
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let operations = [
        ("post", "/v1/commands/product.create"),
        ("post", "/v1/commands/stock.receive"),
        ("post", "/v1/commands/order.place"),
        ("post", "/v1/commands/order.cancel"),
        ("get", "/v1/views/products"),
        ("get", "/v1/views/stock"),
        ("get", "/v1/views/orders"),
        ("get", "/v1/views/customers"),
        ("get", "/v1/events"),
        ("post", "/v1/auth/register"),
        ("post", "/v1/auth/login"),
        ("post", "/v1/auth/refresh"),
        ("post", "/v1/auth/logout"),
        ("get", "/.well-known/jwks.json"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
    ];
    for (method, path) in operations {
        let operation = &description["paths"][path][method];
        assert!(operation["responses"].is_object(), "{method} {path} is not described");
    }
    assert_no_dangling_references(&description, &description);
}

async fn the_public_keys_are_public_and_nothing_else(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let keys = daybook.client().get("/.well-known/jwks.json").await.expect(200);
    let keys = keys["keys"].as_array().expect("a set of keys");
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
        assert!(key["kid"].is_string() && key["x"].is_string(), "{key}");
        assert!(key.get("d").is_none(), "the private key is published");
    }
}

async fn the_metrics_count_what_happens(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1).await;
    let customer = Customer::register(&daybook.client()).await;
    let receipt = customer.order(&product.order(1)).send().await.expect(200);
    customer.order(&product.order(1)).send().await.problem_code(422, "out_of_stock");
    customer.client.order(&receipt).await.expect(200);

    // Not on the public port, and on their own.
    daybook.client().get("/metrics").await.problem(404);
    let metrics = daybook.metrics().await;
    for name in [
        "daybook_http_requests_total",
        "daybook_http_request_duration_seconds",
        "daybook_append_duration_seconds",
        "daybook_append_group_size",
        "daybook_projection_lag_events",
        "daybook_projection_lag_seconds",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "no {name}:\n{metrics}");
    }
    let placed = |line: &&str| line.starts_with("daybook_commands_total{") && line.contains("\"order.place\"");
    assert!(metrics.lines().filter(placed).count() >= 2, "order.place by outcome:\n{metrics}");
}

async fn the_command_line_works_beside_a_running_server(backend: Backend) {
    let daybook = Daybook::demo(backend).await;

    let status = json_of(&daybook.cli(&["status", "--json"]));
    assert!(status["log"]["position"].as_u64().is_some_and(|position| position > 0), "{status}");

    let shown = json_of(&daybook.cli(&["events", "show", "1", "--json"]));
    assert_eq!(shown["position"], 1);
    let tail = succeeded(&daybook.cli(&["events", "tail", "--json"]));
    let lines: Vec<Value> =
        tail.lines().map(|line| serde_json::from_str(line).expect("one event a line")).collect();
    assert!(lines.last().is_some_and(|event| event["position"].is_u64()), "{tail}");

    let config = succeeded(&daybook.cli(&["config"]));
    let words = |key: &str| {
        let line = config.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("no `{key}`:\n{config}")).split_whitespace().skip(1).collect::<Vec<_>>()
    };
    assert_eq!(words("data"), [daybook.store().data().display().to_string().as_str(), "flag"]);
    assert_eq!(words("listen"), ["127.0.0.1:8080", "default"]);

    // A user made here can sign in there.
    let email = "analyst-2@test.example";
    let create = ["user", "create", email, "--name", "Second Analyst", "--password-stdin"];
    succeeded(&daybook.cli_with_input(&create, "three-lions-on-a-hill\n"));
    daybook.client().login(email, "three-lions-on-a-hill").await.get("/v1/events").await.problem(403);
    succeeded(&daybook.cli(&["user", "grant", email, "analyst"]));
    let analyst = daybook.client().login(email, "three-lions-on-a-hill").await;
    wait_for("the role", LIMIT, async || (analyst.get("/v1/events?limit=1").await.status == 200).then_some(()))
        .await;

    for wrong in [&["events", "show", "999999999"][..], &["events", "show", "x"], &["no-such-verb"]] {
        let output = daybook.cli(wrong);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{wrong:?}: {output:?}");
    }
}

async fn sigterm_lets_what_was_begun_end(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1_000_000).await;
    let customer = Customer::register(&daybook.client()).await;
    customer.order(&product.order(1)).send().await.expect(200);

    let clients = join_all((0..4).map(|_| place_until_closed(&customer, &product)));
    let (receipts, status) = tokio::join!(clients, daybook.terminate());
    assert!(status.success(), "SIGTERM ends with {status}:\n{}", daybook.output());

    daybook.restart().await;
    let client = daybook.known_to(&customer.client);
    for receipt in receipts.into_iter().flatten() {
        client.order(&receipt).await.expect(200);
    }
}

/// Places one order after the other until the server takes no more.
async fn place_until_closed(customer: &Customer, product: &Product) -> Vec<Value> {
    let mut receipts = Vec::new();
    while let Ok(answer) = customer.order(&product.order(1)).try_send().await {
        if answer.status != 200 {
            answer.problem(503);
            break;
        }
        receipts.push(answer.json());
    }
    receipts
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    output.stdout.clone()
}

#[track_caller]
fn json_of(output: &Output) -> Value {
    let text = succeeded(output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
}

/// Every `$ref` in the description leads somewhere in it.
fn assert_no_dangling_references(part: &Value, whole: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("a reference into the same document");
                assert!(whole.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            members.values().for_each(|member| assert_no_dangling_references(member, whole));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_no_dangling_references(item, whole)),
        _ => {}
    }
}
