use daybook_database::{Database, Location, on_both};
use futures_util::FutureExt;
use uuid::Uuid;

use super::*;

on_both!(
    &[Schema::Log],
    none_is_answered_before_the_first_of_its_kind_is_written,
    what_cannot_be_written_is_an_error_for_all_who_wait_for_it,
);

async fn refusals(database: Database) -> (Refusals, Log) {
    let log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
    (Refusals::new(log.clone(), Duration::from_secs(3_600)), log)
}

async fn record(refusals: &Refusals) -> Result<(), DispatchError> {
    let metadata = Metadata {
        actor: Some("ada".into()),
        client: None,
        command: "purse.pay".into(),
        command_id: Uuid::now_v7(),
        causation_id: None,
        correlation_id: "one".into(),
        traceparent: None,
    };
    refusals.record("purse.pay", &StreamId::new("purse", 1), Refusal::Denied, metadata).await
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
    assert!(refusals.kinds().is_empty());
}
