//! What a newcomer does first.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use daybook_tests::{Backend, Customer, Daybook, Product, Role, Store, on_both, wait_for};
use serde_json::{Value, json};

/// How long the views may take to show what was seeded.
const LIMIT: Duration = Duration::from_secs(30);

on_both!(the_tour_is_as_told);

/// In the order in which a newcomer would do it, on one server.
async fn the_tour_is_as_told(backend: Backend) {
    let mut daybook = Daybook::start(Arc::new(Store::new(backend).await), &["demo"]).await;
    it_is_ready_once_it_is_seeded(&daybook).await;
    the_demonstration_shows_a_shop(&daybook).await;
    the_lines_to_paste_work(&daybook).await;
    an_order_is_placed_read_and_cancelled(&daybook).await;
    a_restart_goes_on_where_it_was(&mut daybook).await;
}

async fn it_is_ready_once_it_is_seeded(daybook: &Daybook) {
    let seeded = daybook.login(Role::Analyst).await.events("type=daybook.demo.seeded").await;
    let [seeded] = seeded.as_slice() else { panic!("seeded once, not {seeded:?}") };
    // The first yes says where the log was then, so what came after it does not hide that it came too early.
    let ready = daybook.first_ready();
    assert!(seeded["position"].as_u64() <= ready["position"].as_u64(), "{seeded} is not in the log at {ready}");
    assert!(ready["position"].is_u64(), "{ready}");
}

async fn the_demonstration_shows_a_shop(daybook: &Daybook) {
    let mut roles: Vec<_> = daybook.demo_users().iter().map(|user| format!("{:?}", user.role)).collect();
    roles.sort();
    assert_eq!(roles, ["Admin", "Analyst", "Customer", "Operator", "Staff"]);
    let file = std::fs::metadata(daybook.store().data().join("demo.json")).expect("it is there");
    assert_eq!(file.permissions().mode() & 0o777, 0o600, "the passwords are for the owner's eyes");

    let (anyone, staff) = (daybook.client(), daybook.login(Role::Staff).await);
    for (client, view, documents) in [
        (&anyone, "products", 15..30),
        (&anyone, "stock", 15..30),
        (&staff, "orders", 50..51),
        (&staff, "customers", 5..30),
    ] {
        let path = format!("/v1/views/{view}?limit=100");
        wait_for(&format!("{documents:?} documents in `{view}`"), LIMIT, async || {
            let page = client.get(&path).await.expect(200);
            documents.contains(&page["data"].as_array().map_or(0, Vec::len)).then_some(())
        })
        .await;
    }

    let output = daybook.printed("Ctrl-C ends it").await;
    for user in daybook.demo_users() {
        assert!(output.contains(&user.email) && output.contains(&user.password), "no {:?}:\n{output}", user.role);
    }
}

async fn the_lines_to_paste_work(daybook: &Daybook) {
    let output = daybook.printed("Ctrl-C ends it").await;
    let lines: Vec<_> = output.lines().filter(|line| line.contains("curl ")).collect();
    assert_eq!(lines.len(), 4, "{output}");
    let pasted = Command::new("sh").args(["-c", &lines.join("\n")]).output().expect("there is a shell");
    let shown = String::from_utf8_lossy(&pasted.stdout).replace("\": ", "\":");
    let errors = String::from_utf8_lossy(&pasted.stderr);
    assert!(pasted.status.success(), "the lines need `curl` and work with it: {shown}{errors}");
    for part in ["\"command_id\"", "\"status\":\"placed\"", "\"order.placed\""] {
        assert!(shown.contains(part), "no {part}: {shown}{errors}");
    }
}

async fn an_order_is_placed_read_and_cancelled(daybook: &Daybook) {
    let product = Product::create(&daybook.login(Role::Staff).await, 1_250, 5).await;
    let customer = Customer::register(&daybook.client()).await;

    let placed = customer.order(&product.order(2)).send().await.expect(200);
    let id = placed["id"].as_str().expect("an id");
    let stream = format!("order-{id}");
    let own: Vec<_> = events_of(&placed, &stream);
    assert_eq!(own.len(), 1);
    assert_eq!((&own[0]["type"], &own[0]["revision"]), (&json!("order.placed"), &json!(1)));

    let document = customer.client.order(&placed).await.expect(200);
    assert_eq!(document["data"]["status"], "placed");
    assert_eq!(document["data"]["total"], json!({"amount": 2 * product.price, "currency": "EUR"}));
    assert_eq!(document["data"]["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!(document["revision"], 1);
    assert!(document["position"].as_u64() >= placed["position"].as_u64());

    let cancelled = customer.client.receipt("order.cancel", &json!({"order_id": id})).await;
    assert_eq!(cancelled["id"], id);
    assert_eq!(customer.client.order(&cancelled).await.expect(200)["data"]["status"], "cancelled");

    let history = daybook.login(Role::Analyst).await.events(&format!("stream={stream}")).await;
    let types: Vec<_> = history.iter().map(|event| event["type"].as_str()).collect();
    assert_eq!(types, [Some("order.placed"), Some("order.cancelled")]);

    // What was cancelled is in stock again: all five can be had.
    customer.order(&product.order(5)).send().await.expect(200);
    customer.order(&product.order(1)).send().await.problem_code(422, "out_of_stock");
}

async fn a_restart_goes_on_where_it_was(daybook: &mut Daybook) {
    let users = daybook.demo_users();
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 3).await;
    let customer = Customer::register(&daybook.client()).await;
    let placed = customer.order(&product.order(3)).send().await.expect(200);
    let before = daybook.login(Role::Analyst).await.events("limit=100").await;

    assert!(daybook.terminate().await.success(), "SIGTERM is a clean end");
    daybook.restart().await;

    assert_eq!(daybook.demo_users(), users, "the demo users stay valid");
    let client = daybook.known_to(&customer.client);
    assert_eq!(client.order(&placed).await.expect(200)["data"]["status"], "placed");
    client.command("order.place", &product.order(1)).send().await.problem_code(422, "out_of_stock");
    let after = daybook.login(Role::Analyst).await.events("limit=100").await;
    assert_eq!(after[..before.len()], before, "the history is the same");
    let placed_again =
        after[before.len()..].iter().filter(|event| event["type"] == "order.placed").collect::<Vec<_>>();
    assert!(placed_again.is_empty(), "seeded twice: {placed_again:?}");
}

fn events_of(receipt: &Value, stream: &str) -> Vec<Value> {
    let events = receipt["events"].as_array().expect("a receipt has events");
    events.iter().filter(|event| event["stream"] == stream).cloned().collect()
}
