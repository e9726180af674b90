//! The log, published to a real Kafka.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daybook_tests::{
    Backend, Client, Customer, Daybook, Product, Record, Role, Store, Topic, Worker, on_both, wait_for,
};
use serde_json::Value;

on_both!(
    the_whole_log_is_published_in_order,
    another_takes_over_from_one_that_is_killed,
    one_that_was_frozen_publishes_nothing_more,
    without_kafka_all_else_goes_on,
    a_restored_log_is_published_on_in_its_new_epoch,
    what_only_the_brokers_know_of_is_told_when_a_log_is_restored,
);

/// How long it may take until another one publishes.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(10);

const API: &[&str] = &["serve", "--roles", "api,projector"];
const RELAY: &[&str] = &["serve", "--roles", "relay"];

/// A shop, with somebody who orders.
pub(super) struct Shop {
    pub(super) daybook: Daybook,
    pub(super) product: Product,
    pub(super) customer: Customer,
}

impl Shop {
    async fn open(backend: Backend) -> Self {
        Self::open_with(backend, API).await
    }

    pub(super) async fn open_with(backend: Backend, args: &[&str]) -> Self {
        let daybook = Daybook::start(Daybook::seeded(backend).await, args).await;
        let product = Product::create(&daybook.login(Role::Staff).await, 100, 10_000).await;
        let customer = Customer::register(&daybook.client()).await;
        Self { daybook, product, customer }
    }

    pub(super) async fn order(&self, count: usize) {
        for _ in 0..count {
            self.customer.order(&self.product.order(1)).send().await.expect(200);
        }
    }

    /// Goes on ordering until it is aborted.
    pub(super) fn keep_ordering(&self) -> tokio::task::JoinHandle<()> {
        let (client, order): (Client, Value) = (self.customer.client.clone(), self.product.order(1));
        tokio::spawn(async move {
            loop {
                client.command("order.place", &order).send().await.expect(200);
            }
        })
    }

    pub(super) async fn relay(&self, topic: &Topic) -> Worker {
        self.daybook.worker(&topic.published_by(RELAY, &Topic::brokers())).await
    }

    /// Which of the processes publishes, once one does that is none of `others`.
    async fn owner_but(&self, others: &[u32], topic: &Topic) -> u32 {
        wait_for("somebody to publish", TAKE_OVER_LIMIT, async || {
            let owner = published(&self.daybook, topic)["owner"].as_str()?.to_owned();
            let id = owner.split(' ').skip_while(|word| *word != "process").nth(1)?.parse().expect("an id");
            (!others.contains(&id)).then_some(id)
        })
        .await
    }

    /// The whole log lies in the topic, to the byte, and each stream's first occurrences in order.
    async fn is_in(&self, topic: &Topic) -> Vec<Record> {
        let records = topic.holding_all_of(&self.daybook).await;
        let tail = self.daybook.cli(&["events", "tail", "--json", "--lines", "100000"]);
        let lines: Vec<&str> = tail.stdout.lines().collect();
        let mut first: BTreeMap<u64, &Record> = BTreeMap::new();
        let mut newest: HashMap<&str, u64> = HashMap::new();
        for record in &records {
            let revision: u64 = record.header("ce_revision").parse().expect("a revision");
            let newest = newest.entry(&record.key).or_default();
            assert!(revision <= *newest + 1, "revision {revision} behind {newest}: {record:?}");
            *newest = revision.max(*newest);
            first.entry(record.position()).or_insert(record);
        }
        assert!(lines.len() >= first.len(), "nothing is there that is not in the log");
        for (record, line) in first.values().zip(lines) {
            assert_eq!(record.line(), line);
        }
        records
    }
}

/// How many messages tell of an event that another one tells of.
fn twice(records: &[Record]) -> usize {
    records.len() - records.iter().map(Record::position).collect::<BTreeSet<_>>().len()
}

/// What `daybook status` says of a topic.
fn published(daybook: &Daybook, topic: &Topic) -> Value {
    let status = daybook.cli(&["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    let relays = status["relays"].as_array().expect("a list").clone();
    relays.into_iter().find(|relay| relay["topic"] == topic.name()).unwrap_or_default()
}

async fn the_whole_log_is_published_in_order(backend: Backend) {
    let (shop, topic) = (Shop::open(backend).await, Topic::default());
    let mut first = shop.relay(&topic).await;
    let mut second = shop.relay(&topic).await;
    shop.order(20).await;
    let records = shop.is_in(&topic).await;
    let placed = records.iter().find(|record| record.header("ce_type") == "order.placed").expect("an order");
    let schema = format!("urn:daybook:schema:order.placed:{}", placed.header("ce_schemaversion"));
    let status: Value = serde_json::from_str(&shop.daybook.cli(&["status", "--json"]).stdout).expect("JSON");
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_source", &format!("urn:daybook:{}", status["log"]["id"].as_str().expect("an id"))),
        ("ce_subject", &placed.key),
        ("ce_dataschema", &schema),
        ("ce_epoch", "1"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(placed.header(name), value, "{name}");
    }
    let milliseconds = format!("{:03}", placed.timestamp % 1_000);
    assert_eq!(placed.header("ce_time").split('.').nth(1).map(|fraction| &fraction[..3]), Some(&*milliseconds));

    // Asked to end, whoever publishes gives the topic back, and nothing is published twice.
    let owner = shop.owner_but(&[], &topic).await;
    let (owning, waiting) = if first.id() == owner { (&mut first, &second) } else { (&mut second, &first) };
    assert!(owning.terminate().await.success());
    shop.order(5).await;
    assert_eq!(shop.owner_but(&[owner], &topic).await, waiting.id());
    assert_eq!(twice(&shop.is_in(&topic).await), 0);
}

async fn another_takes_over_from_one_that_is_killed(backend: Backend) {
    let (shop, topic) = (Shop::open(backend).await, Topic::default());
    let mut relays = [shop.relay(&topic).await, shop.relay(&topic).await];
    shop.order(5).await;
    let ordering = shop.keep_ordering();
    let owner = shop.owner_but(&[], &topic).await;
    relays.iter_mut().find(|relay| relay.id() == owner).expect("one of the two").kill();
    shop.owner_but(&[owner], &topic).await;
    ordering.abort();
    shop.order(5).await;
    shop.is_in(&topic).await;
}

async fn one_that_was_frozen_publishes_nothing_more(backend: Backend) {
    let (shop, topic) = (Shop::open(backend).await, Topic::default());
    let relays = [shop.relay(&topic).await, shop.relay(&topic).await];
    let ordering = shop.keep_ordering();
    let owner = shop.owner_but(&[], &topic).await;
    // One that is still about to shut others out at the broker would do so when it is thawed.
    wait_for("it to have published", TAKE_OVER_LIMIT, async || {
        published(&shop.daybook, &topic)["position"].as_u64().filter(|position| *position > 0)
    })
    .await;
    let frozen = relays.iter().find(|relay| relay.id() == owner).expect("one of the two");
    frozen.freeze();
    let next = shop.owner_but(&[owner], &topic).await;
    ordering.abort();
    shop.order(5).await;
    let before = twice(&shop.is_in(&topic).await);
    frozen.thaw();
    frozen.logged_any(&["somebody else publishes", "the relay could not go on"]).await;
    shop.order(5).await;
    assert_eq!(twice(&shop.is_in(&topic).await), before, "it publishes nothing more");
    assert_eq!(shop.owner_but(&[owner], &topic).await, next, "the other one goes on");
}

async fn without_kafka_all_else_goes_on(backend: Backend) {
    // Nobody listens there.
    let topic = Topic::default();
    let roles = &["serve", "--roles", "api,projector,relay"];
    let shop = Shop::open_with(backend, &topic.published_by(roles, "127.0.0.1:1")).await;
    shop.order(5).await;
    let receipt = shop.customer.order(&shop.product.order(1)).send().await.expect(200);
    shop.customer.client.order(&receipt).await.expect(200);
    let status = wait_for("the error", Duration::from_secs(30), async || {
        Some(published(&shop.daybook, &topic)).filter(|status| status["problem"].is_string())
    })
    .await;
    assert!(status["problem"].to_string().contains("127.0.0.1:1"), "{status}");
    assert_eq!(status["lag_events"], receipt["position"], "{status}");
    let told = shop.daybook.cli(&["status"]).stdout;
    assert!(told.contains(topic.name()) && told.contains("last error"), "{told}");
    let metrics = shop.daybook.metrics().await;
    let lag = metrics.lines().find(|line| line.starts_with("daybook_relay_lag_events")).expect("a lag");
    assert!(!lag.ends_with(" 0"), "{lag}");
    let Shop { mut daybook, .. } = shop;
    assert!(daybook.terminate().await.success(), "it does not wait for Kafka");
}

/// Backs a shop up; answers how to restore it, and where its log ends there.
fn back_up(shop: &Shop, folder: &Path) -> ([String; 4], u64) {
    let [log, keys] = ["log", "keys"].map(|name| folder.join(name).display().to_string());
    let backed_up = shop.daybook.cli(&["backup", &log, "--keys", &keys, "--json"]);
    let said: Value = serde_json::from_str(&backed_up.stdout).unwrap_or_else(|_| panic!("{backed_up:?}"));
    let end = said["log"]["position"].as_u64().expect("a position");
    (["restore".to_owned(), log, "--keys".to_owned(), keys], end)
}

/// An empty store that a shop can be restored into.
async fn elsewhere(shop: &Shop, backend: Backend) -> Store {
    let store = Store::new(backend).await;
    let master_key = |store: &Store| store.data().join("master.key");
    std::fs::copy(master_key(shop.daybook.store()), master_key(&store)).expect("it is there");
    store
}

async fn a_restored_log_is_published_on_in_its_new_epoch(backend: Backend) {
    let (shop, topic) = (Shop::open(backend).await, Topic::default());
    let mut relay = shop.relay(&topic).await;
    shop.order(5).await;
    shop.is_in(&topic).await;
    assert!(relay.terminate().await.success());
    let reached = published(&shop.daybook, &topic)["position"].as_u64().expect("a position");
    let folder = tempfile::tempdir().expect("a folder");
    let (restore, _) = back_up(&shop, folder.path());
    // Published, and not in the backup.
    let mut relay = shop.relay(&topic).await;
    shop.order(5).await;
    let before = shop.is_in(&topic).await.len();
    assert!(relay.terminate().await.success());
    let seen = published(&shop.daybook, &topic)["position"].as_u64().expect("a position");

    let store = elsewhere(&shop, backend).await;
    drop(shop);
    let in_the_dark = store.cli(&topic.published_by(&restore.each_ref().map(String::as_str), "127.0.0.1:1"));
    assert_eq!(in_the_dark.status.code(), Some(1), "{in_the_dark:?}");
    assert!(in_the_dark.stderr.contains("--without-kafka"), "{in_the_dark:?}");
    // Nothing was written. The new database has no trace of what was published: the topic tells.
    let brokers = Topic::brokers();
    let restored = store.cli(&topic.published_by(&restore.each_ref().map(String::as_str), &brokers));
    assert!(restored.status.success(), "{restored:?}");
    let (name, beyond) = (topic.name(), seen - reached);
    let said = format!(
        "relay {name}: had seen up to {seen}, {beyond} events beyond the backup; goes on behind {reached}, from the backup"
    );
    assert!(restored.stdout.contains(&said), "{restored:?}");
    let roles = &["serve", "--roles", "api,relay"];
    let mut daybook = Daybook::start(Arc::new(store), &topic.published_by(roles, &Topic::brokers())).await;
    let anew = wait_for("the event of the restore", Duration::from_secs(30), async || {
        let records = topic.read().await;
        records.into_iter().find(|record| record.header("ce_type") == "daybook.log.restored")
    })
    .await;
    assert_eq!((anew.header("ce_epoch"), anew.position()), ("2", reached + 1));
    assert_eq!(topic.read().await.len(), before + 1, "nothing is published again");
    assert!(daybook.terminate().await.success());
}

/// It was published to for the first time behind the backup, and the database is a new one: nobody but the brokers knows of it.
async fn what_only_the_brokers_know_of_is_told_when_a_log_is_restored(backend: Backend) {
    let (shop, topic) = (Shop::open(backend).await, Topic::default());
    shop.order(5).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (restore, end) = back_up(&shop, folder.path());
    let mut relay = shop.relay(&topic).await;
    shop.order(5).await;
    let seen = shop.is_in(&topic).await.iter().map(Record::position).max().expect("it is published");
    assert!(relay.terminate().await.success());
    let store = elsewhere(&shop, backend).await;
    drop(shop);

    let brokers = Topic::brokers();
    let restored = store.cli(&topic.published_by(&restore.each_ref().map(String::as_str), &brokers));
    assert!(restored.status.success(), "{restored:?}");
    let (name, beyond) = (topic.name(), seen - end);
    let said = format!("relay {name}: had seen up to {seen}, {beyond} events beyond the backup; begins anew");
    assert!(restored.stdout.contains(&said), "{restored:?}");
    let roles = &["serve", "--roles", "api,relay"];
    let mut daybook = Daybook::start(Arc::new(store), &topic.published_by(roles, &brokers)).await;
    let is_anew = |record: &Record| record.header("ce_epoch") == "2";
    let anew: BTreeSet<u64> = wait_for("the restored log to be published", Duration::from_secs(30), async || {
        let records = topic.read().await;
        let anew: BTreeSet<u64> = records.iter().filter(|record| is_anew(record)).map(Record::position).collect();
        anew.contains(&(end + 1)).then_some(anew)
    })
    .await;
    assert_eq!(anew, (1..=end + 1).collect(), "all of it, in the new epoch");
    assert!(daybook.terminate().await.success());
}
