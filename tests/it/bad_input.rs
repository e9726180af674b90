//! Bad input gets a problem document, never a 500, and never half an order.

use daybook_tests::{Answer, Backend, Client, Customer, Daybook, Product, Role, on_both};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

on_both!(bad_input_gets_a_problem_document);

/// All on one server: none of it may leave a trace that the next could stumble over.
async fn bad_input_gets_a_problem_document(backend: Backend) {
    let shop = Shop::open(backend).await;
    a_body_of_the_wrong_shape_is_400(&shop).await;
    a_value_out_of_range_is_422(&shop).await;
    who_may_not_is_told_so(&shop).await;
    what_does_not_exist_is_404(&shop).await;
    what_http_does_not_allow_is_told_so(&shop).await;
    a_stale_if_match_is_412(&shop).await;
    a_dry_run_shows_what_would_be(&shop).await;
    a_view_that_is_not_there_yet_is_503(&shop).await;
    shop.assert_no_orders().await;
}

async fn a_body_of_the_wrong_shape_is_400(shop: &Shop) {
    let product = &shop.product.id;
    let line = |rest: &str| format!(r#"{{"lines": [{{"product_id": "{product}", {rest}}}]}}"#);
    let cases: &[(&str, String, &str)] = &[
        ("no body", String::new(), ""),
        ("no JSON", "lines: 1".into(), ""),
        ("half a body", r#"{"lines": ["#.into(), ""),
        ("more than a body", format!("{} {{}}", shop.product.order(1)), ""),
        ("another type", "[]".into(), ""),
        ("a missing field", "{}".into(), ""),
        ("an unknown field", r#"{"lines": [], "total": {"amount": 1}}"#.into(), "total"),
        ("an unknown field in a line", line(r#""quantity": 1, "price": 1"#), "lines[0].price"),
        ("a field twice", line(r#""quantity": 1, "quantity": 2"#), "lines[0].quantity"),
        ("a field missing", "{}".into(), "lines"),
        ("a field missing in a line", r#"{"lines": [{"quantity": 1}]}"#.into(), "lines[0].product_id"),
        (
            "an array for an object",
            r#"{"lines": [["00000000-0000-0000-0000-000000000001", 1]]}"#.into(),
            "lines[0]",
        ),
        ("a text for a number", line(r#""quantity": "1""#), "lines[0].quantity"),
        ("null for a number", line(r#""quantity": null"#), "lines[0].quantity"),
        ("a fraction", line(r#""quantity": 1.5"#), "lines[0].quantity"),
        ("a number too large", line(r#""quantity": 9223372036854775808"#), "lines[0].quantity"),
        ("a number too small", line(r#""quantity": -9223372036854775809"#), "lines[0].quantity"),
        ("a number for a list", r#"{"lines": 1}"#.into(), "lines"),
        ("no id", r#"{"lines": [{"product_id": "x", "quantity": 1}]}"#.into(), "lines[0].product_id"),
        ("an id with U+0000", r#"{"lines": [], "order_id": "\u0000"}"#.into(), ""),
        ("depth", "[".repeat(10_000), ""),
    ];
    for (what, body, field) in cases {
        let answer = shop.post_raw(&shop.customer.client, "/v1/commands/order.place", body).await;
        assert_refused(&answer, 400, field, what);
    }
    let account = json!({"email": "x@test.example", "password": "three-lions", "name": "X", "role": "admin"});
    assert_refused(&shop.anyone.post("/v1/auth/register", &account).await, 400, "role", "a role of one's choice");
    let login = json!({"email": "x@test.example"});
    assert_refused(&shop.anyone.post("/v1/auth/login", &login).await, 400, "", "no password");
    for query in ["limit=many", "limit=0", "limit=101", "cursor=made-up", "colour=red"] {
        assert_refused(&shop.anyone.get(&format!("/v1/views/products?{query}")).await, 400, "", query);
    }
    for query in ["type=%00", "actor=a%00", "since=-5000-01-01T00:00:00Z", "until=%2B10000-01-01T00:00:00Z"] {
        assert_refused(&shop.analyst.get(&format!("/v1/events?{query}")).await, 400, "", query);
    }
}

async fn a_value_out_of_range_is_422(shop: &Shop) {
    let order = |quantity: i64| shop.product.order(quantity);
    let product = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({
            "sku": "TEST-1", "name": "A product", "category": "Tests",
            "price": {"amount": 100, "currency": "EUR"}, "tax_category": "standard",
        });
        change(&mut body);
        body
    };
    let customer = &shop.customer.client;
    let cases: &[(&Client, &str, Value, &str)] = &[
        (customer, "order.place", json!({"lines": []}), "lines"),
        (customer, "order.place", order(0), "lines[0].quantity"),
        (customer, "order.place", order(-1), "lines[0].quantity"),
        (customer, "order.place", order(i64::MIN), "lines[0].quantity"),
        (customer, "order.place", order(i64::MAX), "lines[0].quantity"),
        (&shop.staff, "stock.receive", json!({"product_id": shop.product.id, "quantity": 0}), "quantity"),
        (&shop.staff, "stock.receive", json!({"product_id": shop.product.id, "quantity": -5}), "quantity"),
        (&shop.staff, "product.create", product(&|body| body["price"]["amount"] = json!(-1)), "price.amount"),
        (&shop.staff, "product.create", product(&|body| body["sku"] = json!("")), "sku"),
        (&shop.staff, "product.create", product(&|body| body["name"] = json!("")), "name"),
        (&shop.staff, "product.create", product(&|body| body["name"] = json!("x".repeat(10_000))), "name"),
    ];
    for (client, command, body, field) in cases {
        let answer = client.command(command, body).send().await;
        assert_refused(&answer, 422, field, &format!("{command} {field}"));
    }
    let account =
        |email: &str, password: &str, name: &str| json!({"email": email, "password": password, "name": name});
    let cases = [
        (account("no-address", "three-lions-on-a-hill", "X"), "email"),
        (account("x@test.example", "short", "X"), "password"),
        (account("x@test.example", &"long".repeat(40), "X"), "password"),
        (account("x@test.example", "password", "X"), "password"),
        (account("x@test.example", "three-lions-on-a-hill", ""), "name"),
    ];
    for (body, field) in cases {
        assert_refused(&shop.anyone.post("/v1/auth/register", &body).await, 422, field, &body.to_string());
    }
}

async fn who_may_not_is_told_so(shop: &Shop) {
    let order = shop.product.order(1);
    let user = shop.daybook.demo_users().remove(0);

    for token in ["", "x", "a.b.c", UNSIGNED] {
        shop.anyone.with_token(token).command("order.place", &order).send().await.problem(401);
        // Even where none is needed, and whatever else is wrong.
        shop.anyone.with_token(token).get("/v1/views/products").await.problem(401);
    }
    let refused = shop.anyone.command("order.place", &order).send().await;
    refused.problem(401);
    assert!(refused.header("www-authenticate").starts_with("Bearer"), "{:?}", refused.headers);
    shop.post_raw(&shop.anyone, "/v1/commands/order.place", "{").await.problem(401);
    shop.anyone.command("order.place", &order).idempotency_key("").send().await.problem(401);
    shop.anyone.get("/v1/events").await.problem(401);
    shop.anyone.get("/v1/views/orders").await.problem(401);
    let basic = shop.anyone.request(Method::GET, "/v1/views/orders").header("authorization", "Basic eDp4");
    basic.send().await.problem(401);

    // The same answer for a wrong password and for an account that is not there.
    let wrong = json!({"email": user.email, "password": "not-the-password"});
    let unknown = json!({"email": "nobody@test.example", "password": "not-the-password"});
    let wrong = shop.anyone.post("/v1/auth/login", &wrong).await.problem(401);
    let unknown = shop.anyone.post("/v1/auth/login", &unknown).await.problem(401);
    assert_eq!((&wrong["code"], &wrong["detail"]), (&unknown["code"], &unknown["detail"]));

    let customer = &shop.customer.client;
    let receive = json!({"product_id": shop.product.id, "quantity": 1});
    customer.command("stock.receive", &receive).send().await.problem(403);
    customer.get("/v1/events").await.problem(403);
    // The shape comes before the permission.
    shop.post_raw(customer, "/v1/commands/stock.receive", "{").await.problem(400);
}

async fn what_does_not_exist_is_404(shop: &Shop) {
    let stranger = Customer::register(&shop.anyone).await;
    let placed = stranger.order(&shop.product.order(1)).send().await.expect(200);
    stranger.client.order(&placed).await.expect(200);
    let anothers = placed["id"].as_str().expect("an id");
    let nobodys = Uuid::now_v7().to_string();
    let customer = &shop.customer.client;

    customer.command("order.fly", &json!({})).send().await.problem(404);
    customer.get("/v1/views/nothing").await.problem(404);
    customer.get("/v1/views/nothing/1").await.problem(404);
    customer.get("/v1/nothing").await.problem(404);
    customer.get("/").await.problem(404);
    shop.anyone.get(&format!("/v1/views/products/{nobodys}")).await.problem(404);
    shop.anyone.get("/v1/views/products/%00").await.problem(404);
    shop.analyst.get("/v1/events/999999999").await.problem(404);
    shop.analyst.get(&format!("/v1/streams/order-{nobodys}")).await.problem(404);

    // Another's order cannot be told from one that does not exist.
    for id in [anothers, &nobodys] {
        customer.get(&format!("/v1/views/orders/{id}")).await.problem_code(404, "not_found");
        customer.command("order.cancel", &json!({"order_id": id})).send().await.problem_code(404, "not_found");
    }
    assert_eq!(customer.get("/v1/views/orders").await.expect(200)["data"], json!([]));
    assert_eq!(stranger.client.order(&placed).await.expect(200)["data"]["status"], "placed");
}

async fn what_http_does_not_allow_is_told_so(shop: &Shop) {
    let customer = &shop.customer.client;
    let path = "/v1/commands/order.place";
    let order = shop.product.order(1).to_string();

    let large = format!("{order}{}", " ".repeat(100_000));
    shop.post_raw(customer, path, &large).await.problem(413);
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""] {
        let request = customer.request(Method::POST, path).header("content-type", content_type);
        request.body(order.clone()).send().await.problem(415);
    }
    customer.request(Method::POST, path).body(order.clone()).send().await.problem(415);

    let cases = [
        (Method::GET, path, "POST"),
        (Method::PUT, path, "POST"),
        (Method::DELETE, "/v1/views/products", "GET"),
        (Method::POST, "/v1/events", "GET"),
        (Method::GET, "/v1/auth/login", "POST"),
        (Method::POST, "/health/live", "GET"),
    ];
    for (method, path, allowed) in cases {
        let answer = customer.request(method, path).send().await;
        answer.problem(405);
        assert!(answer.header("allow").contains(allowed), "{answer} {:?}", answer.headers);
    }
}

async fn a_stale_if_match_is_412(shop: &Shop) {
    let customer = Customer::register(&shop.anyone).await;
    let client = &customer.client;
    let placed = customer.order(&shop.product.order(1)).send().await.expect(200);
    let cancel = json!({"order_id": placed["id"]});
    let cancel = |if_match: &str| client.command("order.cancel", &cancel).header("if-match", if_match);

    cancel("\"7\"").send().await.problem(412);
    cancel("\"0\"").send().await.problem(412);
    cancel("one").send().await.problem(400);
    assert_eq!(client.order(&placed).await.expect(200)["data"]["status"], "placed");
    cancel("\"1\"").send().await.expect(200);
}

async fn a_dry_run_shows_what_would_be(shop: &Shop) {
    let customer = Customer::register(&shop.anyone).await;
    let (client, order) = (&customer.client, shop.product.order(1));
    let preview = client.request(Method::POST, "/v1/commands/order.place?dry_run=true").json(&order).send().await;
    let preview = preview.expect(200);
    assert_eq!(preview["events"][0]["type"], "order.placed", "{preview}");
    assert_eq!(preview["events"][0]["payload"]["lines"][0]["quantity"], 1, "{preview}");
    let maybe = client.request(Method::POST, "/v1/commands/order.place?dry_run=maybe").json(&order).send().await;
    maybe.problem_code(400, "invalid_parameter");
}

async fn a_view_that_is_not_there_yet_is_503(shop: &Shop) {
    for wait in ["", "wait=1"] {
        let path = "/v1/views/products?min_position=999999999";
        let answer = shop.anyone.request(Method::GET, path).header("prefer", wait).send().await;
        let problem = answer.problem_code(503, "not_yet");
        assert!(problem["position"].as_u64().is_some_and(|position| position > 0), "how far it is: {answer}");
        assert!(answer.header("retry-after").parse::<u32>().is_ok(), "when to ask again: {:?}", answer.headers);
    }
}

/// `{"alg":"none"}.{"sub":"x"}.`
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.";

/// A running shop with one product in stock and somebody of each kind.
struct Shop {
    daybook: Daybook,
    anyone: Client,
    customer: Customer,
    staff: Client,
    analyst: Client,
    product: Product,
}

impl Shop {
    async fn open(backend: Backend) -> Self {
        let daybook = Daybook::demo(backend).await;
        let anyone = daybook.client();
        let staff = daybook.login(Role::Staff).await;
        let analyst = daybook.login(Role::Analyst).await;
        let product = Product::create(&staff, 100, 10).await;
        Self { customer: Customer::register(&anyone).await, daybook, anyone, staff, analyst, product }
    }

    async fn post_raw(&self, client: &Client, path: &str, body: &str) -> Answer {
        client.request(Method::POST, path).header("content-type", "application/json").body(body).send().await
    }

    /// Nothing that was refused left an order behind, and the server has not stumbled.
    async fn assert_no_orders(&self) {
        let query = format!("type=order.placed&actor={}", self.customer.account_id);
        assert_eq!(self.analyst.events(&query).await, Vec::<Value>::new());
        assert_eq!(self.anyone.get("/health/ready").await.status, 200);
    }
}

/// Checks the problem document, and that it names `field` (when not empty).
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, field: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer}");
    let problem = answer.problem(status);
    if !field.is_empty() {
        let named = problem["errors"].as_array().is_some_and(|errors| errors.iter().any(|e| e["field"] == field));
        assert!(named, "{what}: `{field}` is not named: {answer}");
    }
}
