use daybook_database::{Database, Location, on_both};
use futures_util::FutureExt;
use uuid::Uuid;

use super::*;

on_both!(
    &[Schema::Log],
    none_is_answered_before_the_first_of_its_kind_is_written,
    what_cannot_be_written_is_an_error_for_all_who_wait_for_it,
    whoever_is_refused_in_many_ways_stays_known,
    beyond_all_limits_it_is_still_counted,
);

async fn refusals(database: Database) -> (Refusals, Log) {
    let log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
    (Refusals::new(log.clone(), Duration::from_secs(3_600)), log)
}

async fn record(refusals: &Refusals) -> Result<(), DispatchError> {
    record_of(refusals, "ada", Refusal::Denied).await
}

async fn record_of(refusals: &Refusals, actor: &str, refusal: Refusal) -> Result<(), DispatchError> {
    let metadata = Metadata {
        actor: Some(actor.into()),
        client: None,
        command: "purse.pay".into(),
        command_id: Uuid::now_v7(),
        causation_id: None,
        correlation_id: "one".into(),
        traceparent: None,
    };
    refusals.record("purse.pay", &StreamId::new("purse", 1), refusal, metadata).await
}

/// Holds the log's head, as another process does while it commits.
async fn hold_head(database: &Database) -> Box<dyn Send> {
    match database {
        Database::Postgres(pool) => {
            let mut transaction = pool.begin().await.expect("a transaction");
            sqlx::query("SELECT FROM log_identity FOR UPDATE").execute(&mut *transaction).await.expect("the lock");
            Box::new(transaction)
        }
        Database::Sqlite(file) => {
            Box::new(file.writer().begin_with("BEGIN IMMEDIATE").await.expect("a transaction"))
        }
    }
}

async fn none_is_answered_before_the_first_of_its_kind_is_written(_: Location, database: Database) {
    let (refusals, log) = refusals(database.clone()).await;
    let held = hold_head(&database).await;
    let (mut first, mut second) = (Box::pin(record(&refusals)), Box::pin(record(&refusals)));
    assert!((&mut first).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none(), "nothing is written");
    drop(held);
    second.await.expect("refused");
    let written = log.read(daybook_core::Position::START, 10).await.expect("a page");
    assert_eq!(written.len(), 1, "{written:?}");
    first.await.expect("refused");
    refusals.flush().await;
    let counts: Vec<_> = log.read(daybook_core::Position::START, 10).await.expect("a page");
    assert!(counts.iter().all(|event| event.payload.get().contains("\"count\":1")), "{counts:?}");
    assert_eq!(counts.len(), 2);
    log.close().await;
}

async fn what_cannot_be_written_is_an_error_for_all_who_wait_for_it(_: Location, database: Database) {
    let (refusals, log) = refusals(database).await;
    log.close().await;
    let (first, second) = tokio::join!(record(&refusals), record(&refusals));
    for answer in [first, second] {
        let Err(DispatchError::Unrecorded(cause)) = answer else { panic!("{answer:?}") };
        assert!(matches!(*cause, DispatchError::Log(LogError::Closed)), "{cause:?}");
    }
    assert!(refusals.kinds().actors.is_empty());
}

/// A rejection with the code of this number.
fn rejected(number: usize) -> Refusal {
    Refusal::Rejected(Rejection { code: format!("code_{number}").into(), ..Rejection::rule("", "No.") })
}

/// What is recorded: whose, and how many with which code.
async fn recorded(log: &Log) -> Vec<(Option<String>, String, u64)> {
    let events = log.read(daybook_core::Position::START, 1_000).await.expect("a page");
    let recorded = |event: &daybook_core::RecordedEvent| {
        let actor = event.metadata().expect("it is read").actor;
        let rejected: CommandRejected = event.read().expect("a rejection");
        (actor, rejected.code, rejected.count)
    };
    events.iter().map(recorded).collect()
}

async fn whoever_is_refused_in_many_ways_stays_known(_: Location, database: Database) {
    let (refusals, log) = refusals(database).await;
    let refusals = Refusals { limits: Limits { of_actor: 3, of_all: 5, in_all: 9 }, ..refusals };
    let named = |actor: &str, code, count| (Some(actor.to_owned()), format!("code_{code}"), count);
    for number in 1..=6 {
        record_of(&refusals, "ada", rejected(number)).await.expect("recorded");
    }
    // The room that is left is for the others; without any left, each of them is still known.
    for actor in ["bob", "cleo"] {
        for number in 1..=2 {
            record_of(&refusals, actor, rejected(number)).await.expect("recorded");
        }
    }
    let mut at_once: Vec<_> = (1..=4).map(|code| named("ada", code, 1)).collect();
    at_once.extend([named("bob", 1, 1), named("bob", 2, 1), named("cleo", 1, 1)]);
    assert_eq!(recorded(&log).await, at_once);
    refusals.flush().await;
    let mut counted = recorded(&log).await.split_off(at_once.len());
    counted.sort();
    assert_eq!(counted, [named("ada", 5, 2), named("cleo", 2, 1)], "the first of those that are counted together");
    log.close().await;
}

async fn beyond_all_limits_it_is_still_counted(_: Location, database: Database) {
    let (refusals, log) = refusals(database).await;
    let refusals = Refusals { limits: Limits { of_actor: 1, of_all: 1, in_all: 2 }, ..refusals };
    for actor in ["ada", "bob", "cleo", "dan"] {
        record_of(&refusals, actor, rejected(1)).await.expect("recorded");
    }
    refusals.flush().await;
    let actors: Vec<_> = recorded(&log).await.into_iter().map(|(actor, _, count)| (actor, count)).collect();
    assert_eq!(actors, [(Some("ada".into()), 1), (Some("bob".into()), 1), (None, 1), (None, 1)]);
    log.close().await;
}
