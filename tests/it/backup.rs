//! Backups: made while everything goes on, restored into an empty store of either kind.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use daybook_tests::{
    Backend, Client, Customer, Daybook, Output, Product, Role, Store, assert_counted_once, on_both, wait_for,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

on_both!(
    what_was_backed_up_under_load_goes_on_in_the_other_store,
    readers_who_had_seen_more_are_told_and_go_on,
    whoever_was_forgotten_since_stays_forgotten,
);

const LIMIT: Duration = Duration::from_secs(60);

/// The folders of a backup.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("daybook-backup-").tempdir().expect("a temporary folder"))
    }

    fn log(&self) -> String {
        self.0.path().join("log").display().to_string()
    }

    fn keys(&self) -> String {
        self.0.path().join("keys").display().to_string()
    }
}

/// What a verb answered in JSON.
#[track_caller]
fn answered(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output:?}"))
}

/// Why a verb did not do it.
#[track_caller]
fn refused(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    &output.stderr
}

fn other(backend: Backend) -> Backend {
    match backend {
        Backend::Sqlite => Backend::Postgres,
        Backend::Postgres => Backend::Sqlite,
    }
}

/// What no backup has: the master key, and the passwords of the demonstration.
fn copy_secrets(from: &Store, to: &Store) {
    for name in ["master.key", "demo.json"] {
        std::fs::copy(from.data().join(name), to.data().join(name)).expect("copied");
    }
}

fn position(receipt: &Value) -> u64 {
    receipt["position"].as_u64().expect("a receipt has a position")
}

/// The events' lines of a backup.
fn lines(folder: &str) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events-")))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).expect("text");
    files.iter().flat_map(|path| read(path).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Places orders until it is told to stop; the receipts by their keys.
async fn place(
    customer: Customer,
    product: Product,
    placed: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
) -> HashMap<String, Value> {
    let mut receipts = HashMap::new();
    while !enough.load(Ordering::SeqCst) {
        let key = Uuid::new_v4().to_string();
        let receipt = customer.order(&product.order(1)).idempotency_key(&key).send().await.expect(200);
        receipts.insert(key, receipt);
        placed.fetch_add(1, Ordering::SeqCst);
    }
    receipts
}

async fn what_was_backed_up_under_load_goes_on_in_the_other_store(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 1_000_000).await;
    let mut customer = Customer::register(&daybook.client()).await;
    let folders = Folders::new();

    let (placed, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let placing = tokio::spawn(place(customer.clone(), product.clone(), placed.clone(), enough.clone()));
    let more = async |count: usize| {
        let before = placed.load(Ordering::SeqCst);
        let done = async || (placed.load(Ordering::SeqCst) >= before + count).then_some(());
        wait_for("more orders", LIMIT, done).await;
    };
    more(10).await;
    let back_up = || {
        tokio::task::block_in_place(|| {
            daybook.cli(&["backup", &folders.log(), "--keys", &folders.keys(), "--json"])
        })
    };
    let first = answered(&back_up());
    more(10).await;
    // What came since is added.
    let second = answered(&back_up());
    more(10).await;
    enough.store(true, Ordering::SeqCst);
    let receipts = placing.await.expect("no panic");
    daybook.kill();
    let end = position(&second["log"]);
    assert_eq!((&first["run"], &second["run"]), (&json!(1), &json!(2)));
    assert_eq!(second["new_events"], end - position(&first["log"]));
    let (backed_up, later): (Vec<_>, Vec<_>) = receipts.iter().partition(|(_, receipt)| position(receipt) <= end);
    assert!(!backed_up.is_empty() && later.len() >= 10, "{} and {}", backed_up.len(), later.len());

    let store = Arc::new(Store::new(other(backend)).await);
    copy_secrets(daybook.store(), &store);
    assert!(store.cli(&["restore", &folders.log(), "--keys", &folders.keys(), "--check"]).status.success());
    let restored = answered(&store.cli(&["restore", &folders.log(), "--keys", &folders.keys(), "--json"]));
    assert_eq!(
        (position(&restored["restored"]["log"]), &restored["restored"]["log"]["epoch"]),
        (end + 1, &json!(2))
    );
    let again = store.cli(&["restore", &folders.log()]);
    assert!(refused(&again).contains(&format!("ends at position {}", end + 1)), "{again:?}");

    let daybook = Daybook::start(store, &["serve"]).await;
    customer.client = daybook.known_to(&customer.client);
    // The first receipt again, where the log has it; another one, once, where it has not.
    let mut last = Value::Null;
    for (key, first) in &backed_up {
        let again = customer.order(&product.order(1)).idempotency_key(key).send().await.expect(200);
        assert_eq!(again, **first);
    }
    for (key, first) in &later {
        let again = customer.order(&product.order(1)).idempotency_key(key).send().await.expect(200);
        assert_ne!(again["id"], first["id"]);
        assert!(position(&again) > end + 1);
        last = again;
    }
    assert_counted_once(&customer, &product, receipts.len(), receipts.len(), &last).await;
    let shown =
        daybook.login(Role::Staff).await.get(&format!("/v1/views/customers/{}", customer.account_id)).await;
    assert_eq!(shown.expect(200)["data"]["email"], customer.email.as_str(), "the keys open what is sealed");

    // The log is the same to the byte, goes on densely, and says what happened to it.
    let copy = Folders::new();
    answered(&daybook.cli(&["backup", &copy.log(), "--json"]));
    let (before, after) = (lines(&folders.log()), lines(&copy.log()));
    assert_eq!(before.len() as u64, end);
    assert_eq!(after[..before.len()], before[..]);
    let said: Value = serde_json::from_str(&after[before.len()]).expect("JSON");
    assert_eq!((&said["type"], &said["payload"]["epoch"]), (&json!("daybook.log.restored"), &json!(2)));
    assert_eq!(said["payload"]["backup_position"], end);
    // It is another history of the log from here on.
    assert!(refused(&daybook.cli(&["backup", &folders.log()])).contains("another history"));
}

/// Where the views and keys of a log are, that is restored beside them.
fn beside(store: &Store) -> Vec<String> {
    match store.database_url() {
        None => Vec::new(),
        Some(url) => ["--views-database-url", &url, "--keys-database-url", &url].map(str::to_owned).to_vec(),
    }
}

/// An empty place for the log, with the views and keys of `store`.
async fn without_log(store: &Arc<Store>, backend: Backend) -> Arc<Store> {
    match backend {
        Backend::Sqlite => {
            for suffix in ["", "-wal", "-shm"] {
                // Those beside the file are gone when it was closed well.
                let _ = std::fs::remove_file(store.data().join(format!("log.db{suffix}")));
            }
            store.clone()
        }
        Backend::Postgres => {
            let empty = Arc::new(Store::new(backend).await);
            copy_secrets(store, &empty);
            empty
        }
    }
}

async fn readers_who_had_seen_more_are_told_and_go_on(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let product = Product::create(&daybook.login(Role::Staff).await, 100, 10).await;
    let mut customer = Customer::register(&daybook.client()).await;
    let kept = customer.order(&product.order(1)).send().await.expect(200);
    customer.client.order(&kept).await.expect(200);
    let folders = Folders::new();
    let inside = Path::new(&folders.log()).join("keys").display().to_string();
    assert!(refused(&daybook.cli(&["backup", &folders.log(), "--keys", &inside])).contains("apart"));
    let end = position(&answered(&daybook.cli(&["backup", &folders.log(), "--json"]))["log"]);
    let lost = customer.order(&product.order(2)).send().await.expect(200);
    customer.client.order(&lost).await.expect(200);
    assert!(daybook.terminate().await.success());

    let store = without_log(daybook.store(), backend).await;
    let beside = beside(daybook.store());
    let beside: Vec<_> = beside.iter().map(String::as_str).collect();
    damaged_backups_are_refused(&store, &folders);
    let without_kafka = ["--kafka-brokers", "127.0.0.1:1", "--without-kafka"];
    let log = folders.log();
    let restore = [&["restore", &log, "--json"], &without_kafka[..], &beside[..]].concat();
    let restored = answered(&store.cli(&restore));
    let readers = restored["restored"]["readers"].as_array().expect("a list").clone();
    let orders =
        readers.iter().find(|reader| reader["reader"] == "projection orders version 1").expect("it had read");
    assert!(orders["seen"].as_u64() >= Some(position(&lost)), "{orders}");
    assert_eq!(orders["beyond"].as_u64(), orders["seen"].as_u64().map(|seen| seen - end), "{orders}");
    assert!(orders["strayed"] == true && orders["goes_on_after"].as_u64() <= Some(end), "{orders}");

    let daybook = Daybook::start(store, &[&["serve"], &beside[..]].concat()).await;
    customer.client = daybook.known_to(&customer.client);
    let next = customer.order(&product.order(3)).send().await.expect(200);
    assert_counted_once(&customer, &product, 2, 4, &next).await;
    customer.client.order(&kept).await.expect(200);
    let gone =
        format!("/v1/views/orders/{}?min_position={}", lost["id"].as_str().expect("an id"), next["position"]);
    customer.client.request(Method::GET, &gone).header("Prefer", "wait=10").send().await.problem(404);
    let analyst = daybook.login(Role::Analyst).await;
    let said = analyst.events("type=daybook.log.restored").await;
    assert_eq!(said[0]["payload"]["readers"], json!(readers), "the log says so too");
}

/// Nothing happens to the store.
fn damaged_backups_are_refused(store: &Store, folders: &Folders) {
    let restore = || store.cli(&["restore", &folders.log()]);
    let events = Path::new(&folders.log()).join(format!("events-{:020}.ndjson", 1));
    let whole = std::fs::read_to_string(&events).expect("text");
    for damaged in [whole.replacen("order.placed", "order.plated", 1), whole[..whole.len() / 2].to_owned()] {
        std::fs::write(&events, damaged).expect("written");
        let output = restore();
        assert!(refused(&output).contains("is not the file that was backed up"), "{output:?}");
    }
    std::fs::write(&events, whole).expect("written");
    let empty = folders.0.path().join("empty");
    std::fs::create_dir(&empty).expect("made");
    let output = store.cli(&["restore", &empty.display().to_string()]);
    assert!(refused(&output).contains("there is no backup"), "{output:?}");
}

/// A key that comes back from a backup is deleted again, as the log says.
async fn whoever_was_forgotten_since_stays_forgotten(backend: Backend) {
    let mut daybook = Daybook::demo(backend).await;
    let customer = Customer::register(&daybook.client()).await;
    let staff = daybook.login(Role::Staff).await;
    let email = async |staff: &Client| {
        let seen = staff.get(&format!("/v1/views/customers/{}", customer.account_id)).await.expect(200);
        seen["data"]["email"].clone()
    };
    let folders = Folders::new();
    answered(&daybook.cli(&["backup", &folders.log(), "--keys", &folders.keys(), "--json"]));
    customer.client.receipt("customer.forget", &json!({})).await;
    assert_eq!(email(&staff).await, json!({"erased": true}));
    answered(&daybook.cli(&["backup", &folders.log(), "--json"]));
    assert!(daybook.terminate().await.success());

    let store = Arc::new(Store::new(backend).await);
    copy_secrets(daybook.store(), &store);
    let without = store.cli(&["restore", &folders.log()]);
    assert!(without.status.success() && without.stdout.contains("nobody can sign in"), "{without:?}");
    // In their own time, as long as nothing was started.
    answered(&store.cli(&["restore", "--keys", &folders.keys(), "--json"]));
    let daybook = Daybook::start(store, &["serve"]).await;
    assert_eq!(email(&daybook.login(Role::Staff).await).await, json!({"erased": true}));
}
