//! A state that keeps personal data, and is kept as a snapshot after every event.

use daybook_core::{
    Access, Actor, Aggregate, Command, Context, Decision, Entity, Event, NotLoaded, Personal, Reads, Rejection,
    Role, Snapshots, StreamId, account_subject, event_set, holds_fresh,
};
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, on_both};
use daybook_dispatch::{Dispatcher, Request, Settings};
use daybook_keys::{Keys, MasterKeys, OpenedDocuments};
use daybook_log::Log;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

on_both!(&[Schema::Log, Schema::Keys], a_snapshot_is_sealed_and_forgotten_with_its_subject);

const ADA: Uuid = Uuid::from_u128(0xada);

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    entry: Personal<String>,
}

impl Event for Written {
    const TYPE: &'static str = "diary.written";
    const VERSION: u32 = 1;
}

event_set! {
    enum DiaryEvent { Written }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Diary {
    entries: Vec<Personal<String>>,
}

impl Aggregate for Diary {
    const CATEGORY: &'static str = "diary";
    type Event = DiaryEvent;
    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(1, 1));

    fn apply(&mut self, DiaryEvent::Written(written): &DiaryEvent) {
        self.entries.push(written.entry.clone());
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
struct Write {
    #[garde(skip)]
    entry: String,
}

impl Command for Write {
    const NAME: &'static str = "diary.write";
    const ACCESS: Access = Access::anyone();
    type Model = Entity<Diary>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Diary::CATEGORY, ADA)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        reads.get(ADA)
    }

    fn handle(&self, diary: &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let entry = Personal::new(account_subject(ADA), self.entry.clone());
        Ok(Decision::new().emit(diary, Written { entry }))
    }
}

/// The snapshot that there is, when it is of this revision.
async fn snapshot(database: &Database, revision: i64) -> Option<String> {
    let sql = "SELECT CAST(state AS text) FROM snapshots WHERE revision = $1";
    match database {
        Database::Postgres(pool) => sqlx::query_scalar(sql).bind(revision).fetch_optional(pool).await,
        Database::Sqlite(file) => sqlx::query_scalar(sql).bind(revision).fetch_optional(file.readers()).await,
    }
    .expect("the table answers")
}

async fn a_snapshot_is_sealed_and_forgotten_with_its_subject(_: Location, database: Database) {
    let masters = MasterKeys::parse(&"5e".repeat(32)).expect("a master key");
    let keys = Keys::open(&database, masters).await.expect("the keys open");
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await.expect("the log opens");
    let actor = Actor::Account { id: ADA, roles: vec![Role::Customer] };
    let request = Request { actor, ..Request::system("test") };
    // From what was decided, and, in a process that has nothing in memory, from what was loaded.
    for revision in 1..=3 {
        let dispatcher = Dispatcher::new(log.clone(), keys.clone(), Settings::default());
        let write = Write { entry: format!("Dear diary {revision}") };
        dispatcher.run(Write::NAME, Write::ACCESS, &write, &request).await.expect("a receipt");
        let state = wait_for("a snapshot", || snapshot(&database, revision)).await;
        assert!(!state.contains("Dear") && !holds_fresh(&state), "{state}");
        let read: Diary = serde_json::from_str(&state).expect("the state");
        assert_eq!(read.entries.len() as i64, revision);
        assert_eq!(state.matches(r#""sealed":"#).count() as i64, revision, "{state}");
    }

    let kept = snapshot(&database, 3).await.expect("the newest");
    let read = || keys.open_documents(vec![RawValue::from_string(kept.clone()).expect("JSON")], &|_| true);
    let entries = |opened: OpenedDocuments| {
        let state: Value = serde_json::from_str(opened.documents[0].get()).expect("JSON");
        state["entries"].clone()
    };
    let open = json!(["Dear diary 1", "Dear diary 2", "Dear diary 3"]);
    assert_eq!(entries(read().await.expect("the keys answer")), open);
    keys.forget(&account_subject(ADA)).await.expect("the key is deleted");
    let erased = json!({"erased": true});
    assert_eq!(entries(read().await.expect("the keys answer")), json!([erased, erased, erased]));
    log.close().await;
}
