//! A process that is stopped within a transaction on a file keeps the file's lock as long as it is stopped: nothing can
//! take it away. The others are told so in bounded time, read on, and write on as soon as it is continued or killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use daybook_campaign::check::{Entry, Order};
use daybook_campaign::{Dice, signal};
use daybook_core::Position;
use daybook_database::testing::{Backend, run};
use daybook_database::{Database, Location, Options, Schema};
use daybook_log::{EventFilter, Log, LogError, Settings, Verdict};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::store::one;

/// How long the others wait for the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(400);

/// Longer than anything takes that does not wait for somebody who is stopped.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_stopped_within_a_transaction_delays_the_others_until_it_goes_on() {
    beside_a_stopped_one("CONT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_where_it_was_stopped_within_a_transaction_is_in_nobodys_way() {
    beside_a_stopped_one("KILL").await;
}

async fn beside_a_stopped_one(then: &'static str) {
    run(Backend::Sqlite, &[Schema::Log, Schema::Keys], async move |location: Location, _| {
        let Location::Sqlite(file) = &location else { panic!("a file was asked for") };
        let journals = tempfile::tempdir().expect("a temporary folder");
        let mut writer = Command::new(env!("CARGO_BIN_EXE_daybook-campaign"));
        writer.arg("writer").arg("--file").arg(file).arg("--journals").arg(journals.path());
        for (name, number) in [("writer", 1), ("life", 1), ("seed", 1), ("clients", 8), ("lock-ms", 1_000)] {
            writer.arg(format!("--{name}={number}"));
        }
        writer.stdin(Stdio::piped()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
        let writer = writer.spawn().expect("it starts");

        let options = Options { busy_timeout: BUSY_TIMEOUT, ..Options::default() };
        let ours = Database::connect(&location, &options).await.expect("the file opens");
        let log = Log::open(ours.clone(), Settings::default()).await.expect("the log opens");
        let mut newest = log.watch();
        let works = newest.wait_for(|position| position.get() > 20);
        timeout(LIMIT, works).await.expect("it writes").expect("somebody looks");
        let process = timeout(LIMIT, stop_within_a_transaction(&writer, &ours)).await.expect("it is hit");

        let mut refused = Vec::new();
        for _ in 0..2 {
            let (append, begun) = (one(), Instant::now());
            refused.push(append.events[0].stream.clone());
            let answer = log.append(append).await;
            assert!(matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");
            assert!(begun.elapsed() < BUSY_TIMEOUT + Duration::from_secs(1), "it took {:?}", begun.elapsed());
        }
        let head = log.head().await.expect("who reads waits for nobody").position;

        signal::send(then, process).expect("it is there");
        timeout(LIMIT, append_at_last(&log)).await.expect("nothing is in the way any more");
        drop(writer);
        let end = log.head().await.expect("a head").position;
        assert!(end > head);
        for stream in refused {
            let filter = EventFilter { stream: Some(stream), ..EventFilter::default() };
            assert_eq!(log.find(&filter, 1).await.expect("a page").events.len(), 0, "it was not done");
        }
        let (mut order, mut violations, mut after) = (Order::default(), Vec::new(), Position::START);
        while after < end {
            for event in log.read(after, 1_000).await.expect("a page") {
                after = event.position;
                order.take(&Entry::of_place(&event), &mut violations);
            }
        }
        assert_eq!(violations, []);
    })
    .await;
}

/// Stops a writer somewhere, again and again, until that is within a transaction.
async fn stop_within_a_transaction(writer: &Child, file: &Database) -> u32 {
    let Database::Sqlite(file) = file else { panic!("a file was asked for") };
    let process = writer.id().expect("it runs");
    let mut dice = Dice::new(1);
    loop {
        signal::send("STOP", process).expect("it is there");
        // What is held for that long is held by who is stopped: nobody else writes.
        match file.writer().begin_with("BEGIN IMMEDIATE").await {
            Err(_) => return process,
            Ok(free) => free.rollback().await.expect("nothing was written"),
        }
        signal::send("CONT", process).expect("it is there");
        // So that it is stopped somewhere else the next time.
        sleep(dice.ms(1, 20)).await;
    }
}

/// Appends as soon as that can be.
async fn append_at_last(log: &Log) {
    loop {
        match log.append(one()).await {
            Ok(Verdict::Committed(_)) => return,
            Err(LogError::Unavailable(_)) => {}
            other => panic!("it is only the file that is held: {other:?}"),
        }
    }
}
