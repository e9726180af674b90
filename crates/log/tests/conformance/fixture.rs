//! What the tests append, and how they open the log.

use daybook_core::{Metadata, Position, Receipt, RecordedEvent, Revision, StreamId};
use daybook_database::{Database, Location, Options};
use daybook_log::{Append, Expected, Follow, Log, NewRecord, Settings, Verdict};
use uuid::Uuid;

/// Opens the log as a process does.
pub(crate) async fn open(database: &Database) -> Log {
    open_with(database, Settings::default()).await
}

/// Opens the log with other settings.
pub(crate) async fn open_with(database: &Database, settings: Settings) -> Log {
    Log::open(database.clone(), settings).await.expect("the log opens")
}

/// A log that finds out about other processes only as it appends.
pub(crate) async fn open_alone(database: &Database) -> Log {
    open_with(database, Settings { follow: Follow::Appending, ..Settings::default() }).await
}

/// Opens the log as another process does: with connections of its own.
pub(crate) async fn open_again(location: &Location) -> Log {
    open(&connect_again(location).await).await
}

/// Other connections to the same database.
pub(crate) async fn connect_again(location: &Location) -> Database {
    Database::connect(location, &Options::default()).await.expect("the database answers")
}

/// A stream.
pub(crate) fn order(id: impl std::fmt::Display) -> StreamId {
    StreamId::new("order", id)
}

/// An append of nothing.
pub(crate) fn nothing() -> Append {
    let command_id = Uuid::now_v7();
    Append {
        id: "1".into(),
        command_id,
        events: Vec::new(),
        metadata: Metadata {
            actor: Some("ada".into()),
            client: None,
            command: "order.place".into(),
            command_id,
            causation_id: None,
            correlation_id: "one".into(),
            traceparent: None,
        },
        expected: Vec::new(),
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    }
}

/// An event.
pub(crate) fn event(stream: &StreamId) -> NewRecord {
    NewRecord {
        stream: stream.clone(),
        id: Uuid::now_v7(),
        event_type: "order.placed".into(),
        schema_version: 1,
        payload: r#"{"total":1}"#.into(),
    }
}

/// An append of one event to each of these streams, wherever they end.
pub(crate) fn to(streams: &[&StreamId]) -> Append {
    Append { events: streams.iter().map(|stream| event(stream)).collect(), ..nothing() }
}

/// An append of one event to a stream that has to be at `revision`.
pub(crate) fn to_at(stream: &StreamId, revision: u64) -> Append {
    Append { expected: vec![at(stream, revision)], ..to(&[stream]) }
}

/// An expected revision.
pub(crate) fn at(stream: &StreamId, revision: u64) -> Expected {
    Expected { stream: stream.clone(), revision: Revision::new(revision), read_at: None }
}

/// Appends what has to be committed.
pub(crate) async fn commit(log: &Log, append: Append) -> Receipt {
    match log.append(append).await.expect("a verdict") {
        Verdict::Committed(receipt) => receipt,
        other => panic!("not committed: {other:?}"),
    }
}

/// The whole log, read in pages.
pub(crate) async fn read_all(log: &Log) -> Vec<RecordedEvent> {
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(Position::START, |event| event.position);
        let page = log.read(after, 100).await.expect("a page");
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

/// Runs a statement on the database itself, as somebody would who goes around the log.
pub(crate) async fn execute(database: &Database, sql: &str) -> Result<(), sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    match database {
        Database::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
        Database::Sqlite(file) => sqlx::raw_sql(sql).execute(file.writer()).await.map(drop),
    }
}

/// What restoring a backup does, even of the very newest state: a new epoch, and whoever wrote before is shut out.
pub(crate) async fn restored(database: &Database) {
    let fence = match database {
        Database::Postgres(_) => ", fence = gen_random_uuid()",
        Database::Sqlite(_) => "",
    };
    execute(database, &format!("UPDATE log_identity SET epoch = epoch + 1{fence}")).await.expect("a restore");
}

/// Appends an event around the log, as another process would that has a clock of its own.
pub(crate) async fn insert(database: &Database, position: u64, stream: &str, revision: u64, time: &str) {
    let sql = format!(
        "INSERT INTO events (position, stream, revision, id, type, schema_version, recorded_at, metadata, payload) \
         VALUES ({position}, '{stream}', {revision}, '{}', 'forged', 1, '{time}', '{{}}', '{{}}')",
        Uuid::now_v7()
    );
    execute(database, &sql).await.expect("the next event");
}

/// Changes events on the database itself, which somebody with every right can do.
pub(crate) async fn change(database: &Database, sql: &str) {
    let statements = match database {
        Database::Postgres(_) => format!(
            "ALTER TABLE events DISABLE TRIGGER events_never_change; {sql}; \
             ALTER TABLE events ENABLE ALWAYS TRIGGER events_never_change"
        ),
        Database::Sqlite(_) => format!(
            "BEGIN IMMEDIATE; DROP TRIGGER IF EXISTS events_never_update; \
             DROP TRIGGER IF EXISTS events_never_delete; {sql}; COMMIT"
        ),
    };
    execute(database, &statements).await.expect("nothing stops it");
}

/// Takes the log back to where it ended at a position, as putting an older backup in its place does.
pub(crate) async fn roll_back(database: &Database, position: u64) {
    change(database, &format!("DELETE FROM events WHERE position > {position}")).await;
}
