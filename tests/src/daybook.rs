//! A running Daybook.

use std::process::ExitStatus;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::process::Process;
use crate::{Backend, Client, Output, Store, wait_for};

/// How long it may take until all is migrated, seeded and ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// The roles that a demonstration has a user for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees and does what is their own.
    Customer,
    /// Works in the business.
    Staff,
    /// Reads the history.
    Analyst,
    /// Runs the system.
    Operator,
    /// May do everything.
    Admin,
}

/// A user of the demonstration, from `demo.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DemoUser {
    /// The e-mail address.
    pub email: String,
    /// The password.
    pub password: String,
    /// The role.
    pub role: Role,
}

#[derive(Deserialize)]
struct Demo {
    users: Vec<DemoUser>,
}

/// A running server, and the store that it runs on.
#[derive(Debug)]
pub struct Daybook {
    // Before the store: the process goes first.
    process: Process,
    store: Arc<Store>,
    args: Vec<String>,
    base_url: String,
    metrics_url: String,
    first_ready: Value,
}

impl Daybook {
    /// Starts a demonstration on a store of its own that is [`seeded`](Self::seeded), and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub async fn demo(backend: Backend) -> Self {
        Self::start(Self::seeded(backend).await, &["demo"]).await
    }

    /// A store of a test's own on which a demonstration ran until it was ready. It is seeded once and then copied, as long
    /// as one of the copies is there.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub async fn seeded(backend: Backend) -> Arc<Store> {
        static SEEDED: [Mutex<Weak<Store>>; 2] = [const { Mutex::const_new(Weak::new()) }; 2];
        let mut seeded = SEEDED[backend as usize].lock().await;
        let original = match seeded.upgrade() {
            Some(original) => original,
            None => {
                let mut daybook = Self::start(Arc::new(Store::new(backend).await), &["demo"]).await;
                assert!(daybook.terminate().await.success(), "{}", daybook.output());
                *seeded = Arc::downgrade(&daybook.store);
                daybook.store.clone()
            }
        };
        drop(seeded);
        Arc::new(Store::copy(original).await)
    }

    /// Starts a server (`["demo"]`, `["serve", "--roles", "api"]`) on a store, and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub async fn start(store: Arc<Store>, args: &[&str]) -> Self {
        let mut process = launch(&store, args);
        let base_url = process.printed("listening on ").await;
        let metrics_url = process.printed("metrics on ").await;
        let args = args.iter().map(ToString::to_string).collect();
        let first_ready = ready(&mut process, &base_url).await;
        Self { process, store, args, base_url, metrics_url, first_ready }
    }

    /// Starts a server that has to refuse to, and answers how it ended.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn refused(store: &Store, args: &[&str]) -> Output {
        let mut process = launch(store, args);
        let status = process.ended().await;
        Output { status, stdout: process.stdout(), stderr: process.stderr() }
    }

    /// Runs a verb of the command line that needs no server, and maybe no store either.
    pub fn verb(store: &Store, args: &[&str]) -> Output {
        Process::run(store, args, "")
    }

    /// What `/health/ready` said when it first said yes.
    pub fn first_ready(&self) -> &Value {
        &self.first_ready
    }

    /// Starts a process beside it that serves no HTTP (`["serve", "--roles", "projector"]`), on the same store.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub async fn worker(&self, args: &[&str]) -> Worker {
        let mut process = launch(&self.store, args);
        process.printed("metrics on ").await;
        Worker(process)
    }

    /// Starts a verb that goes on until it is ended (`["events", "tail", "--follow"]`) on the same store, and waits until it
    /// has printed a line that begins with `before`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn begin_verb(&self, args: &[&str], before: &str) -> Worker {
        let mut verb = self.spawn_verb(args);
        verb.0.printed(before).await;
        verb
    }

    /// Starts a verb, and waits for nothing.
    pub fn spawn_verb(&self, args: &[&str]) -> Worker {
        Worker(Process::start(&self.store, args))
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to end with SIGTERM, and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().await
    }

    /// Asks it to end with SIGTERM. See [`ended`](Self::ended).
    ///
    /// # Panics
    ///
    /// When it has ended already.
    pub fn ask_to_end(&self) {
        self.process.ask_to_end();
    }

    /// Waits until it has ended. All that it has written is known then.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Starts it again on the same store, after [`kill`](Self::kill) or [`terminate`](Self::terminate). It has new
    /// addresses then.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub async fn restart(&mut self) {
        self.process.kill();
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        self.process = launch(&self.store, &args);
        self.base_url = self.process.printed("listening on ").await;
        self.metrics_url = self.process.printed("metrics on ").await;
        self.first_ready = ready(&mut self.process, &self.base_url).await;
    }

    /// Runs a verb of the command line beside it, on the same store.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_with_input(args, "")
    }

    /// The same, with something on the verb's standard input.
    pub fn cli_with_input(&self, args: &[&str], input: &str) -> Output {
        Process::run(&self.store, args, input)
    }

    /// Where its metrics are.
    pub fn metrics_url(&self) -> &str {
        &self.metrics_url
    }

    /// Its store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// All that it has printed, once it has printed `text`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn printed(&self, text: &str) -> String {
        let printed = async || Some(self.process.stdout()).filter(|output| output.contains(text));
        wait_for(text, READY_LIMIT, printed).await
    }

    /// All that it has logged, once it has logged `text`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn logged(&self, text: &str) -> String {
        let logged = async || Some(self.process.stderr()).filter(|log| log.contains(text));
        wait_for(text, READY_LIMIT, logged).await
    }

    /// All that it has printed and logged so far.
    pub fn output(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// `client` with where it listens now.
    pub fn known_to(&self, client: &Client) -> Client {
        client.at(&self.base_url)
    }

    /// Its metrics.
    pub async fn metrics(&self) -> String {
        let answer = Client::new(&self.metrics_url).get("").await;
        assert_eq!(answer.status, 200, "{answer}");
        answer.body
    }

    /// The users of the demonstration, one of each role.
    ///
    /// # Panics
    ///
    /// When it is no demonstration.
    pub fn demo_users(&self) -> Vec<DemoUser> {
        let text = std::fs::read(self.store.data().join("demo.json")).expect("a demonstration writes demo.json");
        serde_json::from_slice::<Demo>(&text).expect("demo.json is as documented").users
    }

    /// Somebody who is not signed in.
    pub fn client(&self) -> Client {
        Client::new(&self.base_url)
    }

    /// The demonstration's user with this role, signed in.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn login(&self, role: Role) -> Client {
        self.login_at(&self.client(), role).await
    }

    /// The same, at another server of the same system.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn login_at(&self, client: &Client, role: Role) -> Client {
        let user = self.demo_users().into_iter().find(|user| user.role == role);
        let user = user.unwrap_or_else(|| panic!("no demo user is {role:?}"));
        client.login(&user.email, &user.password).await
    }
}

/// A process without HTTP, beside a server. Dropping it kills it.
#[derive(Debug)]
pub struct Worker(Process);

impl Worker {
    /// Asks it to end with SIGTERM, and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.0.terminate().await
    }

    /// Its metrics.
    ///
    /// # Panics
    ///
    /// When it has none.
    pub async fn metrics(&mut self) -> String {
        let answer = Client::new(&self.0.printed("metrics on ").await).get("").await;
        assert_eq!(answer.status, 200, "{answer}");
        answer.body
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Freezes it where it is, until it [thaws](Self::thaw).
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn freeze(&self) {
        self.0.signal("STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn thaw(&self) {
        self.0.signal("CONT");
    }

    /// Waits until it has logged one of these.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn logged_any(&self, texts: &[&str]) {
        let logged = async || texts.iter().any(|text| self.0.stderr().contains(text)).then_some(());
        wait_for(&texts.join(" or "), READY_LIMIT, logged).await;
    }

    /// Waits until it has logged `text`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn logged(&self, text: &str) {
        self.logged_any(&[text]).await;
    }

    /// Interrupts it, as Ctrl-C does, and waits until it has ended.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn interrupt(&mut self) -> Output {
        self.0.signal("INT");
        self.ended().await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn ended(&mut self) -> Output {
        let status = self.0.ended().await;
        Output { status, stdout: self.0.stdout(), stderr: self.0.stderr() }
    }
}

/// On any free port, where `args` name none.
fn launch(store: &Store, args: &[&str]) -> Process {
    let free = ["--listen", "--metrics-listen"].into_iter().filter(|setting| !args.contains(setting));
    let addresses: Vec<_> = free.flat_map(|setting| [setting, "127.0.0.1:0"]).collect();
    Process::start(store, &[args, &addresses].concat())
}

/// What `/health/ready` says when it first says yes.
async fn ready(process: &mut Process, base_url: &str) -> Value {
    let client = Client::new(base_url);
    wait_for("the server to be ready", READY_LIMIT, async || {
        process.assert_running();
        let answer = client.request(reqwest::Method::GET, "/health/ready").try_send().await;
        answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.json())
    })
    .await
}
