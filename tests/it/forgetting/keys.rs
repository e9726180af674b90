//! Master keys, as operators handle them.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use daybook_tests::{Backend, Customer, Daybook, Role, Store, on_both};
use serde_json::{Value, json};

on_both!(a_master_key_is_rotated_beside_a_running_server);

async fn a_master_key_is_rotated_beside_a_running_server(backend: Backend) {
    let mut daybook = Daybook::start(Arc::new(Store::new(backend).await), &["demo"]).await;
    daybook.printed("warning: made a master key in").await;
    let path = daybook.store().data().join("master.key");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let old = std::fs::read_to_string(&path).expect("it is there");
    let customer = Customer::register(&daybook.client()).await;

    let rotated = daybook.cli(&["keys", "rotate", "--json"]);
    assert!(rotated.status.success(), "{rotated:?}");
    let rotated: Value = serde_json::from_str(&rotated.stdout).expect("JSON");
    assert_ne!(rotated["from"], rotated["to"]);
    assert_eq!(rotated["drawn"], true);
    assert!(rotated["rewrapped"].as_u64().is_some_and(|count| count > 10), "{rotated}");
    let new = std::fs::read_to_string(&path).expect("it is there");
    assert!(new.lines().count() == 1 && new != old, "the old one is gone");

    // The server goes on, with those it knows and with new ones, and so does the next.
    let newcomer = Customer::register(&daybook.client()).await;
    for restart in [false, true] {
        if restart {
            assert!(daybook.terminate().await.success());
            daybook.restart().await;
        }
        let staff = daybook.login(Role::Staff).await;
        for customer in [&customer, &newcomer] {
            let seen = staff.get(&format!("/v1/views/customers/{}", customer.account_id)).await.expect(200);
            assert_eq!(seen["data"]["email"], customer.email.as_str());
        }
    }

    // With the old one, or none, nothing starts, and what is missing is said.
    assert!(daybook.terminate().await.success());
    std::fs::write(&path, old).expect("written");
    let to = rotated["to"].as_str().expect("an id");
    let refused = Daybook::refused(daybook.store(), &["serve"]).await;
    assert!(!refused.status.success() && refused.stderr.contains(to), "{refused:?}");
    std::fs::remove_file(&path).expect("removed");
    let refused = Daybook::refused(daybook.store(), &["serve"]).await;
    assert!(!refused.status.success() && refused.stderr.contains("DAYBOOK_MASTER_KEY"), "{refused:?}");
    assert!(!path.exists(), "another one would not help");
    std::fs::write(&path, new).expect("written");
    daybook.restart().await;
    daybook.login(Role::Staff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_server_needs_a_master_key_and_says_when_keys_and_log_share_backups() {
    let store = Arc::new(Store::new(Backend::Postgres).await);
    let refused = Daybook::refused(&store, &["serve"]).await;
    assert!(!refused.status.success(), "{refused:?}");
    assert!(refused.stderr.contains("DAYBOOK_MASTER_KEY") && refused.stderr.contains("openssl"), "{refused:?}");
    assert_eq!(std::fs::read_dir(store.data()).expect("the folder").count(), 0, "nothing was made");

    store.give_master_key();
    let daybook = Daybook::start(store, &["serve"]).await;
    assert!(daybook.logged("KEYS_DATABASE_URL").await.contains("WARN"), "it is not silent about it");
    let config = daybook.cli(&["config", "--json"]);
    let config: Vec<Value> = serde_json::from_str(&config.stdout).expect("JSON");
    let shown = config.iter().find(|setting| setting["key"] == "master_key_file").expect("it is listed");
    assert_eq!(shown["value"], json!(null), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_never_says_that_the_current_master_key_is_not_needed() {
    let mut daybook = Daybook::start(Arc::new(Store::new(Backend::Sqlite).await), &["demo"]).await;
    assert!(daybook.terminate().await.success());
    let store = daybook.store();
    let old = std::fs::read_to_string(store.data().join("master.key")).expect("it is there");
    let (old, new) = (old.trim().to_owned(), "02".repeat(32));
    let both = format!("{new},{old}");
    let rotations =
        [&old, &old, &both, &both].map(|keys| format!("DAYBOOK_MASTER_KEY={keys} daybook keys rotate"));
    let said = store.shell(&format!("PATH=target/release:$PATH; {}", rotations.join(" && ")));
    assert!(said.status.success(), "{said:?}");
    let said: Vec<_> = said.stdout.lines().collect();
    let ids: Vec<_> = said.iter().step_by(2).filter_map(|line| line.rsplit(' ').next()).collect();
    let [old, _, new, again] = ids[..] else { panic!("{said:?}") };
    assert!(old != new && new == again, "{said:?}");

    // With one alone there is nothing to rotate to; done again, as after one that broke off, the same one is named.
    assert_eq!(
        said[3],
        format!("{old} is the only master key that is given: to rotate, put a new one in front of it")
    );
    for line in [said[5], said[7]] {
        assert_eq!(line, format!("need not be given any more: {old}"));
    }
}
