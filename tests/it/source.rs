//! Views that are fed by Kafka.

use std::time::Duration;

use daybook_tests::{Backend, Topic, Worker, on_both, wait_for};
use serde_json::{Value, json};

use crate::relay::Shop;

on_both!(
    what_kafka_has_is_read_there_and_nowhere_else,
    one_that_slept_reads_on_where_it_was,
    what_kafka_does_not_have_any_more_is_read_from_the_log,
    what_cannot_be_read_in_kafka_is_read_from_the_log,
    what_kafka_gets_late_is_read_from_the_log,
    without_kafka_views_go_on,
    what_is_rebuilt_goes_on_in_kafka,
);

const LIMIT: Duration = Duration::from_secs(30);
const API: &[&str] = &["serve", "--roles", "api"];
const PROJECTOR: &[&str] = &["serve", "--roles", "projector", "--source", "kafka"];

/// A shop whose log is in a topic, and a projector that reads it there.
struct Fed {
    shop: Shop,
    topic: Topic,
    relay: Worker,
    projector: Worker,
}

impl Fed {
    async fn open(backend: Backend) -> Self {
        // One that reads the log sees to it that what was there before is in the views.
        let shop = Shop::open_with(backend, API).await;
        let mut first = shop.daybook.worker(&["serve", "--roles", "projector"]).await;
        let topic = Topic::default();
        let relay = shop.relay(&topic).await;
        topic.holding_all_of(&shop.daybook).await;
        settled(&shop).await;
        assert!(first.terminate().await.success());
        let projector = project(&shop, &topic).await;
        Self { shop, topic, relay, projector }
    }

    /// Places orders, and sees them in the view.
    async fn order(&self, count: usize) {
        self.shop.order(count).await;
        settled(&self.shop).await;
    }

    /// How many events were read from Kafka and from the log, for all projections together.
    async fn read(&mut self) -> (u64, u64) {
        let metrics = self.projector.metrics().await;
        let from = |source: &str| {
            let label = format!("source=\"{source}\"");
            let lines = metrics.lines().filter(|line| line.starts_with("daybook_projection_read_events_total"));
            let counts = lines.filter(|line| line.contains(&label)).filter_map(|line| line.split(' ').next_back());
            counts.map(|count| count.parse::<u64>().expect("a count")).sum()
        };
        (from("kafka"), from("log"))
    }

    async fn sleep(&mut self) {
        assert!(self.projector.terminate().await.success());
    }

    async fn wake(&mut self) {
        self.projector = project(&self.shop, &self.topic).await;
    }

    /// The views are what the log says, to the byte.
    fn assert_true(&self) {
        for one in status(&self.shop)["projections"].as_array().expect("a list") {
            let name = one["name"].as_str().expect("a name");
            let verified = self.shop.daybook.cli(&["projection", "verify", "--full", name]);
            assert!(verified.status.success(), "{verified:?}");
        }
    }
}

async fn project(shop: &Shop, topic: &Topic) -> Worker {
    shop.daybook.worker(&topic.published_by(PROJECTOR, &Topic::brokers())).await
}

fn status(shop: &Shop) -> Value {
    serde_json::from_str(&shop.daybook.cli(&["status", "--json"]).stdout).expect("JSON")
}

/// Waits until all views are where the log ends.
async fn settled(shop: &Shop) {
    wait_for("all views to be where the log ends", LIMIT, async || {
        let status = status(shop);
        let projections = status["projections"].as_array().expect("a list");
        projections.iter().all(|one| one["lag_events"] == 0).then_some(())
    })
    .await;
}

/// Waits until the whole log was published.
async fn published(shop: &Shop) {
    let lag = async || (status(shop)["relays"][0]["lag_events"] == 0).then_some(());
    wait_for("the whole log to be published", LIMIT, lag).await;
}

async fn what_kafka_has_is_read_there_and_nowhere_else(backend: Backend) {
    let mut fed = Fed::open(backend).await;
    fed.order(20).await;
    let (kafka, log) = fed.read().await;
    assert!(kafka > 20 && log == 0, "{kafka} from Kafka, {log} from the log");
    let status = status(&fed.shop);
    assert_eq!(status["projections"][0]["sources"], json!(["kafka"]), "{status}");
    let told = fed.shop.daybook.cli(&["status"]).stdout;
    assert!(told.contains("reads kafka"), "{told}");
    fed.assert_true();
}

async fn one_that_slept_reads_on_where_it_was(backend: Backend) {
    let mut fed = Fed::open(backend).await;
    fed.order(5).await;
    fed.sleep().await;
    fed.shop.order(20).await;
    fed.topic.holding_all_of(&fed.shop.daybook).await;
    fed.wake().await;
    fed.order(5).await;
    let (kafka, log) = fed.read().await;
    assert!(kafka > 25 && log == 0, "{kafka} from Kafka, {log} from the log");
    fed.assert_true();
}

async fn what_kafka_does_not_have_any_more_is_read_from_the_log(backend: Backend) {
    let mut fed = Fed::open(backend).await;
    fed.sleep().await;
    fed.shop.order(20).await;
    fed.topic.holding_all_of(&fed.shop.daybook).await;
    fed.topic.delete_all().await;
    fed.shop.order(5).await;
    published(&fed.shop).await;
    fed.wake().await;
    settled(&fed.shop).await;
    let (_, log) = fed.read().await;
    assert!(log > 20, "{log} from the log");
    goes_on_in_kafka(&mut fed).await;
    fed.assert_true();
}

async fn what_cannot_be_read_in_kafka_is_read_from_the_log(backend: Backend) {
    let mut fed = Fed::open(backend).await;
    fed.sleep().await;
    let before = fed.topic.read().await.len() as u64;
    fed.shop.order(20).await;
    let mut records = fed.topic.holding_all_of(&fed.shop.daybook).await;
    // What nobody has read so far is damaged.
    fed.topic.delete_all().await;
    records.retain(|record| record.position() > before);
    for (nth, record) in records.iter_mut().enumerate() {
        match nth % 3 {
            0 => record.value = "{".to_owned(),
            1 => record.value = "[0]".to_owned(),
            _ => *record.headers.get_mut("ce_schemaversion").expect("it has one") = "99".to_owned(),
        }
    }
    fed.topic.publish(records).await;
    fed.wake().await;
    settled(&fed.shop).await;
    let (kafka, log) = fed.read().await;
    assert!(kafka > 20 && log > 20, "{kafka} from Kafka, {log} from the log");
    goes_on_in_kafka(&mut fed).await;
    fed.assert_true();
}

/// Sooner or later all is read from Kafka again.
async fn goes_on_in_kafka(fed: &mut Fed) {
    let until = std::time::Instant::now() + LIMIT;
    loop {
        let before = fed.read().await;
        fed.order(5).await;
        let after = fed.read().await;
        if after.0 > before.0 && after.1 == before.1 {
            return;
        }
        assert!(std::time::Instant::now() < until, "{before:?} {after:?}");
    }
}

async fn what_kafka_gets_late_is_read_from_the_log(backend: Backend) {
    let mut fed = Fed::open(backend).await;
    fed.order(5).await;
    assert!(fed.relay.terminate().await.success());
    let before = fed.read().await;
    let customer = &fed.shop.customer;
    for _ in 0..3 {
        let receipt = customer.order(&fed.shop.product.order(1)).send().await.expect(200);
        customer.client.order(&receipt).await.expect(200);
    }
    let after = fed.read().await;
    assert!(after.0 == before.0 && after.1 > before.1, "{before:?} {after:?}");
    fed.relay = fed.shop.relay(&fed.topic).await;
    goes_on_in_kafka(&mut fed).await;
    fed.assert_true();
}

async fn without_kafka_views_go_on(backend: Backend) {
    // Nobody listens there.
    let topic = Topic::default();
    let all = &["serve", "--roles", "api,projector", "--source", "kafka"];
    let shop = Shop::open_with(backend, &topic.published_by(all, "127.0.0.1:1")).await;
    for _ in 0..5 {
        let receipt = shop.customer.order(&shop.product.order(1)).send().await.expect(200);
        shop.customer.client.order(&receipt).await.expect(200);
    }
    let Shop { mut daybook, .. } = shop;
    assert!(daybook.terminate().await.success(), "it does not wait for Kafka");
}

async fn what_is_rebuilt_goes_on_in_kafka(backend: Backend) {
    let mut fed = Fed::open(backend).await;
    let ordering = fed.shop.keep_ordering();
    let rebuilt = fed.shop.daybook.cli(&["projection", "rebuild", "orders"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    ordering.abort();
    settled(&fed.shop).await;
    goes_on_in_kafka(&mut fed).await;
    fed.assert_true();
}
