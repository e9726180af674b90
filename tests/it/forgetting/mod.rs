//! A person is forgotten: nothing that was personal can be found or opened anywhere.

mod keys;
mod places;

use std::sync::Arc;
use std::time::Duration;

use daybook_tests::{Backend, Client, Daybook, Product, Role, Store, Topic, on_both, wait_for};
use reqwest::Method;
use serde_json::{Value, json};

use places::{Needle, PLACES, Start};

on_both!(a_person_is_forgotten);

const LIMIT: Duration = Duration::from_secs(30);

const EMAIL: &str = "zerlina.quockenbush@distinct.example";
const NAME: &str = "Zerlina Quøckenbush";
const NEW_NAME: &str = "Zerlina von \"Zitzewitz\"";
const PHONE: &str = "+44 7700 900461";
const REASON: &str = "Because Aunt Hildegunst moved to Xanadu.";
const PASSWORD: &str = "hippopotomonstrosesquipedalian";
const USER_AGENT: &str = "Zerbrowser/77.42 (private edition)";
const ADDRESS: &str = "127.7.42.99";

/// What must not be found anywhere.
fn needles() -> Vec<Needle> {
    let mut needles: Vec<_> =
        [EMAIL, NAME, NEW_NAME, PHONE, REASON, PASSWORD, USER_AGENT].into_iter().map(Needle::new).collect();
    needles.push(Needle::address(ADDRESS));
    needles
}

async fn a_person_is_forgotten(backend: Backend) {
    let store = Arc::new(Store::new(backend).await);
    let start = Start::of(&store).await;
    let brokers = Topic::brokers();
    let args = start.topic.published_by(&["demo", "--log-format", "json", "--log-level", "debug"], &brokers);
    let mut daybook = Daybook::start(Arc::clone(&store), &args).await;
    let mut zerlina = Zerlina::lives(&daybook).await;
    zerlina.can_be_read_by_those_who_may(&daybook).await;
    assert_found_nowhere(&daybook, &start, "before").await;

    let key = places::wrapped_key(&store, &zerlina.subject()).await;
    zerlina.is_forgotten(&daybook).await;
    reads_as_erased(&daybook, &zerlina).await;
    assert_found_nowhere(&daybook, &start, "after").await;
    if let Some(key) = key {
        places::assert_gone(&store, &key).await;
    }

    // What is folded anew from the log is the same.
    assert!(daybook.terminate().await.success());
    places::remove_views(&store).await;
    daybook.restart().await;
    zerlina.client = daybook.known_to(&zerlina.client);
    reads_as_erased(&daybook, &zerlina).await;
    assert_found_nowhere(&daybook, &start, "folded anew").await;

    // The address is free for somebody else, who is not her.
    let account = json!({"email": EMAIL, "password": PASSWORD, "name": NAME});
    let opened = daybook.client().post("/v1/auth/register", &account).await.expect(201);
    assert_ne!(opened["account_id"], zerlina.account_id);
    daybook.client().login(EMAIL, PASSWORD).await.get("/v1/views/orders").await.expect(200);
    reads_as_erased(&daybook, &zerlina).await;
}

/// The person.
struct Zerlina {
    account_id: String,
    client: Client,
    tokens: Value,
    /// The receipt of her last order.
    last: Value,
}

impl Zerlina {
    /// Registers, buys, changes her mind, is helped, is refused something.
    async fn lives(daybook: &Daybook) -> Self {
        let staff = daybook.login(Role::Staff).await;
        let product = Product::create(&staff, 100, 10).await;
        let anyone = daybook.client().from(USER_AGENT, ADDRESS);
        let account = json!({"email": EMAIL, "password": PASSWORD, "name": NAME});
        let opened = anyone.post("/v1/auth/register", &account).await.expect(201);
        let account_id = opened["account_id"].as_str().expect("an id").to_owned();
        anyone.post("/v1/auth/login", &json!({"email": EMAIL, "password": "not hers"})).await.problem(401);
        let tokens =
            anyone.post("/v1/auth/login", &json!({"email": EMAIL, "password": PASSWORD})).await.expect(200);
        let client = anyone.with_token(tokens["access_token"].as_str().expect("a token"));

        client.receipt("customer.update", &json!({"phone": PHONE})).await;
        staff.receipt("customer.update", &json!({"customer_id": account_id, "name": NEW_NAME})).await;
        let first =
            client.command("order.place", &product.order(1)).idempotency_key(EMAIL).send().await.expect(200);
        let last = client.receipt("order.place", &product.order(2)).await;
        client.command("order.place", &product.order(100)).send().await.problem_code(422, "out_of_stock");
        client.command("product.create", &json!({"sku": NAME})).send().await.problem(400);
        let refused = client.command("stock.receive", &json!({"product_id": product.id, "quantity": 1}));
        refused.send().await.problem(403);
        client.receipt("order.cancel", &json!({"order_id": first["id"], "reason": REASON})).await;
        staff.receipt("order.confirm", &json!({"order_id": last["id"]})).await;
        Self { account_id, client, tokens, last }
    }

    fn subject(&self) -> String {
        format!("account-{}", self.account_id)
    }

    /// As the view has her, for somebody.
    async fn seen_by(&self, reader: &Client) -> Value {
        reader.fresh("customers", &self.account_id, &self.last).await.expect(200)["data"].clone()
    }

    /// Herself, staff, administrators. The others, whom she may not know of, leave a trace.
    async fn can_be_read_by_those_who_may(&self, daybook: &Daybook) {
        let (staff, admin) = (daybook.login(Role::Staff).await, daybook.login(Role::Admin).await);
        let analyst = daybook.login(Role::Analyst).await;
        for reader in [&self.client, &staff] {
            let seen = self.seen_by(reader).await;
            assert_eq!([&seen["email"], &seen["name"], &seen["phone"]], [EMAIL, NEW_NAME, PHONE]);
        }
        let events = format!("/v1/events?actor={}", self.account_id);
        let seen = admin.get(&events).await.expect(200)["data"][0]["metadata"]["client"].clone();
        assert_eq!([&seen["ip"], &seen["user_agent"]], [ADDRESS, USER_AGENT]);

        let openings = async || {
            let events = analyst.events("type=daybook.personal.opened").await;
            let of_her = |event: &&Value| event["payload"]["subjects"].to_string().contains(&self.account_id);
            events
                .iter()
                .filter(of_her)
                .map(|event| (event["stream"].clone(), event["payload"]["asked"].clone()))
                .collect::<Vec<_>>()
        };
        let view = format!("/v1/views/customers/{}", self.account_id);
        let traces = openings().await;
        let asked: Vec<_> = traces.iter().map(|(_, asked)| asked.as_str().expect("a path")).collect();
        assert_eq!(asked, [&view, "/v1/events"], "what she read herself leaves none");
        assert!(traces.iter().all(|(stream, _)| stream.to_string().contains("daybook.openings-")), "{traces:?}");
        assert_ne!(traces[0].0, traces[1].0, "each who opened has a stream of their own");
        // Whoever sees nothing opens nothing.
        analyst.get(&events).await.expect(200);
        assert_eq!(openings().await.len(), 2);
    }

    async fn is_forgotten(&mut self, daybook: &Daybook) {
        let forget = || self.client.command("customer.forget", &json!({}));
        forget().send().await.problem_code(409, "orders_open");
        self.last = self.client.receipt("order.cancel", &json!({"order_id": self.last["id"]})).await;
        let staff = daybook.login(Role::Staff).await;
        let theirs = json!({"customer_id": self.account_id});
        staff.command("customer.forget", &theirs).send().await.problem(404);
        let receipt = forget().send().await.expect(200);
        let types: Vec<_> =
            receipt["events"].as_array().expect("events").iter().map(|event| &event["type"]).collect();
        assert_eq!(types, ["customer.forgotten", "daybook.subject.forgotten"]);
        self.last = receipt;

        // At once: the session, the account, the address.
        self.client.get("/v1/views/orders").await.problem_code(401, "invalid_token");
        let refresh = json!({"refresh_token": self.tokens["refresh_token"]});
        daybook.client().post("/v1/auth/refresh", &refresh).await.problem_code(401, "invalid_token");
        let login = json!({"email": EMAIL, "password": PASSWORD});
        daybook.client().post("/v1/auth/login", &login).await.problem_code(401, "invalid_credentials");
    }
}

/// Her history is there, and her orders; what was personal in them is erased, for everybody.
async fn reads_as_erased(daybook: &Daybook, zerlina: &Zerlina) {
    let erased = json!({"erased": true});
    let (staff, admin) = (daybook.login(Role::Staff).await, daybook.login(Role::Admin).await);
    let seen = zerlina.seen_by(&staff).await;
    assert_eq!([&seen["email"], &seen["name"], &seen["phone"]], [&erased; 3]);
    assert_eq!(
        (&seen["forgotten"], &seen["orders_placed"], &seen["orders_cancelled"]),
        (&json!(true), &json!(2), &json!(2))
    );
    let orders = format!("/v1/views/orders?limit=100&min_position={}", zerlina.last["position"]);
    let orders = staff.request(Method::GET, &orders).header("prefer", "wait=10").send().await.expect(200);
    let of_her = |order: &&Value| order["customer_id"] == zerlina.account_id.as_str();
    let orders: Vec<_> = orders["data"].as_array().expect("orders").iter().filter(of_her).collect();
    assert_eq!(orders.len(), 2, "the business keeps its orders: {orders:?}");
    assert!(orders.iter().any(|order| order["cancellation_reason"] == erased), "{orders:?}");

    for reader in [&admin, &daybook.login(Role::Analyst).await] {
        let events = reader.events(&format!("actor={}&limit=100", zerlina.account_id)).await;
        assert!(events.len() >= 6, "{events:?}");
        for event in &events {
            assert_eq!(event["metadata"]["client"], erased, "{event}");
        }
    }
    // Also what she did before there was an account that could have done it.
    for stream in ["account", "customer"] {
        let events = admin.events(&format!("stream={stream}-{}", zerlina.account_id)).await;
        let registered = &events[0];
        assert_eq!(registered["metadata"]["actor"], Value::Null, "{registered}");
        for (part, field) in [("payload", "email"), ("payload", "name"), ("metadata", "client")] {
            assert_eq!(registered[part][field], erased, "{registered}");
        }
    }
}

async fn assert_found_nowhere(daybook: &Daybook, start: &Start, when: &str) {
    for (what, place) in PLACES {
        let held = place.held(daybook, start).await;
        assert!(held.iter().any(|(_, bytes)| !bytes.is_empty()), "there is nothing in {what} {when}");
        for (name, bytes) in held {
            for needle in needles().iter().filter(|needle| place.must_not_hold(needle)) {
                if let Some(form) = needle.found_in(&bytes) {
                    panic!("{when}: {} is in {what}, {name}, {form}", needle.text);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_forget_from_the_command_line() {
    let daybook = Daybook::demo(Backend::Sqlite).await;
    let customer = daybook_tests::Customer::register(&daybook.client()).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let placed = customer.order(&product.order(1)).send().await.expect(200);

    let refused = daybook.cli(&["subject", "forget", "--email", &customer.email]);
    assert!(!refused.status.success() && refused.stderr.contains("open"), "the rules hold: {refused:?}");
    customer.client.receipt("order.cancel", &json!({"order_id": placed["id"]})).await;
    let forgotten = daybook.cli(&["subject", "forget", "--email", &customer.email, "--json"]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    let forgotten: Value = serde_json::from_str(&forgotten.stdout).expect("JSON");
    assert_eq!(forgotten["subject"], format!("account-{}", customer.account_id));

    // Another process did it, and this one knows within a second.
    wait_for("the token to be refused", LIMIT, async || {
        (customer.client.get("/v1/views/orders").await.status == 401).then_some(())
    })
    .await;
    let staff = daybook.login(Role::Staff).await;
    let path = format!("/v1/views/customers/{}", customer.account_id);
    let seen = wait_for("the customer to be erased", LIMIT, async || {
        let seen = staff.get(&path).await.expect(200)["data"].clone();
        (seen["email"] == json!({"erased": true})).then_some(seen)
    })
    .await;
    assert_eq!(seen["name"], json!({"erased": true}));
    for nobody in [&["--email", &customer.email][..], &["account-1"], &["day-2026-11-24"], &[]] {
        let output = daybook.cli(&[&["subject", "forget"], nobody].concat());
        assert!(!output.status.success(), "{nobody:?}: {output:?}");
    }
}
