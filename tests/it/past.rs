//! A document can be asked for as it was, by whoever may see it; and views are verified and tried out from the command line.

use std::time::Duration;

use daybook_tests::{Backend, Customer, Daybook, Product, Role, on_both, wait_for};
use serde_json::{Value, json};

on_both!(the_past_is_told_and_views_are_verified);

const LIMIT: Duration = Duration::from_secs(30);

async fn the_past_is_told_and_views_are_verified(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    an_order_is_as_it_was(&daybook).await;
    what_was_erased_since_stays_so(&daybook).await;
    if backend == Backend::Postgres {
        what_takes_too_long_is_given_up(&daybook).await;
    }
    a_view_is_verified(&daybook).await;
    a_projection_is_tried_out(&daybook);
}

async fn an_order_is_as_it_was(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 50).await;
    let [customer, other] =
        [Customer::register(&daybook.client()).await, Customer::register(&daybook.client()).await];
    let placed = customer.order(&product.order(1)).send().await.expect(200);
    let cancelled = customer.client.receipt("order.cancel", &json!({"order_id": placed["id"]})).await;
    customer.client.order(&cancelled).await.expect(200);
    let order = format!("/v1/views/orders/{}", placed["id"].as_str().expect("an id"));
    let at = |at: &str| format!("{order}?at={at}");
    let position = |receipt: &Value| receipt["position"].to_string();

    let then = customer.client.get(&at(&position(&placed))).await;
    assert_eq!(
        (&then.expect(200)["data"]["status"], &then.expect(200)["revision"]),
        (&json!("placed"), &json!(1))
    );
    assert_eq!(then.expect(200)["position"], placed["position"]);
    assert_eq!(then.header("cache-control"), "private, no-cache");
    let tag = then.header("etag").to_owned();
    let again = customer.client.request(reqwest::Method::GET, &at(&position(&placed)));
    assert_eq!(again.header("if-none-match", &tag).send().await.status, 304);
    let now = customer.client.get(&at(&position(&cancelled))).await.expect(200);
    assert_eq!(now["data"], customer.client.get(&order).await.expect(200)["data"]);
    let time = now["data"]["updated_at"].as_str().expect("a time").to_owned();
    assert_eq!(customer.client.get(&at(&time)).await.expect(200)["data"], now["data"]);
    let sparse = customer.client.get(&format!("{}&fields=status", at(&position(&placed)))).await.expect(200);
    assert_eq!(sparse["data"], json!({"status": "placed"}));

    // Before it was, it was not there; and nobody knows what comes.
    let stream = format!("/v1/streams/order-{}", placed["id"].as_str().expect("an id"));
    let history = customer.client.get(&stream).await.expect(200);
    let before = history["data"][0]["position"].as_u64().expect("a number") - 1;
    customer.client.get(&at(&before.to_string())).await.problem_code(404, "not_found");
    let future = customer.client.get(&at("999999999")).await.problem_code(409, "not_happened");
    assert!(future["position"].as_u64() >= cancelled["position"].as_u64(), "{future}");
    customer.client.get(&at("2999-01-01T00:00:00Z")).await.problem_code(409, "not_happened");
    for bad in ["yesterday", "-1", ""] {
        assert_eq!(customer.client.get(&at(bad)).await.problem(400)["field"], "at", "{bad}");
    }

    // Not every text is the id of a stream.
    for odd in ["%20", "a%20b", "%F0%9F%92%A9", "%ff", "%00", &"k".repeat(8_000)] {
        let path = format!("/v1/views/stock/{odd}");
        daybook.client().get(&format!("{path}?at=3")).await.problem_code(404, "not_found");
    }

    // It is nobody else's, then as now.
    other.client.get(&at(&position(&placed))).await.problem_code(404, "not_found");
    daybook.client().get(&at(&position(&placed))).await.problem(401);
    daybook.login(Role::Staff).await.get(&at(&position(&placed))).await.expect(200);

    let stock = format!("/v1/views/stock/{}?at={}", product.id, position(&placed));
    let stock = daybook.client().get(&stock).await;
    assert_eq!(stock.expect(200)["data"]["allocated"], 1);
    assert_eq!(stock.header("cache-control"), "private, no-cache", "no shared cache keeps it");
}

async fn what_was_erased_since_stays_so(daybook: &Daybook) {
    let (customer, staff) = (Customer::register(&daybook.client()).await, daybook.login(Role::Staff).await);
    let path = format!("/v1/views/customers/{}", customer.account_id);
    let known = wait_for("the customer", LIMIT, async || {
        let answer = staff.get(&path).await;
        (answer.status == 200).then(|| answer.expect(200))
    })
    .await;
    let at = format!("{path}?at={}", known["position"]);
    assert_eq!(
        staff.get(&at).await.expect(200)["data"],
        known["data"],
        "its streams are not declared, and it is found"
    );
    let subject = format!("account-{}", customer.account_id);
    let forgotten = daybook.cli(&["subject", "forget", &subject]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    wait_for("the key to be gone", LIMIT, async || {
        let then = staff.get(&at).await.expect(200);
        (then["data"]["email"] == json!({"erased": true})).then_some(())
    })
    .await;
    assert_eq!(staff.get(&at).await.expect(200)["data"]["forgotten"], false);
}

/// The streams of customers are not declared, so all of the log is read for one, by one reader at a time.
async fn what_takes_too_long_is_given_up(daybook: &Daybook) {
    let (customer, staff) = (Customer::register(&daybook.client()).await, daybook.login(Role::Staff).await);
    let path = format!("/v1/views/customers/{}", customer.account_id);
    let known = wait_for("the customer", LIMIT, async || {
        let answer = staff.get(&path).await;
        (answer.status == 200).then(|| answer.expect(200))
    })
    .await;
    let at = format!("{path}?at={}", known["position"]);
    let held = daybook.store().hold_events().await;
    // Both wait for the log; one of them goes through it.
    let (one, other) = tokio::join!(staff.get(&at), staff.get(&at));
    drop(held);
    let (busy, too_long) = if one.status == 503 { (one, other) } else { (other, one) };
    busy.problem_code(503, "busy");
    assert!(!busy.header("retry-after").is_empty());
    too_long.problem_code(422, "history_too_long");
    // It is known again whose sessions were revoked, and nobody is in the way any more.
    wait_for("an answer", LIMIT, async || (staff.get(&at).await.status == 200).then_some(())).await;
}

async fn a_view_is_verified(daybook: &Daybook) {
    for view in ["orders", "customers", "products", "stock"] {
        let verified = daybook.cli(&["projection", "verify", view, "--full", "--json"]);
        assert!(verified.status.success(), "{verified:?}");
        let report: Value = serde_json::from_str(&verified.stdout).expect("one line");
        assert_eq!((&report["findings"], &report["slices"]), (&json!(0), &json!(1_024)), "{report}");
        assert_eq!(report["documents"], report["folded"], "{report}");
    }
    let unknown = daybook.cli(&["projection", "verify", "colours"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

fn a_projection_is_tried_out(daybook: &Daybook) {
    let tried = daybook.cli(&["projection", "try", "orders", "--limit", "3", "--json"]);
    assert!(tried.status.success(), "{tried:?}");
    let steps: Vec<Value> =
        tried.stdout.lines().map(|line| serde_json::from_str(line).expect("one step a line")).collect();
    assert_eq!(steps.len(), 3);
    let first = &steps[0]["documents"][0];
    assert_eq!((&first["effect"], &first["fields"][0]["after"]["status"]), (&json!("changes"), &json!("placed")));
    let key = first["key"].as_str().expect("a key");
    let tried = daybook.cli(&["projection", "try", "orders", "--key", key]);
    assert!(tried.status.success() && tried.stdout.contains("(document): null -> "), "{tried:?}");
    // Personal values stay sealed.
    let tried = daybook.cli(&["projection", "try", "customers", "--limit", "5"]);
    assert!(tried.stdout.contains("\"sealed\":") && !tried.stdout.contains("demo.example"), "{tried:?}");
}
