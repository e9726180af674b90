//! Accounts, sessions and tokens on both stores.

use std::time::Duration;

use daybook_core::{AccountOpened, Actor, Decision, Metadata, RecordedEvent, Role, StreamId};
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, Options, on_both};
use daybook_dispatch::{DispatchError, Dispatcher, Request};
use daybook_identity::{
    Authenticated, HashCost, Identity, IdentityError, Login, Logout, NewAccount, Refresh, Registration, Secret,
    Settings, Tokens,
};
use daybook_keys::{Keys, MasterKeys};
use daybook_log::{Append, EventFilter, Log, NewRecord, Verdict};
use uuid::Uuid;

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "difference engine";

on_both!(
    &[Schema::Log, Schema::Keys],
    a_registered_account_can_sign_in,
    a_taken_address_is_rejected_in_any_spelling,
    of_two_registrations_at_once_one_wins,
    a_registration_whose_refusal_cannot_be_recorded_leaves_nothing_behind,
    a_repeated_registration_answers_the_same_account,
    unknown_addresses_and_wrong_passwords_get_the_same_answer,
    a_refresh_token_is_used_once,
    two_refreshes_at_once_have_one_outcome,
    a_refresh_token_that_comes_again_ends_its_session,
    after_a_logout_no_token_of_the_session_is_good,
    a_logout_holds_in_another_process,
    a_role_change_holds_at_once_and_in_another_process,
    what_was_revoked_before_the_start_stays_revoked,
    a_process_that_cannot_follow_takes_no_token,
    what_a_newer_program_did_to_an_account_is_not_passed_over,
    what_a_newer_program_did_to_a_session_is_not_passed_over,
    an_outdated_hash_is_renewed_at_login,
    a_password_can_be_changed,
    the_log_holds_no_password_and_no_token,
    a_signing_key_is_made_once_by_two_processes,
    a_rotated_key_goes_on_verifying,
);

/// One process.
struct Process {
    identity: Identity,
    log: Log,
}

async fn start(database: &Database) -> Process {
    start_with(database, Settings::default()).await
}

async fn start_with(database: &Database, settings: Settings) -> Process {
    try_start(database, settings).await.expect("identity starts")
}

async fn try_start(database: &Database, settings: Settings) -> Result<Process, IdentityError> {
    let settings = Settings {
        hash_cost: match settings.hash_cost == HashCost::default() {
            true => HashCost { memory_kib: 64, passes: 1, lanes: 1 },
            false => settings.hash_cost,
        },
        ..settings
    };
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await.expect("the log opens");
    let masters = MasterKeys::parse(&"5e".repeat(32)).expect("a master key");
    let keys = Keys::open(database, masters).await.expect("the keys open");
    let dispatcher = Dispatcher::new(log.clone(), keys.clone(), daybook_dispatch::Settings::default());
    let nothing = |_: &AccountOpened| Decision::new();
    let identity = Identity::start(database.clone(), log.clone(), dispatcher, keys, nothing, settings).await?;
    Ok(Process { identity, log })
}

/// Connects once more: what another process does.
async fn again(location: &Location) -> Database {
    Database::connect(location, &Options::default()).await.expect("the database answers")
}

fn request() -> Request {
    Request {
        actor: Actor::Anonymous,
        client_ip: Some("192.0.2.1".into()),
        user_agent: Some("test".into()),
        ..Request::system("test")
    }
}

fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

impl Process {
    async fn register(&self, email: &str) -> Result<Uuid, IdentityError> {
        let registration = Registration { email: email.into(), password: secret(PASSWORD), name: "Ada".into() };
        self.identity.register(registration, &request()).await
    }

    async fn login(&self, email: &str, password: &str) -> Result<Tokens, IdentityError> {
        self.identity.login(Login { email: email.into(), password: secret(password) }, &request()).await
    }

    async fn signed_in(&self) -> Tokens {
        self.register(EMAIL).await.expect("registers");
        self.login(EMAIL, PASSWORD).await.expect("signs in")
    }

    async fn refresh(&self, tokens: &Tokens) -> Result<Tokens, IdentityError> {
        self.refresh_as(tokens, &request()).await
    }

    async fn refresh_as(&self, tokens: &Tokens, request: &Request) -> Result<Tokens, IdentityError> {
        self.identity.refresh(Refresh { refresh_token: secret(&tokens.refresh_token) }, request).await
    }

    async fn logout(&self, tokens: &Tokens) {
        let logout = Logout { refresh_token: secret(&tokens.refresh_token) };
        self.identity.logout(logout, &request()).await.expect("signs out");
    }

    fn authenticate(&self, tokens: &Tokens) -> Result<Authenticated, IdentityError> {
        self.identity.authenticate(&tokens.access_token)
    }

    /// Appends an event as another program may.
    async fn append(&self, category: &str, event_type: &str, schema_version: u32) {
        let command_id = Uuid::now_v7();
        let event = NewRecord {
            stream: StreamId::new(category, Uuid::now_v7()),
            id: Uuid::now_v7(),
            event_type: event_type.into(),
            schema_version,
            payload: "{}".into(),
        };
        let metadata = Metadata {
            actor: None,
            client: None,
            command: "test".into(),
            command_id,
            causation_id: None,
            correlation_id: "test".into(),
            traceparent: None,
        };
        let append = Append {
            id: String::new(),
            command_id,
            events: vec![event],
            metadata,
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        let verdict = self.log.append(append).await.expect("a verdict");
        assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    }

    async fn events(&self, event_type: &str) -> Vec<RecordedEvent> {
        let filter = EventFilter { event_type: Some(event_type.into()), ..EventFilter::default() };
        self.log.find(&filter, 100).await.expect("the log answers").events
    }
}

#[track_caller]
fn check_invalid_token<T: std::fmt::Debug>(result: Result<T, IdentityError>) {
    assert!(matches!(result, Err(IdentityError::InvalidToken)), "{result:?}");
}

#[track_caller]
fn check_rejected<T: std::fmt::Debug>(result: Result<T, IdentityError>, code: &str) {
    match result {
        Err(IdentityError::Dispatch(DispatchError::Rejected(rejection))) => assert_eq!(rejection.code, code),
        other => panic!("not rejected: {other:?}"),
    }
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    wait_for(what, || async { holds().then_some(()) }).await;
}

async fn a_registered_account_can_sign_in(_: Location, database: Database) {
    let process = start(&database).await;
    let account = process.register(EMAIL).await.expect("registers");
    assert_eq!(process.identity.find_by_email(EMAIL).await.expect("answers"), Some(account));
    let tokens = process.login(" ADA@example.com", PASSWORD).await.expect("signs in");
    assert_eq!((tokens.token_type, tokens.expires_in), ("Bearer", 900));
    let authenticated = process.authenticate(&tokens).expect("genuine");
    assert_eq!(authenticated.actor, Actor::Account { id: account, roles: vec![Role::Customer] });
    let started = process.events("session.started").await;
    assert_eq!(started[0].stream.id(), authenticated.session.to_string());
    assert_eq!(started[0].metadata().expect("metadata").actor, Some(account.to_string()));
}

async fn a_taken_address_is_rejected_in_any_spelling(_: Location, database: Database) {
    let process = start(&database).await;
    process.register(EMAIL).await.expect("registers");
    check_rejected(process.register("Ada@Example.COM").await, "email_taken");
    assert_eq!(count(&database, "credentials").await, 1);
}

async fn of_two_registrations_at_once_one_wins(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (start(&database).await, start(&other).await);
    let (first, second) = tokio::join!(one.register(EMAIL), two.register(EMAIL));
    assert_ne!(first.is_ok(), second.is_ok());
    check_rejected(if first.is_ok() { second } else { first }, "email_taken");
    assert_eq!(count(&database, "credentials").await, 1);
    one.login(EMAIL, PASSWORD).await.expect("the winner signs in");
    two.log.close().await;
    other.close().await;
}

async fn a_registration_whose_refusal_cannot_be_recorded_leaves_nothing_behind(_: Location, database: Database) {
    let process = start(&database).await;
    process.register(EMAIL).await.expect("registers");
    let unrecorded = match &database {
        Database::Postgres(pool) => sqlx::raw_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW \
             WHEN (NEW.type = 'daybook.command.rejected') EXECUTE FUNCTION refuse()",
        )
        .execute(pool)
        .await
        .map(drop),
        Database::Sqlite(file) => sqlx::raw_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.type = 'daybook.command.rejected' \
             BEGIN SELECT RAISE(ABORT, 'not this'); END",
        )
        .execute(file.writer())
        .await
        .map(drop),
    };
    unrecorded.expect("refusals cannot be recorded");
    let answer = process.register(EMAIL).await;
    assert!(matches!(answer, Err(IdentityError::Dispatch(DispatchError::Unrecorded(_)))), "{answer:?}");
    assert_eq!(count(&database, "credentials").await, 1);
    assert_eq!(count(&database, "subject_keys WHERE subject LIKE 'account-%'").await, 1);
}

async fn a_repeated_registration_answers_the_same_account(_: Location, database: Database) {
    let process = start(&database).await;
    let request = Request { idempotency_key: Some("once".into()), ..request() };
    let register = || {
        let registration = Registration { email: EMAIL.into(), password: secret(PASSWORD), name: "Ada".into() };
        process.identity.register(registration, &request)
    };
    let first = register().await.expect("registers");
    assert_eq!(register().await.expect("answers again"), first);
    assert_eq!(count(&database, "credentials").await, 1);
    process.login(EMAIL, PASSWORD).await.expect("signs in");
}

async fn unknown_addresses_and_wrong_passwords_get_the_same_answer(_: Location, database: Database) {
    let process = start(&database).await;
    process.register(EMAIL).await.expect("registers");
    for (email, password) in [(EMAIL, "analytical engine"), ("babbage@example.com", PASSWORD), ("", "")] {
        let result = process.login(email, password).await;
        assert!(matches!(result, Err(IdentityError::InvalidCredentials)), "{result:?}");
    }
}

async fn a_refresh_token_is_used_once(_: Location, database: Database) {
    let process = start(&database).await;
    let first = process.signed_in().await;
    let second = process.refresh(&first).await.expect("the first use");
    assert_ne!(first.refresh_token, second.refresh_token);
    let session = |tokens| process.authenticate(tokens).expect("genuine").session;
    assert_eq!(session(&first), session(&second));
    // The same client at once: its requests crossed, and the session goes on.
    check_invalid_token(process.refresh(&first).await);
    process.refresh(&second).await.expect("the first use");
    for garbage in ["", "AAAA", &first.access_token] {
        let refresh = Refresh { refresh_token: secret(garbage) };
        check_invalid_token(process.identity.refresh(refresh, &request()).await);
    }
    check_invalid_token(process.identity.authenticate(&second.refresh_token));
}

async fn two_refreshes_at_once_have_one_outcome(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (start(&database).await, start(&other).await);
    let mut tokens = one.signed_in().await;
    for _ in 0..5 {
        let (first, second) = tokio::join!(one.refresh(&tokens), two.refresh(&tokens));
        assert_ne!(first.is_ok(), second.is_ok());
        let (winner, loser) = if first.is_ok() { (first, second) } else { (second, first) };
        check_invalid_token(loser);
        tokens = winner.expect("one of them");
    }
    assert!(one.events("session.ended").await.is_empty());
    two.log.close().await;
    other.close().await;
}

async fn a_refresh_token_that_comes_again_ends_its_session(_: Location, database: Database) {
    let process = start(&database).await;
    let first = process.signed_in().await;
    let second = process.refresh(&first).await.expect("the first use");
    // There is no grace for another client, however soon it comes.
    let thief = Request { client_ip: Some("198.51.100.7".into()), ..request() };
    check_invalid_token(process.refresh_as(&first, &thief).await);
    check_invalid_token(process.refresh(&second).await);
    check_invalid_token(process.authenticate(&second));
    let ended = process.events("session.ended").await;
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].payload.get(), r#"{"reason":"reused"}"#);
    assert_eq!(ended[0].metadata().expect("metadata").actor.as_deref(), Some("system:identity"));

    // Nor for the same client, once the grace is over.
    let process = start_with(&database, Settings { refresh_grace: Duration::ZERO, ..Settings::default() }).await;
    let third = process.login(EMAIL, PASSWORD).await.expect("another session");
    let fourth = process.refresh(&third).await.expect("the first use");
    let used = std::time::Instant::now();
    until("the clock has moved on", || used.elapsed() > Duration::from_millis(2)).await;
    check_invalid_token(process.refresh(&third).await);
    check_invalid_token(process.authenticate(&fourth));
}

async fn after_a_logout_no_token_of_the_session_is_good(_: Location, database: Database) {
    let process = start(&database).await;
    let tokens = process.signed_in().await;
    let other = process.login(EMAIL, PASSWORD).await.expect("another session");
    process.authenticate(&tokens).expect("genuine");
    process.logout(&tokens).await;
    check_invalid_token(process.authenticate(&tokens));
    check_invalid_token(process.refresh(&tokens).await);
    process.authenticate(&other).expect("the other session goes on");
    process.logout(&tokens).await;
    assert_eq!(process.events("session.ended").await.len(), 1);
}

async fn a_logout_holds_in_another_process(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (start(&database).await, start(&other).await);
    let tokens = one.signed_in().await;
    two.authenticate(&tokens).expect("genuine there too");
    one.logout(&tokens).await;
    until("the other process refuses the token", || two.authenticate(&tokens).is_err()).await;
    check_invalid_token(two.authenticate(&tokens));
    two.log.close().await;
    other.close().await;
}

async fn a_role_change_holds_at_once_and_in_another_process(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = (start(&database).await, start(&other).await);
    let tokens = one.signed_in().await;
    let admin = Request::system("test");
    let is_staff =
        |process: &Process| process.authenticate(&tokens).expect("genuine").actor.has_any(&[Role::Staff]);
    assert!(!is_staff(&one));
    one.identity.grant("ADA@example.com", Role::Staff, &admin).await.expect("grants");
    assert!(is_staff(&one));
    until("the other process knows", || is_staff(&two)).await;
    one.identity.revoke(EMAIL, Role::Staff, &admin).await.expect("revokes");
    assert!(!is_staff(&one));
    until("the other process knows", || !is_staff(&two)).await;
    check_rejected(one.identity.grant("nobody@example.com", Role::Staff, &admin).await, "not_found");
    let herself = Request { actor: one.authenticate(&tokens).expect("genuine").actor, ..request() };
    let denied = one.identity.grant(EMAIL, Role::Admin, &herself).await;
    assert!(matches!(denied, Err(IdentityError::Dispatch(DispatchError::Denied))), "{denied:?}");
    two.log.close().await;
    other.close().await;
}

async fn what_was_revoked_before_the_start_stays_revoked(location: Location, database: Database) {
    let other = again(&location).await;
    let one = start(&database).await;
    let account = NewAccount {
        email: EMAIL.into(),
        name: "Ada".into(),
        password: secret(PASSWORD),
        roles: vec![Role::Staff, Role::Analyst],
    };
    one.identity.create_account(account, &Request::system("test")).await.expect("opens");
    let ended = one.login(EMAIL, PASSWORD).await.expect("signs in");
    let tokens = one.login(EMAIL, PASSWORD).await.expect("signs in");
    one.logout(&ended).await;
    let system = Request::system("test");
    one.identity.revoke(EMAIL, Role::Staff, &system).await.expect("revokes");
    one.identity.revoke(EMAIL, Role::Analyst, &system).await.expect("revokes");
    one.identity.grant(EMAIL, Role::Analyst, &system).await.expect("grants again");
    let two = start(&other).await;
    check_invalid_token(two.authenticate(&ended));
    let actor = two.authenticate(&tokens).expect("genuine").actor;
    assert!(!actor.has_any(&[Role::Staff]) && actor.has_any(&[Role::Analyst]), "{actor:?}");
    two.log.close().await;
    other.close().await;
}

async fn a_process_that_cannot_follow_takes_no_token(_: Location, database: Database) {
    let settings = Settings { follow_lag_max: Duration::from_millis(500), ..Settings::default() };
    let process = start_with(&database, settings).await;
    let tokens = process.signed_in().await;
    process.authenticate(&tokens).expect("genuine");
    process.identity.stop().await;
    until("it notices", || process.authenticate(&tokens).is_err()).await;
    let result = process.authenticate(&tokens);
    assert!(matches!(result, Err(IdentityError::Unavailable(_))), "{result:?}");
}

async fn what_a_newer_program_did_to_an_account_is_not_passed_over(_: Location, database: Database) {
    check_not_passed_over(&database, "account", "account.locked", 1).await;
}

async fn what_a_newer_program_did_to_a_session_is_not_passed_over(_: Location, database: Database) {
    check_not_passed_over(&database, "session", "session.ended", 2).await;
}

async fn check_not_passed_over(database: &Database, category: &str, event_type: &str, schema_version: u32) {
    let settings = Settings { follow_lag_max: Duration::from_millis(500), ..Settings::default() };
    let process = start_with(database, settings.clone()).await;
    let tokens = process.signed_in().await;
    process.authenticate(&tokens).expect("genuine");
    process.append(category, event_type, schema_version).await;
    until("it notices", || process.authenticate(&tokens).is_err()).await;
    let result = process.authenticate(&tokens);
    assert!(matches!(result, Err(IdentityError::Unavailable(_))), "{result:?}");
    let error = try_start(database, settings).await.err().expect("it is no older than the tokens");
    let expected = format!("(`{event_type}` version {schema_version}) cannot be read: this program knows");
    assert!(error.to_string().contains(&expected), "{error}");
}

async fn an_outdated_hash_is_renewed_at_login(_: Location, database: Database) {
    let old = Settings { hash_cost: HashCost { memory_kib: 32, passes: 1, lanes: 1 }, ..Settings::default() };
    let process = start_with(&database, old).await;
    process.register(EMAIL).await.expect("registers");
    let before = text(&database, "SELECT password_hash FROM credentials").await;
    let process = start(&database).await;
    process.login(EMAIL, PASSWORD).await.expect("signs in");
    let after = text(&database, "SELECT password_hash FROM credentials").await;
    assert!(before.contains("m=32,") && after.contains("m=64,"), "{before} {after}");
    process.login(EMAIL, PASSWORD).await.expect("signs in");
}

async fn a_password_can_be_changed(_: Location, database: Database) {
    let process = start(&database).await;
    let account = process.register(EMAIL).await.expect("registers");
    let request = Request::system("test");
    let set = |password| process.identity.set_password(account, secret(password), &request);
    assert!(matches!(set("short").await, Err(IdentityError::Invalid(_))));
    set("analytical engine").await.expect("changes");
    process.login(EMAIL, "analytical engine").await.expect("signs in");
    assert!(process.login(EMAIL, PASSWORD).await.is_err());
    assert_eq!(process.events("account.password_changed").await[0].payload.get(), "{}");
}

async fn the_log_holds_no_password_and_no_token(_: Location, database: Database) {
    let process = start(&database).await;
    let first = process.signed_in().await;
    let second = process.refresh(&first).await.expect("refreshes");
    process.logout(&second).await;
    let page = process.log.find(&EventFilter::default(), 100).await.expect("the log answers");
    let log = serde_json::to_string(&page.events).expect("JSON");
    let hash = text(&database, "SELECT password_hash FROM credentials").await;
    for secret in [PASSWORD, &hash, &first.access_token, &first.refresh_token, &second.refresh_token] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    assert_eq!(count(&database, "refresh_tokens").await, 0);
}

async fn a_signing_key_is_made_once_by_two_processes(location: Location, database: Database) {
    let other = again(&location).await;
    let (one, two) = tokio::join!(start(&database), start(&other));
    assert_eq!(one.identity.jwks(), two.identity.jwks());
    assert_eq!(count(&database, "signing_keys").await, 1);
    two.log.close().await;
    other.close().await;
}

async fn a_rotated_key_goes_on_verifying(_: Location, database: Database) {
    let process = start(&database).await;
    let tokens = process.signed_in().await;
    process.identity.rotate_signing_key(Duration::from_secs(900)).await.expect("rotates");
    let process = start(&database).await;
    process.authenticate(&tokens).expect("the old key verifies");
    process.refresh(&tokens).await.expect("and signs until every process knows the new one");
    assert_eq!(process.identity.jwks()["keys"].as_array().map(Vec::len), Some(2));
}

async fn count(database: &Database, table: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    match database {
        Database::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        Database::Sqlite(file) => sqlx::query_scalar(sql).fetch_one(file.readers()).await,
    }
    .expect("the table answers")
}

async fn text(database: &Database, sql: &'static str) -> String {
    match database {
        Database::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
        Database::Sqlite(file) => sqlx::query_scalar(sql).fetch_one(file.readers()).await,
    }
    .expect("the table answers")
}
