//! What is decided ahead of the log, over an append that fails at that very moment.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, Event, NotLoaded, Position, Reads, Rejection, StreamId,
    event_set,
};
use daybook_database::testing::{Backend, run};
use daybook_database::{Database, Location, Options, Schema};
use daybook_dispatch::{Dispatcher, Request, Settings};
use daybook_keys::{Keys, MasterKeys};
use daybook_log::{Append, Log, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::block_in_place;
use tokio::time::timeout;
use uuid::Uuid;

/// An amount was added to a sum that was that much before.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Added {
    amount: i64,
    to: i64,
}

impl Event for Added {
    const TYPE: &'static str = "sum.added";
    const VERSION: u32 = 1;
}

event_set! {
    enum SumEvent { Added }
}

#[derive(Debug, Clone, Default)]
struct Sum(i64);

impl Aggregate for Sum {
    const CATEGORY: &'static str = "sum";
    type Event = SumEvent;

    fn apply(&mut self, SumEvent::Added(added): &SumEvent) {
        self.0 += added.amount;
    }
}

/// Where a decision says what it is made over, and waits before it is made.
#[derive(Debug)]
struct Gate {
    over: UnboundedSender<i64>,
    /// Waits for nothing once nobody holds it open.
    go: Mutex<mpsc::Receiver<()>>,
}

/// Adds an amount.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema, garde::Validate)]
struct Add {
    #[garde(skip)]
    amount: i64,
    #[serde(skip)]
    #[garde(skip)]
    gate: Option<Arc<Gate>>,
}

impl Command for Add {
    const NAME: &'static str = "sum.add";
    const ACCESS: Access = Access::anyone();
    type Model = Entity<Sum>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new("sum", 1)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(1)
    }

    fn handle(&self, sum: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        if let Some(gate) = &self.gate {
            // Whoever listens or holds it open may have gone on.
            let _ = gate.over.send(sum.0);
            let _ = block_in_place(|| gate.go.lock().expect("nobody panicked").recv());
        }
        Ok(Decision::new().emit(sum, Added { amount: self.amount, to: sum.0 }))
    }
}

/// A command that says what it is decided over, and what has it go on.
fn gated(amount: i64) -> (Add, UnboundedReceiver<i64>, mpsc::Sender<()>) {
    let ((over, decided), (go, gone)) = (unbounded_channel(), mpsc::channel());
    (Add { amount, gate: Some(Arc::new(Gate { over, go: Mutex::new(gone) })) }, decided, go)
}

async fn next(over: &mut UnboundedReceiver<i64>) -> i64 {
    timeout(Duration::from_secs(10), over.recv()).await.expect("in time").expect("it is decided")
}

async fn open(location: &Location) -> (Dispatcher, Log) {
    let database = Database::connect(location, &Options::default()).await.expect("the file opens");
    let masters = MasterKeys::parse(&"5e".repeat(32)).expect("a master key");
    let keys = Keys::open(&database, masters).await.expect("the keys open");
    let log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
    (Dispatcher::new(log.clone(), keys, Settings::default()), log)
}

async fn add(dispatcher: Dispatcher, add: Add) {
    dispatcher.run(Add::NAME, Add::ACCESS, &add, &Request::system("test")).await.expect("a receipt");
}

/// Nothing: it is answered after whatever was queued before it.
fn nothing() -> Append {
    let command_id = Uuid::now_v7();
    Append {
        id: "1".into(),
        command_id,
        events: Vec::new(),
        metadata: Request::system("test").metadata("test", command_id, chrono::Utc::now()),
        expected: Vec::new(),
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    }
}

/// Two commands and this test each need a thread: a decision is made under a lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_decided_over_an_append_that_failed_meanwhile_is_decided_again() {
    run(Backend::Sqlite, &[Schema::Log, Schema::Keys], async |location: Location, database: Database| {
        let Database::Sqlite(file) = &database else { panic!("a file was asked for") };
        let ((here, log), (there, _)) = (open(&location).await, open(&location).await);
        add(here.clone(), Add { amount: 1, gate: None }).await;
        // Another process changes it, and this one does not know.
        add(there, Add { amount: 100, gate: None }).await;

        // The first is queued, and cannot be written yet.
        let held = file.writer().begin_with("BEGIN IMMEDIATE").await.expect("it is free");
        let (first, mut over, go) = gated(10);
        let first = tokio::spawn(add(here.clone(), first));
        assert_eq!(next(&mut over).await, 1, "it does not know");
        // Once is enough.
        drop((over, go));
        let (second, mut over, go) = gated(1_000);
        let second = tokio::spawn(add(here, second));
        assert_eq!(next(&mut over).await, 11, "it builds on the first");

        // Now the first one fails, and only then the second one is decided.
        held.rollback().await.expect("nothing was written");
        let verdict = log.append(nothing()).await.expect("a verdict");
        assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
        drop((over, go));
        first.await.expect("no panic");
        second.await.expect("no panic");

        let mut sum = 0;
        for event in log.read(Position::START, 10).await.expect("a page") {
            let added: Added = event.read().expect("it was added to");
            assert_eq!(added.to, sum, "{added:?}");
            sum += added.amount;
        }
        assert_eq!(sum, 1_111);
    })
    .await;
}

/// Adds ones until a time; how many.
async fn add_until(dispatcher: Dispatcher, until: Instant) -> i64 {
    let mut added = 0;
    while Instant::now() < until {
        // Within its deadline, or it fails.
        add(dispatcher.clone(), Add { amount: 1, gate: None }).await;
        added += 1;
    }
    added
}

/// Each always has more waiting when it has written, and what it builds ahead falls whenever the other was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_that_never_rest_both_come_through_on_one_stream() {
    run(Backend::Postgres, &[Schema::Log, Schema::Keys], async |location: Location, _: Database| {
        let processes = [open(&location).await, open(&location).await];
        let until = Instant::now() + Duration::from_secs(2);
        let adding: Vec<Vec<_>> = processes
            .iter()
            .map(|(dispatcher, _)| (0..16).map(|_| tokio::spawn(add_until(dispatcher.clone(), until))).collect())
            .collect();
        let mut added = Vec::new();
        for process in adding {
            let mut sum = 0;
            for caller in process {
                sum += caller.await.expect("no panic");
            }
            added.push(sum);
        }
        let total: i64 = added.iter().sum();
        assert!(added.iter().all(|own| own * 10 >= total), "{added:?}");
        assert_eq!(processes[0].1.head().await.expect("a head").position.to_i64(), total);
    })
    .await;
}
