//! Many want what there is little of.

use std::time::Duration;

use daybook_tests::{Answer, Backend, Customer, Daybook, Product, Role, on_both, wait_for};
use futures_util::future::join_all;
use serde_json::{Value, json};

on_both!(nothing_is_oversold_and_every_receipt_is_in_the_log);

const CLIENTS: usize = 64;
/// Hashing passwords is not what is tested: several clients share an account.
const ACCOUNTS: usize = 8;
const ORDERS_PER_CLIENT: usize = 4;
const SCARCE: i64 = 80;
const SCARCER: i64 = 30;
const LIMIT: Duration = Duration::from_secs(120);

async fn nothing_is_oversold_and_every_receipt_is_in_the_log(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    let staff = daybook.login(Role::Staff).await;
    let products = [Product::create(&staff, 100, SCARCE).await, Product::create(&staff, 200, SCARCER).await];
    let mut customers = Vec::new();
    for _ in 0..ACCOUNTS {
        customers.push(Customer::register(&daybook.client()).await);
    }

    let clients = (0..CLIENTS).map(|client| order_in_turn(&customers[client % ACCOUNTS], &products, client));
    let receipts: Vec<Value> = join_all(clients).await.into_iter().flatten().collect();

    let analyst = daybook.login(Role::Analyst).await;
    for receipt in &receipts {
        for event in receipt["events"].as_array().expect("a receipt has events") {
            let found = analyst.get(&format!("/v1/events/{}", event["position"])).await.expect(200);
            for member in ["type", "stream", "revision", "position"] {
                assert_eq!(found[member], event[member], "{receipt}");
            }
            assert_eq!(found["metadata"]["command_id"], receipt["command_id"]);
        }
    }
    let mut sold = [0, 0];
    let mut placed = 0;
    for customer in &customers {
        let orders = analyst.events(&format!("type=order.placed&actor={}&limit=100", customer.account_id)).await;
        placed += orders.len();
    }
    assert_eq!(placed, receipts.len(), "orders in the log without a receipt");
    for receipt in &receipts {
        let order = staff.order(receipt).await.expect(200);
        for line in order["data"]["lines"].as_array().expect("an order has lines") {
            let which = usize::from(line["product_id"] == products[1].id.as_str());
            sold[which] += line["quantity"].as_i64().expect("a line has a quantity");
        }
    }
    assert_eq!(sold, [SCARCE, SCARCER], "all is sold, and no more than there was");
}

/// Places one order after the other and answers the receipts. What is refused is refused for the one right reason.
async fn order_in_turn(customer: &Customer, products: &[Product; 2], client: usize) -> Vec<Value> {
    let mut receipts = Vec::new();
    for turn in 0..ORDERS_PER_CLIENT {
        // In turn the one, the other, and both: 85 orders of each kind, so that both sell out in any case.
        let wanted = match (client + turn) % 3 {
            0 => &products[..1],
            1 => &products[1..],
            _ => &products[..],
        };
        let lines: Vec<_> =
            wanted.iter().map(|product| json!({"product_id": product.id, "quantity": 1})).collect();
        let order = json!({"lines": lines});
        let answer = order_until_decided(customer, &order).await;
        if answer.status == 200 {
            receipts.push(answer.json());
        } else {
            answer.problem_code(422, "out_of_stock");
        }
    }
    receipts
}

/// Places an order, again when others were always faster (409): that is what the answer says to do.
async fn order_until_decided(customer: &Customer, order: &Value) -> Answer {
    wait_for("an order to be decided", LIMIT, async || {
        let answer = customer.order(order).send().await;
        if answer.status == 409 {
            answer.problem_code(409, "conflict");
            return None;
        }
        Some(answer)
    })
    .await
}
