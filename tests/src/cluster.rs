//! Daybook as a production has it: several processes behind a proxy.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::{Backend, Client, Daybook, Role, Store, Topic, Worker, wait_for};

/// How long the projectors may take to catch up.
const LIMIT: Duration = Duration::from_secs(30);

/// There is one proxy for all tests.
static TURN: Mutex<()> = Mutex::const_new(());

/// Two API processes behind nginx, two projectors and two relays, on a store of a test's own with a shop in it.
#[derive(Debug)]
pub struct Cluster {
    projectors: [Worker; 2],
    _relays: [Worker; 2],
    topic: Topic,
    /// The API processes. Started again, they have the same addresses.
    pub apis: [Daybook; 2],
    url: String,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts one, as soon as no other test has one.
    ///
    /// # Panics
    ///
    /// When there is no proxy, or a process does not become ready.
    pub async fn start() -> Self {
        let proxy = std::env::var("DAYBOOK_TEST_PROXY").expect(
            "DAYBOOK_TEST_PROXY is not set: `cargo xtask test` starts an nginx and sets it, where there are nginx and jq \
             (Debian, Ubuntu: apt-get install nginx-light jq)",
        );
        let addresses: Vec<_> = proxy.split(',').collect();
        let [proxy, one, other] = addresses[..] else {
            panic!("DAYBOOK_TEST_PROXY is three addresses, not {proxy}")
        };
        let turn = TURN.lock().await;
        let store = Daybook::seeded(Backend::Postgres).await;
        let apis = [api(&store, one).await, api(&store, other).await];
        let projectors = [projector(&apis[0]).await, projector(&apis[0]).await];
        let topic = Topic::default();
        let relays = [relay(&apis[0], &topic).await, relay(&apis[0], &topic).await];
        let cluster =
            Self { projectors, _relays: relays, topic, apis, url: format!("http://{proxy}"), _turn: turn };
        cluster.caught_up().await;
        cluster
    }

    /// Somebody who is not signed in, and sees the proxy alone.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// The demonstration's user with this role, signed in.
    pub async fn login(&self, role: Role) -> Client {
        self.apis[0].login_at(&self.client(), role).await
    }

    /// The topic that the log is published to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Kills a projector, and starts another one.
    ///
    /// # Panics
    ///
    /// When that does not come up.
    pub async fn replace_projector(&mut self, number: usize) {
        self.projectors[number].kill();
        self.projectors[number] = projector(&self.apis[0]).await;
    }

    /// Waits until all views are as far as the log.
    ///
    /// # Panics
    ///
    /// When that takes too long.
    pub async fn caught_up(&self) {
        wait_for("all views to be as far as the log", LIMIT, async || {
            let status: Value =
                serde_json::from_str(&self.apis[0].cli(&["status", "--json"]).stdout).expect("JSON");
            let projections = status["projections"].as_array().expect("projections");
            projections.iter().all(|one| one["lag_events"] == 0 && one["stopped"].is_null()).then_some(())
        })
        .await;
    }
}

async fn api(store: &Arc<Store>, address: &str) -> Daybook {
    let args = ["serve", "--roles", "api", "--listen", address, "--trusted-proxies", "127.0.0.1"];
    Daybook::start(store.clone(), &args).await
}

async fn projector(daybook: &Daybook) -> Worker {
    daybook.worker(&["serve", "--roles", "projector"]).await
}

async fn relay(daybook: &Daybook, topic: &Topic) -> Worker {
    daybook.worker(&topic.published_by(&["serve", "--roles", "relay"], &Topic::brokers())).await
}
