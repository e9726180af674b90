//! Lists are filtered, sorted and cut as asked, on declared fields alone; and whoever has an answer is told so.

use std::cmp::Ordering;

use daybook_tests::{Answer, Backend, Client, Customer, Daybook, Product, Role, on_both};
use reqwest::Method;
use serde_json::{Value, json};

on_both!(queries_are_answered_as_documented);

/// All on one server, with what the demonstration was seeded with.
async fn queries_are_answered_as_documented(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    lists_are_what_a_plain_filter_and_sort_are(&daybook).await;
    one_sees_ones_own_in_every_order(&daybook).await;
    a_cursor_is_of_its_list_alone(&daybook).await;
    sparse_documents_open_nothing_that_is_not_in_them(&daybook).await;
    what_no_index_serves_is_400(&daybook).await;
    who_has_an_answer_is_told_so(&daybook).await;
    a_forgotten_persons_document_has_another_tag(&daybook).await;
    heads_are_answered(&daybook).await;
    each_list_describes_its_own_parameters(&daybook).await;
}

/// All documents of a list, page by page.
async fn walk(client: &Client, view: &str, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/views/{view}?{query}&limit={limit}{cursor}")).await.expect(200);
        let data = page["data"].as_array().expect("documents");
        all.extend(data.iter().cloned());
        match page["next"].as_str() {
            None => return all,
            Some(next) => cursor = format!("&cursor={next}"),
        }
        assert_eq!(data.len(), limit, "only the last page is short: {query}");
    }
}

fn by<'a, T: Ord>(of: impl Fn(&'a Value) -> T) -> impl Fn(&&'a Value, &&'a Value) -> Ordering {
    move |a, b| of(a).cmp(&of(b))
}

async fn lists_are_what_a_plain_filter_and_sort_are(daybook: &Daybook) {
    let (anyone, staff) = (daybook.client(), daybook.login(Role::Staff).await);
    let orders = walk(&staff, "orders", "", 100).await;
    let products = walk(&anyone, "products", "", 100).await;
    let status = |order: &Value| order["status"].as_str().expect("a text").to_owned();
    let total = |order: &Value| order["total"]["amount"].as_i64().expect("a number");
    let placed = |order: &Value| order["placed_at"].as_str().expect("a time").to_owned();
    let id = |order: &Value| order["order_id"].as_str().expect("an id").to_owned();

    let middle = placed(&orders[orders.len() / 2]);
    // The same time, elsewhere in the world.
    let elsewhere = format!("{}T%s+00:00", &middle[..10]).replace("%s", &middle[11..26]).replace('+', "%2B");
    let mut newest: Vec<_> = orders.iter().filter(|order| status(order) == "placed").collect();
    newest.sort_by(by(|order| std::cmp::Reverse((placed(order), id(order)))));
    assert!(newest.len() > 3, "the demonstration has placed orders");
    let mut cheap: Vec<_> = orders.iter().filter(|order| (1_000..9_000).contains(&total(order))).collect();
    cheap.sort_by(by(|order| (total(order), id(order))));
    let mut early: Vec<_> = orders.iter().filter(|order| placed(order) < middle).collect();
    early.sort_by(by(id));
    let mut either: Vec<_> = orders.iter().filter(|order| status(order) != "placed").collect();
    either.sort_by(by(|order| (status(order), id(order))));
    for (query, expected) in [
        ("status=placed&sort=-placed_at".to_owned(), newest),
        ("total.gte=1000&total.lt=9000&sort=total".to_owned(), cheap),
        (format!("placed_at.lt={elsewhere}"), early),
        ("status.in=confirmed,cancelled&sort=status".to_owned(), either),
    ] {
        assert_eq!(walk(&staff, "orders", &query, 3).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }

    let category = products[0]["category"].as_str().expect("a text").to_owned();
    let mut in_it: Vec<_> = products.iter().filter(|product| product["category"] == category).collect();
    in_it.sort_by(by(|product| {
        let price = product["price"]["amount"].as_i64().expect("a number");
        std::cmp::Reverse((price, product["product_id"].to_string()))
    }));
    let category = category.replace(' ', "%20").replace('&', "%26");
    let found = walk(&anyone, "products", &format!("category={category}&sort=-price"), 2).await;
    assert_eq!(found.iter().collect::<Vec<_>>(), in_it);
    let low = walk(&anyone, "stock", "sort=available", 7).await;
    let available: Vec<_> = low.iter().map(|stock| stock["available"].as_i64().expect("a number")).collect();
    assert!(available.is_sorted() && available.len() == products.len(), "{available:?}");
}

async fn one_sees_ones_own_in_every_order(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 50).await;
    let [customer, other] =
        [Customer::register(&daybook.client()).await, Customer::register(&daybook.client()).await];
    let mut placed = Vec::new();
    for quantity in 1..=5 {
        let receipt = customer.order(&product.order(quantity)).send().await.expect(200);
        placed.push(receipt["id"].as_str().expect("an id").to_owned());
        let last = other.order(&product.order(quantity)).send().await.expect(200);
        other.client.order(&last).await.expect(200);
    }
    let ids = async |query: &str| {
        let found = walk(&customer.client, "orders", query, 2).await;
        found.into_iter().map(|order| order["order_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("sort=total").await, placed);
    placed.reverse();
    assert_eq!(ids("sort=-placed_at").await, placed);
    assert_eq!(ids("status=placed&sort=-placed_at").await, placed);
    assert_eq!(ids(&format!("customer_id={}&sort=-placed_at", customer.account_id)).await, placed);
    // Whatever is asked, another's are not there.
    assert!(ids(&format!("customer_id={}", other.account_id)).await.is_empty());
    assert!(ids(&format!("customer_id.in={},x", other.account_id)).await.is_empty());
}

async fn a_cursor_is_of_its_list_alone(daybook: &Daybook) {
    let (anyone, staff) = (daybook.client(), daybook.login(Role::Staff).await);
    let query = "status=placed&sort=-placed_at";
    let page = staff.get(&format!("/v1/views/orders?{query}&limit=1")).await.expect(200);
    let cursor = page["next"].as_str().expect("there are more").to_owned();
    let again = format!("/v1/views/orders?sort=-placed_at&status=placed&limit=3&fields=order_id&cursor={cursor}");
    assert_eq!(staff.get(&again).await.expect(200)["data"].as_array().map(Vec::len), Some(3));
    for other in [
        "orders?sort=-placed_at",
        "orders?status=placed&sort=placed_at",
        "orders?status=confirmed&sort=-placed_at",
        "orders?status.in=placed&sort=-placed_at",
        "orders?status=placed",
        "products?sort=-price",
    ] {
        let refused = staff.get(&format!("/v1/views/{other}&cursor={cursor}")).await.problem(400);
        assert_eq!(refused["field"], "cursor", "{other}");
    }
    let own =
        Customer::register(&anyone).await.client.get(&format!("/v1/views/orders?{query}&cursor={cursor}")).await;
    own.problem(400);
    let mut forged = cursor.into_bytes();
    let last = forged.len() - 1;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    staff.get(&format!("/v1/views/orders?{query}&cursor={forged}")).await.problem(400);
}

async fn sparse_documents_open_nothing_that_is_not_in_them(daybook: &Daybook) {
    let (staff, analyst) = (daybook.login(Role::Staff).await, daybook.login(Role::Analyst).await);
    let openings = async || analyst.events("type=daybook.personal.opened").await.len();
    let before = openings().await;
    let answer = staff.get("/v1/views/customers?fields=orders_placed,customer_id&limit=3").await;
    for customer in answer.expect(200)["data"].as_array().expect("documents") {
        let names: Vec<_> = customer.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["customer_id", "orders_placed"]);
    }
    assert!(answer.body.contains(r#"{"orders_placed":"#), "in the order that was asked for: {answer}");
    assert_eq!(answer.header("cache-control"), "private, no-cache");
    let id = answer.json()["data"][0]["customer_id"].as_str().expect("an id").to_owned();
    let one = staff.get(&format!("/v1/views/customers/{id}?fields=forgotten")).await.expect(200);
    assert_eq!(one["data"], json!({"forgotten": false}));
    assert_eq!(openings().await, before, "nothing was opened");
    let answer = staff.get(&format!("/v1/views/customers/{id}?fields=email")).await;
    assert!(answer.expect(200)["data"]["email"].is_string());
    assert_eq!((answer.header("cache-control"), openings().await), ("no-store", before + 1));
}

async fn what_no_index_serves_is_400(daybook: &Daybook) {
    let staff = daybook.login(Role::Staff).await;
    for (view, query, parameter, says) in [
        ("orders", "colour=red", "colour", "`customer_id`, `status`, `total`, `placed_at`"),
        ("orders", "lines=1", "lines", "`sort`, `fields`, `limit`, `cursor`"),
        ("orders", "status.ne=placed", "status.ne", "`status.in`"),
        ("orders", "total=many", "total", "whole number"),
        ("orders", "total.gte=1.5", "total.gte", "whole number"),
        ("orders", "total.gte=1&total.gte=2", "total.gte", "once"),
        ("orders", "placed_at.lt=yesterday", "placed_at.lt", "RFC 3339"),
        ("orders", "placed_at.lt=2026-01-31T09:15:00+01:00", "placed_at.lt", "`%2B`"),
        ("orders", "sort=colour", "sort", "`placed_at`"),
        ("orders", "sort=-total&sort=status", "sort", "one field"),
        ("orders", "fields=colour", "fields", "`order_id`"),
        ("orders", "fields=", "fields", "`order_id`"),
        ("orders", "status.in=a,b,c,d,e,f,g,h,i,j,k", "status.in", "10 values"),
        ("customers", "forgotten=maybe", "forgotten", "`true` or `false`"),
        ("customers", "email=x@test.example", "email", "personal"),
        ("customers", "sort=name", "sort", "personal"),
        ("orders", "limit=0", "limit", "1 to 100"),
    ] {
        let problem = staff.get(&format!("/v1/views/{view}?{query}")).await.problem_code(400, "invalid_parameter");
        assert_eq!(problem["field"], parameter, "{query}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{query}: {problem}");
    }
    staff.get("/v1/views/orders?status=%00").await.problem(400);
    staff.get("/v1/views/orders/x?status=placed").await.problem(400);
    staff.get("/v1/views/orders/x?fields=colour").await.problem(400);
}

async fn again(client: &Client, path: &str, tag: &str) -> Answer {
    client.request(Method::GET, path).header("if-none-match", tag).send().await
}

async fn who_has_an_answer_is_told_so(daybook: &Daybook) {
    let (anyone, staff) = (daybook.client(), daybook.login(Role::Staff).await);
    let product = Product::create(&staff, 100, 1).await;
    let customer = Customer::register(&anyone).await;
    let receipt = staff.receipt("stock.receive", &json!({"product_id": product.id, "quantity": 1})).await;
    anyone.fresh("stock", &product.id, &receipt).await.expect(200);

    let one = format!("/v1/views/stock/{}", product.id);
    for path in [one.as_str(), "/v1/views/stock?sort=-available&limit=3"] {
        let first = anyone.get(path).await;
        first.expect(200);
        assert_eq!(first.header("cache-control"), "no-cache");
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        let same = again(&anyone, path, &format!("\"other\", {tag}")).await;
        assert_eq!((same.status, same.body.as_str()), (304, ""));
        assert_eq!((same.header("etag"), same.header("cache-control")), (tag.as_str(), "no-cache"));
        again(&anyone, path, "W/\"other\"").await.expect(200);
    }
    // Something else that happens does not change it, and what happens to it does.
    let tag = anyone.get(&one).await.header("etag").to_owned();
    let elsewhere = Product::create(&staff, 100, 0).await;
    let path = format!(
        "{one}?min_position={}",
        staff.receipt("stock.receive", &json!({"product_id": elsewhere.id, "quantity": 1})).await["position"]
    );
    let waiting = anyone.request(Method::GET, &path).header("prefer", "wait=10").header("if-none-match", &tag);
    assert_eq!(waiting.send().await.status, 304);
    let order = customer.order(&product.order(1)).send().await.expect(200);
    let path = format!("{one}?min_position={}", order["position"]);
    let waiting = anyone.request(Method::GET, &path).header("prefer", "wait=10").header("if-none-match", &tag);
    assert_eq!(waiting.send().await.expect(200)["data"]["allocated"], 1);
    // One's own, which others have no tag of.
    let own = format!("/v1/views/orders/{}", order["id"].as_str().expect("an id"));
    customer.client.order(&order).await.expect(200);
    let mine = customer.client.get(&own).await;
    assert_eq!(mine.header("cache-control"), "private, no-cache");
    assert_eq!(again(&customer.client, &own, mine.header("etag")).await.status, 304);
    let stranger = Customer::register(&anyone).await.client;
    again(&stranger, &own, mine.header("etag")).await.problem(404);
    again(&anyone, &own, mine.header("etag")).await.problem(401);
}

async fn a_forgotten_persons_document_has_another_tag(daybook: &Daybook) {
    let (staff, analyst) = (daybook.login(Role::Staff).await, daybook.login(Role::Analyst).await);
    let admin = daybook.login(Role::Admin).await;
    let customer = Customer::register(&daybook.client()).await;
    let receipt = customer.client.receipt("customer.update", &json!({"phone": "+44 7700 900111"})).await;
    customer.client.fresh("customers", &customer.account_id, &receipt).await.expect(200);
    let path = format!("/v1/views/customers/{}?fields=customer_id,name,phone", customer.account_id);
    let list = format!("/v1/views/customers?customer_id={}&fields=phone", customer.account_id);
    let seen = [staff.get(&path).await, staff.get(&list).await];
    let openings = async || analyst.events("type=daybook.personal.opened").await.len();
    let before = openings().await;
    for (path, seen) in [&path, &list].into_iter().zip(&seen) {
        assert_eq!(seen.header("cache-control"), "no-store");
        let same = again(&staff, path, seen.header("etag")).await;
        assert_eq!((same.status, same.header("cache-control")), (304, "no-store"));
    }
    assert_eq!(openings().await, before, "who is told that it is the same has opened nothing");

    let forgotten = admin.receipt("customer.forget", &json!({"customer_id": customer.account_id})).await;
    admin.fresh("customers", &customer.account_id, &forgotten).await.expect(200);
    let erased = json!({"erased": true});
    let one = again(&staff, &path, seen[0].header("etag")).await;
    let data = &one.expect(200)["data"];
    assert_eq!((&data["name"], &data["phone"]), (&erased, &erased));
    assert_eq!(one.header("cache-control"), "private, no-cache");
    assert_ne!(one.header("etag"), seen[0].header("etag"));
    let all = again(&staff, &list, seen[1].header("etag")).await;
    assert_eq!(all.expect(200)["data"][0]["phone"], erased);
}

async fn heads_are_answered(daybook: &Daybook) {
    let anyone = daybook.client();
    for path in ["/v1/views/products?limit=2", "/health/live", "/openapi.json"] {
        let (head, get) = (anyone.request(Method::HEAD, path).send().await, anyone.get(path).await);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("etag"), get.header("etag"), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    assert_eq!(anyone.request(Method::HEAD, "/v1/views/orders").send().await.status, 401);
    assert_eq!(anyone.request(Method::HEAD, "/v1/commands/order.place").send().await.status, 405);
    let analyst = daybook.login(Role::Analyst).await;
    let export = analyst.request(Method::HEAD, "/v1/events").header("accept", "application/x-ndjson").send().await;
    assert_eq!((export.status, export.header("content-type")), (200, "application/x-ndjson"));
}

async fn each_list_describes_its_own_parameters(daybook: &Daybook) {
    let description = daybook.client().get("/openapi.json").await.expect(200);
    let parameters =
        |path: &str| description["paths"][path]["get"]["parameters"].as_array().expect("parameters").clone();
    let names = |path: &str| {
        let parameters = parameters(path).into_iter().filter(|parameter| parameter["in"] == "query");
        parameters.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let compared =
        |field: &str| ["", ".in", ".gt", ".gte", ".lt", ".lte"].map(|suffix| format!("{field}{suffix}"));
    let mut orders = ["customer_id", "status", "total", "placed_at"].map(compared).concat();
    orders.extend(["sort", "limit", "cursor", "fields", "min_position"].map(str::to_owned));
    assert_eq!(names("/v1/views/orders"), orders);
    assert_eq!(names("/v1/views/orders/{key}"), ["fields", "at", "min_position"]);
    assert!(names("/v1/views/customers").iter().any(|name| name == "forgotten"));
    assert!(!names("/v1/views/customers").iter().any(|name| name == "forgotten.gt" || name.starts_with("email")));

    let orders = parameters("/v1/views/orders");
    let schema = |name: &str| {
        let found = orders.iter().find(|parameter| parameter["name"] == name);
        found.unwrap_or_else(|| panic!("no `{name}`"))["schema"].clone()
    };
    assert_eq!(schema("placed_at.lt"), json!({"type": "string", "format": "date-time"}));
    assert_eq!(schema("total.gte"), json!({"type": "integer", "format": "int64"}));
    assert_eq!(schema("status.in")["items"], json!({"type": "string"}));
    let sorts =
        ["customer_id", "status", "total", "placed_at"].map(|name| [name.to_owned(), format!("-{name}")]).concat();
    assert_eq!(schema("sort")["enum"], json!(sorts));
    assert!(schema("fields")["items"]["enum"].as_array().is_some_and(|names| names.contains(&json!("lines"))));
    // Each of them is understood.
    let staff = daybook.login(Role::Staff).await;
    for parameter in orders.iter().filter(|parameter| parameter["in"] == "query") {
        let name = parameter["name"].as_str().expect("a name");
        let schema = if parameter["schema"]["type"] == "array" {
            &parameter["schema"]["items"]
        } else {
            &parameter["schema"]
        };
        let value = match (name, schema["type"].as_str(), schema["format"].as_str()) {
            ("cursor", ..) => continue,
            (_, Some("integer"), _) => "1".to_owned(),
            (_, _, Some("date-time")) => "2026-01-31T09:15:00Z".to_owned(),
            _ => schema["enum"][0].as_str().unwrap_or("x").to_owned(),
        };
        staff.get(&format!("/v1/views/orders?{name}={value}")).await.expect(200);
    }
    let answers = &description["paths"]["/v1/views/orders"]["get"]["responses"];
    assert!(answers["304"].is_object() && answers["200"]["headers"]["ETag"].is_object(), "{answers}");
}
