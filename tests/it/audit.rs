//! The log is the audit trail: who did what, and who was refused what.

use std::time::Duration;

use daybook_tests::{Backend, Client, Customer, Daybook, Product, Role, on_both, wait_for};
use reqwest::Method;
use serde_json::{Value, json};

on_both!(the_log_is_the_audit_trail);

const LIMIT: Duration = Duration::from_secs(30);

async fn the_log_is_the_audit_trail(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    an_event_tells_who_caused_it_and_how(&daybook).await;
    what_was_refused_is_in_the_log(&daybook).await;
    personal_data_is_opened_for_those_who_may_only(&daybook).await;
    the_history_is_dense_in_every_form(&daybook).await;
}

async fn an_event_tells_who_caused_it_and_how(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let customer = Customer::register(&daybook.client()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let receipt = customer.order(&product.order(1)).header("traceparent", trace).send().await.expect(200);

    let analyst = daybook.login(Role::Analyst).await;
    let stream = format!("order-{}", receipt["id"].as_str().expect("an id"));
    let events = analyst.events(&format!("stream={stream}")).await;
    let [event] = events.as_slice() else { panic!("one event, not {events:?}") };
    let metadata = &event["metadata"];
    assert_eq!(metadata["actor"], customer.account_id.as_str());
    assert_eq!(metadata["command"], "order.place");
    assert_eq!(metadata["command_id"], receipt["command_id"]);
    assert_eq!(metadata["causation_id"], Value::Null);
    assert_eq!(metadata["traceparent"], trace);
    assert!(event["schema_version"].is_u64() && event["id"].is_string(), "{event}");
    assert!(event["recorded_at"].as_str().is_some_and(|time| time.ends_with('Z')), "in UTC: {event}");

    // The same event, however it is asked for.
    assert_eq!(analyst.get(&format!("/v1/events/{}", event["position"])).await.expect(200), *event);
    assert_eq!(analyst.get(&format!("/v1/streams/{stream}")).await.expect(200)["data"], json!([event]));
    // All that one command did has one correlation id, and can be found by it.
    let correlation = metadata["correlation_id"].as_str().expect("a correlation id");
    let found = analyst.events(&format!("correlation_id={correlation}")).await;
    let positions = |events: &[Value]| events.iter().map(|event| event["position"].clone()).collect::<Vec<_>>();
    assert_eq!(positions(&found), positions(receipt["events"].as_array().expect("a receipt has events")));
}

async fn what_was_refused_is_in_the_log(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1).await;
    let customer = Customer::register(&daybook.client()).await;
    let analyst = daybook.login(Role::Analyst).await;

    let receive = json!({"product_id": product.id, "quantity": 1});
    customer.client.command("stock.receive", &receive).send().await.problem(403);
    let denied = refusal(&analyst, &customer, "daybook.command.denied").await;
    assert_eq!(denied["metadata"]["command"], "stock.receive");

    customer.order(&product.order(2)).send().await.problem_code(422, "out_of_stock");
    let rejected = refusal(&analyst, &customer, "daybook.command.rejected").await;
    assert_eq!(rejected["metadata"]["command"], "order.place");
    assert!(rejected["payload"].to_string().contains("\"out_of_stock\""), "{rejected}");

    for event in [denied, rejected] {
        let stream = event["stream"].as_str().expect("a stream");
        assert!(!stream.starts_with("order-") && !stream.starts_with("stock"), "in a stream of its own: {stream}");
    }
}

async fn personal_data_is_opened_for_those_who_may_only(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let customer = Customer::register(&daybook.client()).await;
    let receipt = customer.order(&product.order(1)).send().await.expect(200);
    let path = format!("/v1/events/{}", receipt["events"][0]["position"]);

    // What was opened is kept by nobody on its way.
    let metadata = async |role, kept: &str| {
        let answer = daybook.login(role).await.get(&path).await;
        assert_eq!(answer.header("cache-control"), kept, "{answer}");
        answer.expect(200)["metadata"].clone()
    };
    let sealed = json!({"sealed": true});
    let analyst = metadata(Role::Analyst, "").await;
    assert_eq!(analyst["client"], sealed);
    let admin = metadata(Role::Admin, "no-store").await;
    assert_eq!(admin["client"], json!({"ip": "127.0.0.1", "user_agent": "daybook-tests"}));

    let own = format!("/v1/views/customers/{}?min_position={}", customer.account_id, receipt["position"]);
    let stream = format!("/v1/streams/customer-{}", customer.account_id);
    for path in [&own, &stream, "/v1/views/customers"] {
        let answer = customer.client.request(Method::GET, path).header("prefer", "wait=10").send().await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer}");
    }
    let products = customer.client.get("/v1/views/products").await;
    assert_eq!(products.header("cache-control"), "no-cache", "{products}");

    let history = ndjson(&daybook.login(Role::Analyst).await).await;
    assert!(!history.contains(&customer.email), "the analyst's export holds an e-mail address");
    let everything = ndjson(&daybook.login(Role::Admin).await).await;
    for user in daybook.demo_users() {
        assert!(!everything.contains(&user.password), "a password of {:?} is in the log", user.role);
    }
    assert!(!everything.contains("$argon2"), "a password's hash is in the log");
}

async fn the_history_is_dense_in_every_form(daybook: &Daybook) {
    let analyst = daybook.login(Role::Analyst).await;

    let pages = analyst.events("limit=7").await;
    let positions: Vec<_> = pages.iter().map(|event| event["position"].as_u64().expect("a position")).collect();
    assert_eq!(positions, (1..=positions.len() as u64).collect::<Vec<_>>());
    let times: Vec<_> = pages.iter().map(|event| event["recorded_at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "recorded_at never runs backwards");

    let lines: Vec<Value> = ndjson(&analyst)
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(lines[..pages.len()], pages, "the lines are the pages' events");
}

/// The customer's first event of this type.
async fn refusal(analyst: &Client, customer: &Customer, event_type: &str) -> Value {
    let query = format!("type={event_type}&actor={}", customer.account_id);
    wait_for(event_type, LIMIT, async || analyst.events(&query).await.into_iter().next()).await
}

/// The whole history, one event a line.
async fn ndjson(client: &Client) -> String {
    let request = client.request(Method::GET, "/v1/events").header("accept", "application/x-ndjson");
    let answer = request.send().await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.body
}
