//! Views are followed: by those who may read them, behind what they know, and as fast as they are told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daybook_tests::{Backend, Client, Customer, Daybook, Live, LiveEvent, Product, Role, on_both, wait_for};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

on_both!(views_are_followed, a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it);

const LIMIT: Duration = Duration::from_secs(60);

fn id(receipt: &Value) -> &str {
    receipt["id"].as_str().expect("a receipt has an id")
}

/// The next event, which has to be about this document.
async fn told(live: &mut Live, name: &str, key: &str) -> Value {
    let LiveEvent { name: found, data } = live.next().await.expect("the stream goes on");
    assert_eq!((found.as_str(), data["key"].as_str()), (name, Some(key)), "{data}");
    data
}

async fn views_are_followed(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let staff = daybook.login(Role::Staff).await;
    let product = Product::create(&staff, 100, 1_000).await;
    one_sees_what_one_may_read(&daybook, &staff, &product).await;
    who_comes_back_is_told_what_they_missed(&daybook, &product).await;
    who_may_not_read_may_not_follow(&daybook).await;
    nobody_follows_too_much(&daybook).await;
    a_stream_ends_with_its_session(&daybook).await;
    openings_are_recorded_once_a_stream(&daybook, &staff, &product).await;
    who_was_told_of_another_generation_reads_everything_anew(&daybook).await;

    let mut live = daybook.client().follow("/v1/views/products/live", None).await;
    live.begun().await;
    let begun = Instant::now();
    assert!(daybook.terminate().await.success(), "{}", daybook.output());
    assert_eq!(live.next().await, None);
    assert!(begun.elapsed() < Duration::from_secs(15), "streams are ended, not waited for");
}

async fn one_sees_what_one_may_read(daybook: &Daybook, staff: &Client, product: &Product) {
    let [customer, other] =
        [Customer::register(&daybook.client()).await, Customer::register(&daybook.client()).await];
    let mut own = customer.client.follow("/v1/views/orders/live", None).await;
    let mut others = other.client.follow("/v1/views/orders/live", None).await;
    let mut placed = staff.follow("/v1/views/orders/live?status=placed", None).await;
    for live in [&mut own, &mut others, &mut placed] {
        live.begun().await;
    }
    let order = customer.order(&product.order(2)).send().await.expect(200);
    let data = told(&mut own, "document", id(&order)).await;
    assert_eq!(data["data"], customer.client.order(&order).await.expect(200)["data"]);
    told(&mut placed, "document", id(&order)).await;

    let path = format!("/v1/views/orders/{}/live", id(&order));
    let mut one = customer.client.follow(&path, None).await;
    assert_eq!(told(&mut one, "document", id(&order)).await["data"]["status"], "placed");
    let confirmed = staff.receipt("order.confirm", &json!({"order_id": id(&order)})).await;
    for live in [&mut own, &mut one] {
        assert_eq!(told(live, "document", id(&order)).await["data"]["status"], "confirmed");
        assert!(live.position() >= confirmed["position"].as_u64().expect("a position"), "{} {confirmed}", live.id);
    }
    told(&mut placed, "removed", id(&order)).await;
    // The first that another hears of is their own.
    let order = other.order(&product.order(1)).send().await.expect(200);
    told(&mut others, "document", id(&order)).await;
}

async fn who_comes_back_is_told_what_they_missed(daybook: &Daybook, product: &Product) {
    let customer = Customer::register(&daybook.client()).await;
    let mut live = customer.client.follow("/v1/views/orders/live", None).await;
    let first = customer.order(&product.order(1)).send().await.expect(200);
    told(&mut live, "document", id(&first)).await;
    let known = live.id.clone();
    drop(live);
    let missed = customer.order(&product.order(1)).send().await.expect(200);
    customer.client.order(&missed).await.expect(200);
    let mut live = customer.client.follow("/v1/views/orders/live", Some(&known)).await;
    told(&mut live, "document", id(&missed)).await;
    // It comes in several pieces, and is known when all of it was told.
    let mut missed = BTreeSet::new();
    for _ in 0..60 {
        let order = customer.order(&product.order(1)).send().await.expect(200);
        missed.insert(id(&order).to_owned());
    }
    wait_for("all of them", LIMIT, async || {
        let listed = customer.client.get("/v1/views/orders?limit=100").await.expect(200);
        (listed["data"].as_array().map(Vec::len) == Some(62)).then_some(())
    })
    .await;
    let mut again = customer.client.follow("/v1/views/orders/live", Some(&live.id)).await;
    while !missed.is_empty() {
        assert_eq!(again.id, "", "not all was told");
        let LiveEvent { name, data } = again.next().await.expect("the stream goes on");
        assert_eq!(name, "document", "{data}");
        missed.remove(data["key"].as_str().expect("a key"));
    }
    assert_ne!(again.id, "");
    drop(again);
    // What lies so far back is not known any more, nor of which generation a position is.
    let (position, generation) = known.split_once('-').expect("two numbers");
    for unknown in [&format!("1-{generation}"), position, &format!("{position}-999"), "0"] {
        let mut live = customer.client.follow("/v1/views/orders/live", Some(unknown)).await;
        assert_eq!(live.next().await.expect("an event").name, "reset", "{unknown}");
    }
}

async fn who_was_told_of_another_generation_reads_everything_anew(daybook: &Daybook) {
    let customer = Customer::register(&daybook.client()).await;
    let mut live = customer.client.follow("/v1/views/orders/live", None).await;
    live.begun().await;
    let known = live.id.clone();
    let rebuilt = daybook.cli(&["projection", "rebuild", "orders"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    assert_eq!(live.next().await.expect("an event").name, "reset", "it goes on, with another generation");
    let mut live = customer.client.follow("/v1/views/orders/live", Some(&known)).await;
    assert_eq!(live.next().await.expect("an event").name, "reset", "{known}");
    let known = live.id.clone();
    customer.client.follow("/v1/views/orders/live", Some(&known)).await.begun().await;
}

async fn who_may_not_read_may_not_follow(daybook: &Daybook) {
    let customer = Customer::register(&daybook.client()).await;
    let anyone = daybook.client();
    anyone.get("/v1/views/orders/live").await.problem_code(401, "unauthenticated");
    anyone.get("/v1/views/nothing/live").await.problem_code(404, "not_found");
    let somebodys = daybook.login(Role::Staff).await.get("/v1/views/orders?limit=1").await.expect(200);
    let key = somebodys["data"][0]["order_id"].as_str().expect("an id").to_owned();
    for path in [format!("/v1/views/orders/{key}/live"), "/v1/views/orders/none/live".into()] {
        customer.client.get(&path).await.problem_code(404, "not_found");
    }
    for bad in ["sort=total", "limit=3", "colour=red"] {
        customer.client.get(&format!("/v1/views/orders/live?{bad}")).await.problem_code(400, "invalid_parameter");
    }
    let odd = anyone.request(Method::GET, "/v1/views/products/live").header("last-event-id", "soon");
    odd.send().await.problem_code(400, "invalid_parameter");
    anyone.request(Method::HEAD, "/v1/views/products/live").send().await.expect(200);
}

async fn nobody_follows_too_much(daybook: &Daybook) {
    let customer = Customer::register(&daybook.client()).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(customer.client.follow("/v1/views/orders/live", None).await);
    }
    customer.client.get("/v1/views/orders/live").await.problem_code(429, "too_many_live");
    drop(all);
    wait_for("room", LIMIT, async || {
        let head = customer.client.request(Method::HEAD, "/v1/views/orders/live").send().await;
        (head.status == 200).then_some(())
    })
    .await;
}

async fn a_stream_ends_with_its_session(daybook: &Daybook) {
    let user = daybook.demo_users().remove(0);
    let credentials = json!({"email": user.email, "password": user.password});
    let tokens = daybook.client().post("/v1/auth/login", &credentials).await.expect(200);
    let client = daybook.client().with_token(tokens["access_token"].as_str().expect("a token"));
    let mut live = client.follow("/v1/views/products/live", None).await;
    live.begun().await;
    let token = json!({"refresh_token": tokens["refresh_token"]});
    client.post("/v1/auth/logout", &token).await.expect(204);
    let last = live.next().await.expect("an event");
    assert_eq!((last.name.as_str(), &last.data["code"]), ("ended", &json!("invalid_token")));
    assert_eq!(live.next().await, None);
}

async fn openings_are_recorded_once_a_stream(daybook: &Daybook, staff: &Client, product: &Product) {
    let customer = Customer::register(&daybook.client()).await;
    let mut live = staff.follow("/v1/views/orders/live?status=cancelled", None).await;
    live.begun().await;
    let before = openings(daybook).await;
    for _ in 0..2 {
        let order = customer.order(&product.order(1)).send().await.expect(200);
        // It was never one of these.
        told(&mut live, "removed", id(&order)).await;
        let cancel = json!({"order_id": id(&order), "reason": "a personal one"});
        customer.client.receipt("order.cancel", &cancel).await;
        let data = told(&mut live, "document", id(&order)).await;
        assert_eq!(data["data"]["cancellation_reason"], "a personal one");
    }
    assert_eq!(openings(daybook).await, before + 1);
}

async fn openings(daybook: &Daybook) -> usize {
    let admin = daybook.login(Role::Admin).await;
    let all = admin.events("type=daybook.personal.opened").await;
    all.iter().filter(|event| event.to_string().contains("/v1/views/orders/live")).count()
}

/// Sends a request to follow the products, and reads nothing.
async fn silent(daybook: &Daybook, buffer: u32) -> TcpStream {
    let client = daybook.client();
    let address = client.base_url().strip_prefix("http://").expect("without TLS").to_owned();
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(buffer).expect("a size");
    let mut stream = socket.connect(address.parse().expect("an address")).await.expect("the server listens");
    let head = format!("GET /v1/views/products/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the server reads");
    stream
}

async fn readers(daybook: &Daybook) -> u64 {
    let metrics = daybook.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("daybook_live_readers "));
    line.map_or(0, |count| count.parse().expect("a number"))
}

async fn a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(backend: Backend) {
    let daybook = Daybook::start(Daybook::seeded(backend).await, &["demo", "--live-stall-s", "1"]).await;
    let staff = daybook.login(Role::Staff).await;
    let mut live = daybook.client().follow("/v1/views/products/live", None).await;
    live.begun().await;
    let _silent = silent(&daybook, 2_048).await;
    wait_for("both to follow", LIMIT, async || (readers(&daybook).await == 2).then_some(())).await;
    let mut count = 0;
    wait_for("the silent one to be dropped", LIMIT, async || {
        let product = Product::create(&staff, 100, 0).await;
        told(&mut live, "document", &product.id).await;
        count += 1;
        (readers(&daybook).await == 1).then_some(())
    })
    .await;
    assert!(count > 5, "it was not dropped before it was slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_told() {
    let args = ["demo", "--live-per-actor-max", "1000"];
    let daybook = Daybook::start(Daybook::seeded(Backend::Sqlite).await, &args).await;
    let staff = daybook.login(Role::Staff).await;
    let mut all = Vec::new();
    for _ in 0..1_000 {
        all.push(silent(&daybook, 65_536).await);
    }
    wait_for("all to follow", LIMIT, async || (readers(&daybook).await == 1_000).then_some(())).await;
    let product = Product::create(&staff, 100, 0).await;
    for client in &mut all {
        let (mut text, mut part) = (String::new(), [0; 4_096]);
        while !text.contains(&product.id) {
            let read = tokio::time::timeout(LIMIT, client.read(&mut part)).await.expect("in time");
            let count = read.expect("a stream");
            assert!(count > 0, "ended: {text}");
            text.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    }
    drop(all);
    wait_for("all to be gone", LIMIT, async || (readers(&daybook).await == 0).then_some(())).await;
}

/// Two processes, each with caches of its own: what one has answered to a command, the other one shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_has_done_another_one_shows() {
    let one = Daybook::demo(Backend::Postgres).await;
    let another = Daybook::start(one.store().clone(), &["serve", "--roles", "api"]).await;
    let staff = one.login(Role::Staff).await;
    let product = Product::create(&staff, 100, 1_000).await;
    let customer = Customer::register(&one.client()).await;
    let elsewhere = another.known_to(&customer.client);
    for _ in 0..30 {
        let order = customer.order(&product.order(1)).send().await.expect(200);
        for (command, status) in [(None, "placed"), (Some("order.confirm"), "confirmed")] {
            let receipt = match command {
                None => order.clone(),
                Some(command) => staff.receipt(command, &json!({"order_id": id(&order)})).await,
            };
            for _ in 0..3 {
                let found = elsewhere.fresh("orders", id(&order), &receipt).await.expect(200);
                assert_eq!(found["data"]["status"], status, "{found}");
                assert!(found["position"].as_u64() >= receipt["position"].as_u64(), "{found} {receipt}");
            }
            let list = format!("/v1/views/orders?sort=-placed_at&limit=1&min_position={}", receipt["position"]);
            let list = elsewhere.request(Method::GET, &list).header("prefer", "wait=10").send().await.expect(200);
            assert_eq!(list["data"][0]["status"], status, "{list}");
        }
    }
}
