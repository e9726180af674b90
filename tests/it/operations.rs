//! What operators and integrators rely on: the description, the keys, the metrics, the command line, the end.

use std::sync::Arc;
use std::time::Duration;

use daybook_tests::{Backend, Begun, Customer, Daybook, Output, Product, Role, Store, on_both, wait_for};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpStream;

on_both!(it_is_operated_as_documented);

async fn it_is_operated_as_documented(backend: Backend) {
    let store = Arc::new(Store::new(backend).await);
    let mut daybook = Daybook::start(store, &["demo", "--log-format", "json"]).await;
    the_description_lists_everything(&daybook).await;
    the_public_keys_are_public_and_nothing_else(&daybook).await;
    the_metrics_count_what_happens(&daybook).await;
    the_command_line_works_beside_a_running_server(&daybook).await;
    a_request_is_one_line_in_the_log_and_no_secret_is(&daybook).await;
    sigterm_lets_what_was_begun_end(&mut daybook).await;
}

const LIMIT: Duration = Duration::from_secs(30);

async fn the_description_lists_everything(daybook: &Daybook) {
    let description = daybook.client().get("/openapi.json").await.expect(200);
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let operations = [
        ("post", "/v1/commands/customer.update"),
        ("post", "/v1/commands/product.create"),
        ("post", "/v1/commands/stock.receive"),
        ("post", "/v1/commands/order.place"),
        ("post", "/v1/commands/order.confirm"),
        ("post", "/v1/commands/order.cancel"),
        ("get", "/v1/views/products"),
        ("get", "/v1/views/products/{key}"),
        ("get", "/v1/views/stock"),
        ("get", "/v1/views/stock/{key}"),
        ("get", "/v1/views/orders"),
        ("get", "/v1/views/orders/{key}"),
        ("get", "/v1/views/customers"),
        ("get", "/v1/views/customers/{key}"),
        ("get", "/v1/events"),
        ("get", "/v1/events/{position}"),
        ("get", "/v1/streams/{stream}"),
        ("get", "/v1/projections"),
        ("get", "/v1/projections/{name}"),
        ("post", "/v1/projections/{name}/rebuild"),
        ("post", "/v1/projections/{name}/rollback"),
        ("get", "/v1/dead-letters"),
        ("get", "/v1/dead-letters/{projection}/{key}"),
        ("post", "/v1/dead-letters/{projection}/{key}/retry"),
        ("post", "/v1/dead-letters/{projection}/{key}/skip"),
        ("post", "/v1/auth/register"),
        ("post", "/v1/auth/login"),
        ("post", "/v1/auth/refresh"),
        ("post", "/v1/auth/logout"),
        ("get", "/.well-known/jwks.json"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
        ("get", "/openapi.json"),
    ];
    for (method, path) in operations {
        assert!(description["paths"][path][method].is_object(), "{method} {path} is not described");
    }
    // Also of those that this test does not know.
    let paths = description["paths"].as_object().expect("paths");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("a path has methods") {
            let problem = followed(&operation["responses"]["default"], &description);
            let schema = followed(&problem["content"]["application/problem+json"]["schema"], &description);
            assert!(schema["properties"]["code"].is_object(), "{method} {path} has no problem as its default");
            // What operators do about a projection or a document that its address names says nothing more.
            let says_all = ["pause", "resume", "abort", "confirm", "rollback", "retry"];
            let is_act = says_all.iter().any(|act| path.ends_with(&format!("/{act}")));
            assert!(!is_act || operation["requestBody"].is_null(), "{method} {path} takes no body");
            if method == "post" && !is_act {
                let body =
                    followed(&operation["requestBody"]["content"]["application/json"]["schema"], &description);
                let described = body["properties"].as_object().is_some_and(|properties| !properties.is_empty());
                assert!(described, "{method} {path} does not describe its body: {body}");
            }
        }
    }
    assert_no_dangling_references(&description, &description);
}

/// A part of the description, or the one that it refers to.
fn followed<'a>(part: &'a Value, whole: &'a Value) -> &'a Value {
    let reference = part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(part, |pointer| whole.pointer(pointer).unwrap_or(&Value::Null))
}

async fn the_public_keys_are_public_and_nothing_else(daybook: &Daybook) {
    let keys = daybook.client().get("/.well-known/jwks.json").await.expect(200);
    let keys = keys["keys"].as_array().expect("a set of keys");
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
        assert!(key["kid"].is_string() && key["x"].is_string(), "{key}");
        assert!(key.get("d").is_none(), "the private key is published");
    }
}

async fn the_metrics_count_what_happens(daybook: &Daybook) {
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
        "daybook_projection_generation",
        "daybook_projection_rebuild",
        "daybook_projection_dead_letters",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "no {name}:\n{metrics}");
    }
    let placed = |line: &&str| line.starts_with("daybook_commands_total{") && line.contains("\"order.place\"");
    assert!(metrics.lines().filter(placed).count() >= 2, "order.place by outcome:\n{metrics}");
}

async fn the_command_line_works_beside_a_running_server(daybook: &Daybook) {
    let status = json_of(&daybook.cli(&["status", "--json"]));
    assert!(status["log"]["position"].as_u64().is_some_and(|position| position > 0), "{status}");

    let shown = json_of(&daybook.cli(&["events", "show", "1", "--json"]));
    assert_eq!(shown["position"], 1);
    let tail = succeeded(&daybook.cli(&["events", "tail", "--json"]));
    let lines: Vec<Value> =
        tail.lines().map(|line| serde_json::from_str(line).expect("one event a line")).collect();
    let line = tail.lines().last().expect("there are events");
    let position = lines.last().expect("there are events")["position"].to_string();
    let shown = succeeded(&daybook.cli(&["events", "show", &position, "--json"]));
    assert_eq!(shown.trim_end_matches('\n'), line, "the event's line, to the byte");
    let schemas = json_of(&daybook.cli(&["events", "schema"]));
    for event in &lines {
        let name = format!("{}.v{}", event["type"].as_str().expect("a type"), event["schema_version"]);
        let properties = schemas[&name]["properties"].as_object().unwrap_or_else(|| panic!("no schema {name}"));
        let fields = event["payload"].as_object().expect("an object");
        assert!(fields.keys().all(|field| properties.contains_key(field)), "{event} {properties:?}");
    }

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

async fn a_request_is_one_line_in_the_log_and_no_secret_is(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1).await;
    let anyone = daybook.client();
    let (email, password) = ("quiet@test.example", "nobody-ever-hears-this");
    let account = json!({"email": email, "password": password, "name": "Someone Quiet"});
    let account_id = anyone.post("/v1/auth/register", &account).await.expect(201)["account_id"].clone();
    let credentials = json!({"email": email, "password": password});
    let tokens = anyone.post("/v1/auth/login", &credentials).await.expect(200);
    let token = |name: &str| tokens[name].as_str().expect("a token").to_owned();
    let (access, refresh) = (token("access_token"), token("refresh_token"));

    let customer = anyone.with_token(&access);
    let order = |line: &str| customer.command("order.place", &product.order(1)).header("x-correlation-id", line);
    order("the-order").send().await.expect(200);
    order("the-refused-order").send().await.problem_code(422, "out_of_stock");
    // What goes wrong is not written down in more words than what goes right.
    let wrong = json!({"email": email, "password": password, "remember": true});
    anyone.post("/v1/auth/login", &wrong).await.problem(400);
    anyone.with_token(format!("{access}x")).get("/v1/views/orders").await.problem(401);
    let renewed = anyone.post("/v1/auth/refresh", &json!({"refresh_token": refresh})).await.expect(200);
    anyone.post("/v1/auth/refresh", &json!({"refresh_token": refresh})).await.problem(401);
    anyone
        .request(reqwest::Method::GET, "/health/live")
        .header("x-correlation-id", "the-last")
        .send()
        .await
        .expect(200);

    let log = daybook.logged("\"the-last\"").await;
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    for (correlation_id, status, outcome) in [("the-order", 200, "ok"), ("the-refused-order", 422, "out_of_stock")]
    {
        let found: Vec<_> = lines.iter().filter(|line| line["correlation_id"] == correlation_id).collect();
        let [line] = found.as_slice() else { panic!("one line of {correlation_id}, not {found:?}") };
        assert_eq!((&line["client_ip"], &line["actor"]), (&json!("127.0.0.1"), &account_id), "{line}");
        assert_eq!((&line["method"], &line["route"]), (&json!("POST"), &json!("/v1/commands/{name}")), "{line}");
        assert_eq!((&line["status"], &line["outcome"]), (&json!(status), &json!(outcome)), "{line}");
        assert!(line["duration_ms"].as_f64().is_some_and(|duration_ms| duration_ms > 0.0), "{line}");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "in UTC: {line}");
    }
    let mut secrets = vec![email.to_owned(), password.to_owned(), "Someone Quiet".to_owned(), access, refresh];
    secrets
        .extend(["access_token", "refresh_token"].map(|name| renewed[name].as_str().expect("a token").to_owned()));
    secrets.extend(daybook.demo_users().into_iter().flat_map(|user| [user.email, user.password]));
    for secret in secrets {
        let told: Vec<_> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(told.is_empty(), "{secret} is in the log: {told:?}");
    }
}

async fn sigterm_lets_what_was_begun_end(daybook: &mut Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let mut customer = Customer::register(&daybook.client()).await;

    let body = product.order(1);
    let begun = join_all((0..4).map(|_| customer.client.begin("order.place", &body))).await;
    let idle = customer.client.keeping_its_connection();
    idle.get("/health/ready").await.expect(200);
    daybook.ask_to_end();
    let address = customer.client.base_url().strip_prefix("http://").expect("without TLS");
    let refused = async || TcpStream::connect(address).await.is_err().then_some(());
    wait_for("connections to be refused", LIMIT, refused).await;
    // Whoever has one may use it once more.
    let last = idle.get("/health/ready").await;
    last.problem_code(503, "not_ready");
    assert_eq!(last.header("connection"), "close", "{last}");
    let answers = join_all(begun.into_iter().map(Begun::finish)).await;
    let receipts: Vec<_> = answers.iter().map(|answer| answer.expect(200)).collect();
    let status = daybook.ended().await;
    assert!(status.success(), "SIGTERM ends with {status}");

    daybook.restart().await;
    customer.client = daybook.known_to(&customer.client);
    let analyst = daybook.login(Role::Analyst).await;
    let placed = analyst.events(&format!("type=order.placed&actor={}", customer.account_id)).await;
    assert_eq!(placed.len(), receipts.len(), "{placed:?}");
    for receipt in &receipts {
        assert!(placed.iter().any(|event| event["metadata"]["command_id"] == receipt["command_id"]), "{receipt}");
        customer.client.order(receipt).await.expect(200);
    }
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
