//! One system as several processes, on PostgreSQL.

use daybook_tests::{Backend, Customer, Daybook, Product, Role, assert_counted_once};
use reqwest::Method;

const API: &[&str] = &["serve", "--roles", "api"];
const PROJECTOR: &[&str] = &["serve", "--roles", "projector"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_views_work_with_the_roles_in_two_processes() {
    let daybook = Daybook::start(Daybook::seeded(Backend::Postgres).await, API).await;
    let mut projector = daybook.worker(PROJECTOR).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let customer = Customer::register(&daybook.client()).await;
    let first = customer.order(&product.order(1)).send().await.expect(200);
    customer.client.order(&first).await.expect(200);

    // Without its projector the log goes on, and the view says honestly how far it is.
    assert!(projector.terminate().await.success());
    let second = customer.order(&product.order(1)).send().await.expect(200);
    let path = format!("/v1/views/orders/{}", second["id"].as_str().expect("an id"));
    let fresh = customer.client.request(Method::GET, &format!("{path}?min_position={}", second["position"]));
    let problem = fresh.send().await.problem_code(503, "not_yet");
    assert!(problem["position"].as_u64() < second["position"].as_u64(), "{problem}");

    let _projector = daybook.worker(PROJECTOR).await;
    assert_eq!(customer.client.order(&second).await.expect(200)["data"]["status"], "placed");
    assert_counted_once(&customer, &product, 2, 2, &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_projectors_do_not_get_in_each_others_way() {
    let daybook = Daybook::demo(Backend::Postgres).await;
    let _beside = daybook.worker(PROJECTOR).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 100).await;
    let customer = Customer::register(&daybook.client()).await;
    for placed in 1..=20 {
        let receipt = customer.order(&product.order(2)).send().await.expect(200);
        assert_counted_once(&customer, &product, placed, 2 * placed, &receipt).await;
    }
}
