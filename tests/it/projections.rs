//! What operators see of projections, and what they do about them, over HTTP and on the command line.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use daybook_tests::{
    Backend, Client, Customer, Daybook, Output, Product, Role, Store, assert_counted_once, on_both, wait_for,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

on_both!(
    readers_do_not_notice_a_rebuild,
    what_differs_is_held_until_somebody_says_what_to_do,
    whoever_waits_for_a_rebuild_can_leave_it,
    a_rebuild_is_paused_resumed_given_up_and_taken_back,
    only_operators_act_and_who_may_not_is_on_record,
    a_view_is_verified_over_http,
    dead_letters_are_shown_tried_again_and_passed_over,
    who_is_frozen_writes_nothing_and_who_is_killed_is_replaced,
);

const LIMIT: Duration = Duration::from_secs(30);
/// How soon others take over, when leases last 2 s.
const TAKEN_OVER: Duration = Duration::from_secs(8);
/// How many place orders and read at the same time.
const CUSTOMERS: usize = 8;
const API: &[&str] = &["serve", "--roles", "api"];
const PROJECTOR: &[&str] = &["serve", "--roles", "projector"];

async fn readers_do_not_notice_a_rebuild(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1_000_000).await;
    let nobody = daybook.client();
    let customers = join_all((0..CUSTOMERS).map(|_| Customer::register(&nobody))).await;
    let rebuild = || verb(daybook.store(), &["projection", "rebuild", "orders", "--json"]);
    let rebuilds = async { [rebuild().await, rebuild().await, rebuild().await] };
    let written = AtomicUsize::new(0);
    let readers = customers.iter().map(|customer| write_and_read(customer, &product, &written));
    let built = tokio::select! {
        built = rebuilds => built,
        _ = join_all(readers) => unreachable!("they never end"),
    };
    let written = written.into_inner();
    assert!(written > 5 * CUSTOMERS, "only {written} orders were placed beside three rebuilds");

    let numbers: Vec<_> =
        built.iter().map(json_of).map(|one| (one["number"].clone(), one["phase"].clone())).collect();
    assert_eq!(numbers, [2, 3, 4].map(|number| (json!(number), json!("live"))));
    let operator = daybook.login(Role::Operator).await;
    let acts = operator.events("type=daybook.projection.rebuild_requested").await;
    assert_eq!(acts.len(), 3, "{acts:?}");
    for act in &acts {
        assert_eq!(
            (&act["metadata"]["actor"], &act["payload"]["projection"]),
            (&json!("system:cli"), &json!("orders"))
        );
    }
    let generation = "daybook_projection_generation{projection=\"orders\"} 4";
    wait_for(generation, LIMIT, async || daybook.metrics().await.contains(generation).then_some(())).await;
    let status = json_of(&daybook.cli(&["status", "--json"]));
    let orders = status["projections"].as_array().expect("all").iter().find(|one| one["name"] == "orders");
    assert_eq!(orders.expect("it is there")["generation"], 4, "{status}");

    let unknown = daybook.cli(&["projection", "rebuild", "ordres"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("ordres") && unknown.stdout.is_empty(), "{unknown:?}");
    let misused = daybook.cli(&["projection", "rebuild"]);
    assert_eq!(misused.status.code(), Some(2), "{misused:?}");
}

/// Places orders, and finds each in the views at once; and whatever else it reads, nobody goes backwards.
async fn write_and_read(customer: &Customer, product: &Product, written: &AtomicUsize) -> Infallible {
    let (mut placed, mut reached) = (0, 0);
    loop {
        let receipt = customer.order(&product.order(1)).send().await.expect(200);
        placed += 1;
        written.fetch_add(1, Ordering::Relaxed);
        let order = customer.client.order(&receipt).await.expect(200);
        let list = customer.client.get("/v1/views/orders?limit=100").await.expect(200);
        let orders = list["data"].as_array().expect("a list").len();
        assert_eq!(orders, placed.min(100), "own writes are there: {list}");
        for answer in [&order, &list] {
            let position = answer["position"].as_u64().expect("a position");
            assert!(position >= reached, "from {reached} back to {position}");
            assert!(position >= receipt["position"].as_u64().expect("a position"), "{answer} {receipt}");
            reached = position;
        }
    }
}

async fn what_differs_is_held_until_somebody_says_what_to_do(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 7).await;
    let operator = daybook.login(Role::Operator).await;
    let path = format!("/v1/views/stock/{}", product.id);
    // The document itself is not read yet: what was read is kept, whatever somebody does to the table.
    let received = async || {
        let listed = operator.get("/v1/views/stock?limit=100").await.expect(200);
        let is_it = |one: &Value| one["product_id"] == product.id.as_str() && one["on_hand"] == 7;
        listed["data"].as_array().is_some_and(|all| all.iter().any(is_it)).then_some(())
    };
    wait_for("the product", LIMIT, received).await;
    let delete = format!("DELETE FROM view_stock_v1_g1 WHERE key = '{}'", product.id);
    daybook.store().tamper_with_views(&delete).await;
    operator.get(&path).await.problem(404);

    let held = verb(daybook.store(), &["projection", "rebuild", "stock", "--confirm-diff"]).await;
    assert_eq!(held.status.code(), Some(1), "{held:?}");
    assert!(held.stdout.contains("1 differ") && held.stdout.contains(&product.id), "{held:?}");
    assert!(held.stderr.contains("daybook projection confirm stock"), "{held:?}");
    operator.get(&path).await.problem(404);
    let gauge = "daybook_projection_rebuild{projection=\"stock\",phase=\"held\"} 1";
    wait_for(gauge, LIMIT, async || daybook.metrics().await.contains(gauge).then_some(())).await;
    let shown = operator.get("/v1/projections/stock").await.expect(200);
    assert_eq!(state(&shown["building"]), json!([2, 1, "held", false]));
    assert_eq!(shown["generations"][1]["report"]["samples"][0]["key"], product.id.as_str(), "{shown}");
    succeeded(&daybook.cli(&["projection", "abort", "stock"]));

    let held = verb(daybook.store(), &["projection", "rebuild", "stock", "--confirm-diff", "--json"]).await;
    let built: Value = serde_json::from_str(&held.stdout).expect("JSON, held or not");
    assert_eq!((held.status.code(), &built["phase"], &built["number"]), (Some(1), &json!("held"), &json!(3)));
    operator.post("/v1/projections/stock/confirm", &json!({})).await.expect(200);
    wait_for("what was built", LIMIT, received).await;
}

async fn whoever_waits_for_a_rebuild_can_leave_it(backend: Backend) {
    let daybook = Daybook::start(Daybook::seeded(backend).await, API).await;
    let mut waiting = daybook.spawn_verb(&["projection", "rebuild", "stock"]);
    waiting.logged("nobody projects").await;
    let left = waiting.interrupt().await;
    assert_eq!(left.status.code(), Some(1), "{left:?}");
    assert!(left.stderr.contains("no longer waiting") && left.stdout.is_empty(), "{left:?}");

    let operator = daybook.login(Role::Operator).await;
    let stock = async || operator.get("/v1/projections/stock").await.expect(200);
    assert_eq!(stock().await["building"]["generation"], 2);
    let again = verb(daybook.store(), &["projection", "rebuild", "stock"]).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(again.stderr.contains("daybook projection status stock --watch"), "{again:?}");
    let mut watching = daybook.spawn_verb(&["projection", "status", "stock", "--watch", "--json"]);
    watching.logged("nobody projects").await;
    let _projector = daybook.worker(PROJECTOR).await;
    wait_for("what was begun", LIMIT, async || (stock().await["generation"] == 2).then_some(())).await;
    let status = json_of(&watching.ended().await);
    assert_eq!((&status["generation"], &status["building"]), (&json!(2), &Value::Null), "{status}");
}

async fn a_rebuild_is_paused_resumed_given_up_and_taken_back(backend: Backend) {
    // Nobody projects at first: whatever is begun stays as it is.
    let daybook = Daybook::start(Daybook::seeded(backend).await, API).await;
    let operator = daybook.login(Role::Operator).await;
    let act = async |act: &str| operator.post(&format!("/v1/projections/products/{act}"), &json!({})).await;
    let products = async || operator.get("/v1/projections/products").await.expect(200);
    act("pause").await.problem_code(409, "not_possible");
    act("rollback").await.problem_code(409, "not_possible");
    operator.post("/v1/projections/products/begin", &json!({})).await.problem(404);
    operator.post("/v1/projections/produce/pause", &json!({})).await.problem_code(404, "not_found");
    operator.get("/v1/projections/produce").await.problem_code(404, "not_found");
    let unknown_field = json!({"confirm_dif": true});
    operator.post("/v1/projections/products/rebuild", &unknown_field).await.problem_code(400, "invalid_body");

    let begun = act("rebuild").await.expect(202);
    assert_eq!(begun, json!({"projection": "products", "generation": 2}));
    act("rebuild").await.problem_code(409, "not_possible");
    act("abort").await.expect(200);
    assert_eq!(products().await["building"], Value::Null);

    let held = json!({"confirm_diff": true});
    operator.post("/v1/projections/products/rebuild", &held).await.expect(202);
    act("pause").await.expect(200);
    let building = json!([3, 1, "replay", true]);
    assert_eq!(state(&products().await["building"]), building);
    let _projector = daybook.worker(PROJECTOR).await;
    wait_for("somebody to project", LIMIT, async || {
        products().await["owners"].as_array().is_some_and(|owners| !owners.is_empty()).then_some(())
    })
    .await;
    assert_eq!(state(&products().await["building"]), building, "a paused one stays where it is");
    act("resume").await.expect(200);
    let served = async |number: u32| (products().await["generation"] == number).then_some(());
    wait_for("the new generation", LIMIT, async || served(3).await).await;
    let generations = products().await["generations"].clone();
    let last = &generations.as_array().expect("all of them")[2];
    assert_eq!((&last["phase"], &last["report"]["differing"]), (&json!("live"), &json!(0)), "{generations}");

    // On the command line, too.
    let rolled_back = json_of(&daybook.cli(&["projection", "rollback", "products", "--json"]));
    assert_eq!(rolled_back, json!({"projection": "products", "generation": 1}));
    assert_eq!(products().await["generation"], 1);
    act("rollback").await.expect(200);
    assert_eq!(products().await["generation"], 3);

    let stream = operator.events("stream=daybook.projection-products").await;
    let acts: Vec<_> = stream.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    let expected =
        ["rebuild_requested", "rebuild_aborted", "rebuild_requested", "rebuild_paused", "rebuild_resumed"];
    let expected = expected.into_iter().chain(["rolled_back", "rolled_back"]);
    assert_eq!(acts, expected.map(|act| format!("daybook.projection.{act}")).collect::<Vec<_>>());
    let listed = json_of(&daybook.cli(&["projection", "list", "--json"]));
    let described = operator.get("/v1/projections").await.expect(200)["data"].clone();
    for field in ["name", "version", "generation", "building", "stopped", "dead_letters"] {
        let of =
            |all: &Value| all.as_array().expect("all").iter().map(|one| one[field].clone()).collect::<Vec<_>>();
        assert_eq!(of(&listed), of(&described), "{field}");
    }
}

async fn only_operators_act_and_who_may_not_is_on_record(backend: Backend) {
    let daybook = Daybook::start(Daybook::seeded(backend).await, API).await;
    let customer = Customer::register(&daybook.client()).await;
    let act = "/v1/projections/orders/abort";
    customer.client.post(act, &json!({})).await.problem_code(403, "forbidden");
    let retry = "/v1/dead-letters/orders/some-key/retry";
    customer.client.post(retry, &json!({})).await.problem_code(403, "forbidden");
    daybook.client().post(act, &json!({})).await.problem_code(401, "unauthenticated");
    // Who has to sign in is told that before anything else, and who may not is told that.
    for path in
        ["/v1/projections/orders/rebuild", "/v1/dead-letters/orders/some-key/skip", "/v1/commands/stock.receive"]
    {
        daybook.client().request(reqwest::Method::POST, path).send().await.problem_code(401, "unauthenticated");
    }
    let rebuild = customer.client.request(reqwest::Method::POST, "/v1/projections/orders/rebuild").send().await;
    rebuild.problem_code(403, "forbidden");
    for path in
        ["/v1/projections", "/v1/projections/orders", "/v1/dead-letters", "/v1/dead-letters/orders/some-key"]
    {
        customer.client.get(path).await.problem_code(403, "forbidden");
        daybook.client().get(path).await.problem_code(401, "unauthenticated");
    }
    daybook.login(Role::Analyst).await.post(act, &json!({})).await.problem_code(403, "forbidden");

    let operator = daybook.login(Role::Operator).await;
    let query = format!("type=daybook.command.denied&actor={}", customer.account_id);
    let denied: Vec<_> = operator.events(&query).await.into_iter().map(|event| event["payload"].clone()).collect();
    let denial = |command| json!({"command": command, "stream": "daybook.projection-orders", "count": 1});
    let commands = ["daybook.projection.abort", "daybook.dead_letter.retry", "daybook.projection.rebuild"];
    assert_eq!(denied, commands.map(denial));
    let rebuild = operator.request(reqwest::Method::POST, "/v1/projections/orders/rebuild").send().await;
    rebuild.problem_code(415, "unsupported_media_type");
    let nothing = daybook.cli(&["dead-letter", "list"]);
    assert!(nothing.status.success() && nothing.stdout.is_empty(), "{nothing:?}");
    assert_eq!(nothing.stderr.lines().last(), Some("no dead letters"), "{nothing:?}");
    assert_eq!(json_of(&daybook.cli(&["dead-letter", "list", "--json"])), json!([]));
    daybook.login(Role::Admin).await.get("/v1/projections").await.expect(200);

    // Nobody projects but the one who says so.
    let built = json_of(&verb(daybook.store(), &["projection", "rebuild", "orders", "--here", "--json"]).await);
    assert_eq!((&built["number"], &built["phase"]), (&json!(2), &json!("live")), "{built}");
}

async fn a_view_is_verified_over_http(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 7).await;
    let operator = daybook.login(Role::Operator).await;
    let path = "/v1/projections/stock/verify";
    operator.post("/v1/projections/stocks/verify", &json!({})).await.problem_code(404, "not_found");
    operator.post(path, &json!({"fully": true})).await.problem_code(400, "invalid_body");
    daybook.login(Role::Analyst).await.post(path, &json!({})).await.problem_code(403, "forbidden");
    daybook.client().post(path, &json!({})).await.problem_code(401, "unauthenticated");
    let lines = async |full: bool| {
        let answer = operator.post(path, &json!({"full": full})).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{answer}");
        let lines = answer.body.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.filter(|line| line["progress"].is_null()).collect::<Vec<_>>()
    };
    let is_there = async || lines(true).await.pop().filter(|last| last["documents"].as_u64() > Some(0));
    let verified = wait_for("something to verify", LIMIT, is_there).await;
    assert_eq!((&verified["findings"], &verified["slices"]), (&json!(0), &json!(1_024)), "{verified}");
    let received = async || operator.get(&format!("/v1/views/stock/{}", product.id)).await.status == 200;
    wait_for("the product", LIMIT, async || received().await.then_some(())).await;
    let delete = format!("DELETE FROM view_stock_v1_g1 WHERE key = '{}'", product.id);
    daybook.store().tamper_with_views(&delete).await;
    for full in [true, false] {
        let [finding, verified] = &lines(full).await[..] else { panic!("one finding, and what was verified") };
        assert_eq!(finding, &json!({"finding": "missing", "key": product.id}));
        assert_eq!((&verified["projection"], &verified["findings"]), (&json!("stock"), &json!(1)), "{verified}");
    }
}

async fn who_is_frozen_writes_nothing_and_who_is_killed_is_replaced(backend: Backend) {
    let daybook = Daybook::start(Daybook::seeded(backend).await, API).await;
    let [one, other] = [daybook.worker(PROJECTOR).await, daybook.worker(PROJECTOR).await];
    let operator = daybook.login(Role::Operator).await;
    let share = async |wanted: usize| {
        let shown = operator.get("/v1/projections/orders").await.expect(200);
        (shown["owners"].as_array().map(Vec::len) == Some(wanted)).then_some(())
    };
    wait_for("both to have a share", LIMIT, async || share(2).await).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1_000_000).await;
    let customer = Customer::register(&daybook.client()).await;
    let written = AtomicUsize::new(0);
    let trouble = async {
        // On SQLite, one that is frozen within a transaction keeps all others out of the file, as it should.
        if backend == Backend::Postgres {
            one.freeze();
            wait_for("the other one to have everything", TAKEN_OVER, async || share(1).await).await;
            let before = written.load(Ordering::Relaxed);
            let goes_on = async || (written.load(Ordering::Relaxed) > before + 5).then_some(());
            wait_for("all ranges to go on", TAKEN_OVER, goes_on).await;
            one.thaw();
            wait_for("both to have a share again", LIMIT, async || share(2).await).await;
        }
        drop(other);
        let killed = Instant::now();
        wait_for("the one that is left to have everything", TAKEN_OVER, async || share(1).await).await;
        let before = written.load(Ordering::Relaxed);
        let goes_on = async || (written.load(Ordering::Relaxed) > before + 5).then_some(());
        wait_for("all ranges to go on", TAKEN_OVER, goes_on).await;
        assert!(killed.elapsed() < 2 * TAKEN_OVER);
    };
    // Each read waits for what was written, so that it fails where a range stands still.
    tokio::select! {
        () = trouble => {}
        never = write_and_read(&customer, &product, &written) => match never {},
    }
    let last = customer.order(&product.order(1)).send().await.expect(200);
    let placed = operator.events(&format!("type=order.placed&actor={}", customer.account_id)).await.len();
    assert_counted_once(&customer, &product, placed, placed, &last).await;
    for view in ["orders", "stock", "customers"] {
        let verified = json_of(&daybook.cli(&["projection", "verify", view, "--full", "--json"]));
        assert_eq!(verified["findings"], 0, "{view}: {verified}");
    }
}

/// What is received here is more than the view can count, so that its fold panics (where sums are checked, as they are in
/// a build for tests).
async fn dead_letters_are_shown_tried_again_and_passed_over(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1).await;
    assert!(daybook.terminate().await.success());
    daybook.store().append_unlawful("stock.received", &json!({"quantity": i64::MAX})).await;
    daybook.store().append_unlawful("stock.received", &json!({"quantity": 1})).await;
    daybook.restart().await;
    let operator = daybook.login(Role::Operator).await;
    let listed = async |query: &str| {
        let list = operator.get(&format!("/v1/dead-letters{query}")).await.expect(200);
        list["data"].as_array().expect("a list").clone()
    };
    let both = async || Some(listed("?projection=stock").await).filter(|letters| letters.len() == 2);
    let letters = wait_for("both dead letters", LIMIT, both).await;
    let key = product.id.as_str();
    assert!(letters.iter().all(|letter| letter["key"] == key && letter["projection"] == "stock"), "{letters:?}");
    // Where it panicked, for whoever has to mend it.
    let error = letters[0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("overflow") && error.contains("stock.rs:"), "{letters:?}");
    assert!(letters[1]["error"].is_null(), "{letters:?}");
    assert_eq!(listed("").await, letters);
    one_page_after_the_other(&operator, &letters).await;
    operator.get("/v1/dead-letters?projection=stocks").await.problem_code(404, "not_found");
    operator.get("/v1/dead-letters/stock/some-key").await.problem_code(404, "not_found");

    let path = format!("/v1/dead-letters/stock/{key}");
    let shown = operator.get(&path).await.expect(200);
    assert_eq!(shown["event"]["payload"]["quantity"], i64::MAX, "{shown}");
    // Where it came from is opened for nobody here.
    let shown = daybook.login(Role::Admin).await.get(&path).await.expect(200);
    assert_eq!(shown["event"]["metadata"]["client"], json!({"sealed": true}), "{shown}");
    let first = operator.get(&format!("{path}?limit=1")).await.expect(200);
    let next = first["next"].as_str().expect("there is more");
    let second = operator.get(&format!("{path}?limit=1&cursor={next}")).await.expect(200);
    assert_eq!(
        [&first["data"][0]["position"], &second["data"][0]["position"]],
        [0, 1].map(|at| &letters[at]["position"])
    );
    assert_eq!((&second["next"], &second["event"]), (&Value::Null, &first["event"]));
    let shown = json_of(&daybook.cli(&["dead-letter", "show", "stock", key, "--json"]));
    assert_eq!(
        (shown["data"].as_array().map(Vec::len), &shown["event"]["type"]),
        (Some(2), &json!("stock.received"))
    );
    assert_eq!(json_of(&daybook.cli(&["dead-letter", "list", "--json"])), json!(letters));
    let gauge = "daybook_projection_dead_letters{projection=\"stock\"} 2";
    wait_for(gauge, LIMIT, async || daybook.metrics().await.contains(gauge).then_some(())).await;

    // What is wrong with it is as wrong as it was.
    let retried = daybook.cli(&["dead-letter", "retry", "stock", key]);
    assert_eq!(retried.status.code(), Some(1), "{retried:?}");
    assert!(retried.stderr.contains("still has dead letters"), "{retried:?}");
    let (first, second) = (&letters[0]["position"], &letters[1]["position"]);
    let before = stock(&operator, key).await;
    let skip =
        async |position: &Value| operator.post(&format!("{path}/skip"), &json!({"position": position})).await;
    skip(second).await.problem_code(409, "not_possible");
    let accepted = skip(first).await.expect(202);
    let after = operator.fresh("stock", key, &accepted).await.expect(200)["data"].clone();
    assert_eq!(after["on_hand"].as_i64(), before["on_hand"].as_i64().map(|count| count + 1));
    assert!(listed("").await.is_empty());
    operator.post(&format!("{path}/retry"), &json!({})).await.problem_code(409, "not_possible");

    // A rebuild passes it over where the operator did.
    let built = json_of(&verb(daybook.store(), &["projection", "rebuild", "stock", "--json"]).await);
    assert_eq!((&built["phase"], &built["report"]["differing"]), (&json!("live"), &json!(0)), "{built}");
    assert_eq!(stock(&operator, key).await, after);
    let acts = operator.events("stream=daybook.projection-stock").await;
    let actors: Vec<_> = acts.iter().map(|act| (&act["type"], &act["metadata"]["actor"])).collect();
    assert_eq!(actors[0], (&json!("daybook.dead_letter.retried"), &json!("system:cli")));
    assert_eq!(actors[1].0, "daybook.dead_letter.skipped");
    assert_ne!(actors[1].1, "system:cli");
}

async fn one_page_after_the_other(operator: &Client, letters: &[Value]) {
    let first = operator.get("/v1/dead-letters?limit=1").await.expect(200);
    let next = first["next"].as_str().expect("there is more");
    let second = operator.get(&format!("/v1/dead-letters?limit=1&cursor={next}")).await.expect(200);
    assert_eq!([&first["data"][0], &second["data"][0]], [&letters[0], &letters[1]]);
    assert_eq!(second["next"], Value::Null);
    let elsewhere = operator.get(&format!("/v1/dead-letters?projection=stock&cursor={next}")).await;
    elsewhere.problem_code(400, "invalid_parameter");
}

async fn stock(client: &Client, key: &str) -> Value {
    client.get(&format!("/v1/views/stock/{key}")).await.expect(200)["data"].clone()
}

/// What there is to know of a generation that is built, but for how far it is and who works on it.
fn state(building: &Value) -> Value {
    ["generation", "version", "phase", "paused"].map(|field| building[field].clone()).as_slice().into()
}

/// Runs a verb that takes a while.
async fn verb(store: &Arc<Store>, args: &'static [&'static str]) -> Output {
    let store = store.clone();
    spawn_blocking(move || store.cli(args)).await.expect("no panic")
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
