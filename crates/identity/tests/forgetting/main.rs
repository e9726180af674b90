//! What becomes of the account of somebody who was forgotten, on both stores.

use std::time::Duration;

use chrono::Utc;
use daybook_core::{
    AccountOpened, Actor, AnyCommand, Context, Decision, Event, Judgement, Outcome, Personal, Position, States,
    StreamId, SubjectForgotten, account_subject,
};
use daybook_database::{Database, Location, Options, on_both};
use daybook_dispatch::{Dispatcher, Request};
use daybook_identity::{HashCost, Identity, IdentityError, Login, Refresh, Registration, Settings, Tokens};
use daybook_keys::{Keys, MasterKeys};
use daybook_log::{Append, EventFilter, Log, NewRecord, Verdict};
use serde_json::value::RawValue;
use uuid::Uuid;

mod rollback;

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "difference engine";

on_both!(
    &[Schema::Log, Schema::Keys],
    an_account_ends_with_its_holder,
    another_process_forgets_too,
    what_was_not_carried_out_is_at_the_next_start,
    keys_that_come_back_from_a_backup_are_deleted_again,
    keys_that_are_not_the_logs_own_are_refused,
    they_are_refused_though_the_first_account_came_late,
    where_somebody_registered_from_is_forgotten_with_them,
    a_refused_registration_makes_no_key_of_its_own,
);

/// One process.
struct Process {
    identity: Identity,
    dispatcher: Dispatcher,
    keys: Keys,
    log: Log,
}

async fn try_start(database: &Database) -> Result<Process, IdentityError> {
    let settings = Settings {
        hash_cost: HashCost { memory_kib: 64, passes: 1, lanes: 1 },
        follow_interval: Duration::from_millis(20),
        follow_lag_max: Duration::from_secs(1),
        ..Settings::default()
    };
    let (log, keys, dispatcher) = without_identity(database).await;
    let nothing = |_: &AccountOpened| Decision::new();
    let identity =
        Identity::start(database.clone(), log.clone(), dispatcher.clone(), keys.clone(), nothing, settings)
            .await?;
    Ok(Process { identity, dispatcher, keys, log })
}

/// A process that does not look after accounts.
async fn without_identity(database: &Database) -> (Log, Keys, Dispatcher) {
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await.expect("the log opens");
    let masters = MasterKeys::parse(&"5e".repeat(32)).expect("a master key");
    let keys = Keys::open(database, masters).await.expect("the keys open");
    let dispatcher = Dispatcher::new(log.clone(), keys.clone(), daybook_dispatch::Settings::default());
    (log, keys, dispatcher)
}

async fn start(database: &Database) -> Process {
    try_start(database).await.expect("identity starts")
}

/// Connects once more: what another process does.
async fn again(location: &Location) -> Database {
    Database::connect(location, &Options::default()).await.expect("the database answers")
}

/// Forgets a subject and nothing else. What a domain adds is its own.
struct Forget(String);

impl AnyCommand for Forget {
    fn target(&self, _: &Context) -> StreamId {
        StreamId::new("test", 1)
    }

    fn decide(&self, _: &dyn States, _: &Context) -> Outcome {
        Outcome::Decided(Judgement::Accepted(Decision::new().forget(&self.0)), Vec::new())
    }

    fn canonical(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.0)
    }
}

impl Process {
    async fn register(&self) -> Result<Uuid, IdentityError> {
        self.register_as(&Request::system("test")).await
    }

    async fn register_as(&self, request: &Request) -> Result<Uuid, IdentityError> {
        let registration =
            Registration { email: EMAIL.into(), password: PASSWORD.to_owned().into(), name: "Ada".into() };
        self.identity.register(registration, request).await
    }

    /// Where the first event of a type came from: whose data that is, and what it reads as.
    async fn came_from(&self, event_type: &str) -> (String, String) {
        let metadata = self.events(event_type).await.swap_remove(0).metadata;
        let stored: daybook_core::Metadata = serde_json::from_str(metadata.get()).expect("metadata");
        let subject = stored.client.expect("an address").subject().to_owned();
        let opened = self
            .keys
            .open_documents(vec![metadata.check().expect("JSON").to_owned()], &|_| true)
            .await
            .expect("the keys answer");
        let opened: serde_json::Value = serde_json::from_str(opened.documents[0].get()).expect("JSON");
        (subject, opened["client"].to_string())
    }

    async fn login(&self) -> Result<Tokens, IdentityError> {
        let login = Login { email: EMAIL.into(), password: PASSWORD.to_owned().into() };
        self.identity.login(login, &Request::system("test")).await
    }

    async fn forget(&self, account_id: Uuid) -> Position {
        forget(&self.dispatcher, account_subject(account_id)).await
    }

    /// What the registration says the address is.
    async fn registered_email(&self) -> String {
        let event = self.events("account.registered").await.swap_remove(0);
        let payload = event.payload.check().expect("JSON").to_owned();
        let opened = self.keys.open_documents(vec![payload], &|_| true).await.expect("the keys answer");
        let payload: serde_json::Value = serde_json::from_str(opened.documents[0].get()).expect("JSON");
        payload["email"].to_string()
    }

    async fn events(&self, event_type: &str) -> Vec<daybook_core::RecordedEvent> {
        let filter = EventFilter { event_type: Some(event_type.into()), ..EventFilter::default() };
        self.log.find(&filter, 100).await.expect("the log answers").events
    }

    async fn stop(self) {
        self.identity.stop().await;
        self.log.close().await;
    }
}

async fn forget(dispatcher: &Dispatcher, subject: String) -> Position {
    let forget = Forget(subject);
    let access = daybook_core::Access::anyone();
    let receipt = dispatcher.run("test.forget", access, &forget, &Request::system("test")).await;
    receipt.expect("a receipt").position
}

const ERASED: &str = r#"{"erased":true}"#;

async fn an_account_ends_with_its_holder(_: Location, database: Database) {
    let process = start(&database).await;
    let account_id = process.register().await.expect("registers");
    let tokens = process.login().await.expect("signs in");
    process.identity.authenticate(&tokens.access_token).expect("genuine");
    assert_eq!(process.registered_email().await, format!("{EMAIL:?}"));

    let position = process.forget(account_id).await;
    // The key is gone before the receipt is given, and the rest follows.
    assert_eq!(process.registered_email().await, ERASED);
    process.identity.forgotten(position).await.expect("carried out");
    let refused = process.identity.authenticate(&tokens.access_token);
    assert!(matches!(refused, Err(IdentityError::InvalidToken)), "{refused:?}");
    let refresh = Refresh { refresh_token: tokens.refresh_token.clone().into() };
    let refused = process.identity.refresh(refresh, &Request::system("test")).await;
    assert!(matches!(refused, Err(IdentityError::InvalidToken)), "{refused:?}");
    let refused = process.login().await;
    assert!(matches!(refused, Err(IdentityError::InvalidCredentials)), "{refused:?}");
    for table in ["credentials", "refresh_tokens"] {
        assert_eq!(count(&database, table).await, 0, "{table}");
    }
    let closed = process.events("account.closed").await;
    assert_eq!(closed.len(), 1);
    let forgotten = process.events(SubjectForgotten::TYPE).await;
    assert_eq!(closed[0].metadata().expect("metadata").causation_id, Some(forgotten[0].id));

    // The address is free, and another account is another person.
    let other_id = process.register().await.expect("registers anew");
    assert_ne!(other_id, account_id);
    let tokens = process.login().await.expect("signs in");
    let actor = process.identity.authenticate(&tokens.access_token).expect("genuine").actor;
    assert_eq!(actor, Actor::Account { id: other_id, roles: vec![daybook_core::Role::Customer] });
    assert_eq!(process.registered_email().await, ERASED);
    process.stop().await;
}

async fn another_process_forgets_too(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (start(&database).await, start(&other).await);
    let account_id = one.register().await.expect("registers");
    let tokens = one.login().await.expect("signs in");
    // It has the key in memory, and the token.
    assert_eq!(two.registered_email().await, format!("{EMAIL:?}"));
    two.identity.authenticate(&tokens.access_token).expect("genuine");
    let position = one.forget(account_id).await;
    two.identity.forgotten(position).await.expect("carried out");
    assert_eq!(two.registered_email().await, ERASED);
    assert!(two.identity.authenticate(&tokens.access_token).is_err());
    one.identity.forgotten(position).await.expect("carried out");
    assert_eq!(one.events("account.closed").await.len(), 1, "once");
    two.stop().await;
    one.stop().await;
    other.close().await;
}

async fn what_was_not_carried_out_is_at_the_next_start(_: Location, database: Database) {
    let process = start(&database).await;
    let account_id = process.register().await.expect("registers");
    let key = stored_key(&database, account_id).await;
    // It goes away once it has decided: nobody follows the log any more, and the key is back.
    process.identity.stop().await;
    process.forget(account_id).await;
    restore_key(&database, account_id, &key).await;
    process.log.close().await;

    let process = start(&database).await;
    assert_eq!(process.registered_email().await, ERASED);
    assert_eq!(process.events("account.closed").await.len(), 1);
    process.register().await.expect("the address is free");
    process.stop().await;
}

async fn keys_that_come_back_from_a_backup_are_deleted_again(_: Location, database: Database) {
    let process = start(&database).await;
    let account_id = process.register().await.expect("registers");
    process.stop().await;
    let key = stored_key(&database, account_id).await;
    let checkpoint = checkpoint(&database).await;

    let process = start(&database).await;
    let position = process.forget(account_id).await;
    process.identity.forgotten(position).await.expect("carried out");
    process.stop().await;
    restore_key(&database, account_id, &key).await;
    set_checkpoint(&database, checkpoint).await;

    let process = start(&database).await;
    assert_eq!(process.registered_email().await, ERASED);
    assert_eq!(process.events("account.closed").await.len(), 1, "not again");
    // A key that is sealed with in the meantime is none that anybody keeps.
    let event_id = Uuid::from_u128(1);
    let note = serde_json::to_string(&Personal::new(account_subject(account_id), "late")).expect("JSON");
    let sealed = process.keys.sealed(event_id, note).await.expect("sealed");
    let sealed = RawValue::from_string(sealed).expect("JSON");
    let opened = process.keys.open_documents(vec![sealed], &|_| true).await.expect("the keys answer");
    assert_eq!(opened.documents[0].get(), ERASED);
    process.stop().await;
}

async fn keys_that_are_not_the_logs_own_are_refused(_: Location, database: Database) {
    let process = start(&database).await;
    process.register().await.expect("registers");
    process.stop().await;

    let own = checkpoint(&database).await;
    set_checkpoint(&database, (Uuid::from_u128(1), own.1, own.2, own.3)).await;
    let error = try_start(&database).await.err().expect("the keys are another log's");
    assert!(error.to_string().contains("another log"), "{error}");
    execute(&database, "DELETE FROM forgettings_checkpoint").await;
    let error = try_start(&database).await.err().expect("the keys were lost");
    assert!(error.to_string().contains("was lost"), "{error}");
    set_checkpoint(&database, own).await;
    start(&database).await.stop().await;
}

async fn they_are_refused_though_the_first_account_came_late(_: Location, database: Database) {
    let process = start(&database).await;
    // More than one search looks at.
    for page in 0..11 {
        let events = (0..1_000).map(|_| NewRecord {
            stream: StreamId::new("note", Uuid::now_v7()),
            id: Uuid::now_v7(),
            event_type: "note.taken".into(),
            schema_version: 1,
            payload: "{}".into(),
        });
        let command_id = Uuid::from_u128(page);
        let append = Append {
            id: "1".into(),
            command_id,
            events: events.collect(),
            metadata: Request::system("test").metadata("note.take", command_id, Utc::now()),
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        let verdict = process.log.append(append).await.expect("a verdict");
        assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    }
    process.register().await.expect("registers");
    process.stop().await;
    execute(&database, "DELETE FROM forgettings_checkpoint").await;
    let error = try_start(&database).await.err().expect("the keys were lost");
    assert!(error.to_string().contains("was lost"), "{error}");
}

macro_rules! on_writer {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            Database::Postgres($pool) => $body,
            Database::Sqlite(file) => {
                let $pool = file.writer();
                $body
            }
        }
    };
}

/// Where [`somebody`] comes from.
const ADDRESS: &str = r#"{"ip":"192.0.2.1"}"#;

/// Somebody without an account, behind an address.
fn somebody() -> Request {
    Request { actor: Actor::Anonymous, client_ip: Some("192.0.2.1".into()), ..Request::system("test") }
}

async fn where_somebody_registered_from_is_forgotten_with_them(_: Location, database: Database) {
    let process = start(&database).await;
    let account_id = process.register_as(&somebody()).await.expect("registers");
    let subject = account_subject(account_id);
    let seen = process.came_from("account.registered").await;
    assert_eq!(seen, (subject.clone(), ADDRESS.into()));
    process.forget(account_id).await;
    assert_eq!(process.came_from("account.registered").await, (subject, ERASED.into()));
    process.stop().await;
}

async fn a_refused_registration_makes_no_key_of_its_own(_: Location, database: Database) {
    let process = start(&database).await;
    let account_id = process.register_as(&somebody()).await.expect("registers");
    process.register_as(&somebody()).await.expect_err("the address is taken");
    let (subject, address) = process.came_from("daybook.command.rejected").await;
    assert!(subject.starts_with("day-"), "{subject}");
    assert_eq!(address, ADDRESS);
    assert_eq!(accounts_with_keys(&database).await, [account_subject(account_id)]);
    process.stop().await;
}

async fn accounts_with_keys(database: &Database) -> Vec<String> {
    let sql = "SELECT subject FROM subject_keys WHERE subject LIKE 'account-%'";
    on_writer!(database, pool => sqlx::query_scalar(sql).fetch_all(pool).await.expect("the table answers"))
}

async fn execute(database: &Database, sql: &'static str) {
    on_writer!(database, pool => {
        sqlx::query(sql).execute(pool).await.expect("done");
    });
}

async fn count(database: &Database, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    on_writer!(database, pool => sqlx::query_scalar(sql).fetch_one(pool).await.expect("the table answers"))
}

async fn stored_key(database: &Database, account_id: Uuid) -> Vec<u8> {
    let sql = "SELECT wrapped FROM subject_keys WHERE subject = $1";
    on_writer!(database, pool => {
        sqlx::query_scalar(sql).bind(account_subject(account_id)).fetch_one(pool).await.expect("a key")
    })
}

async fn restore_key(database: &Database, account_id: Uuid, key: &[u8]) {
    let sql = "UPDATE subject_keys SET wrapped = $1, forgotten_at_ms = NULL WHERE subject = $2";
    let restored = on_writer!(database, pool => {
        sqlx::query(sql).bind(key).bind(account_subject(account_id)).execute(pool).await.expect("done").rows_affected()
    });
    assert_eq!(restored, 1);
}

type Checkpoint = (Uuid, i64, i64, Uuid);

async fn checkpoint(database: &Database) -> Checkpoint {
    let sql = "SELECT log_id, epoch, position, event_id FROM forgettings_checkpoint";
    on_writer!(database, pool => sqlx::query_as(sql).fetch_one(pool).await.expect("a checkpoint"))
}

async fn set_checkpoint(database: &Database, (log_id, epoch, position, event_id): Checkpoint) {
    execute(database, "DELETE FROM forgettings_checkpoint").await;
    let sql = "INSERT INTO forgettings_checkpoint (log_id, epoch, position, event_id) VALUES ($1, $2, $3, $4)";
    on_writer!(database, pool => {
        let insert = sqlx::query(sql).bind(log_id).bind(epoch).bind(position).bind(event_id);
        insert.execute(pool).await.expect("done");
    });
}
