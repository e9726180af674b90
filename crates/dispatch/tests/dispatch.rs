//! The way of a command, on both stores, over a domain of one aggregate: a purse.

use std::collections::BTreeSet;
use std::time::Duration;

use daybook_core::{
    Access, Actor, Aggregate, Command, CommandSpec, Context, Decision, Entity, Event, NotLoaded, Personal,
    Position, Reads, RecordedEvent, Rejection, Revision, Role, StreamId, account_subject, event_set,
};
use daybook_database::{Database, Location, on_both};
use daybook_dispatch::{DispatchError, Dispatcher, Request, Settings};
use daybook_keys::{Keys, MasterKeys};
use daybook_log::Log;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Paid {
    amount: i64,
    owner: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Personal<String>>,
}

impl Event for Paid {
    const TYPE: &'static str = "purse.paid";
    const VERSION: u32 = 1;
}

event_set! {
    enum PurseEvent { Paid }
}

#[derive(Debug, Clone, Default)]
struct Purse {
    balance: i64,
    owner: Option<Uuid>,
    note: Option<Personal<String>>,
}

impl Aggregate for Purse {
    const CATEGORY: &'static str = "purse";
    type Event = PurseEvent;

    fn apply(&mut self, PurseEvent::Paid(paid): &PurseEvent) {
        self.balance += paid.amount;
        self.owner = self.owner.or(paid.owner);
        self.note = paid.note.clone().or(self.note.take());
    }
}

/// Moves an amount from one purse to another; out of nowhere when there is no `from`.
#[derive(Debug, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
struct Pay {
    #[garde(skip)]
    from: Option<Uuid>,
    #[garde(skip)]
    to: Uuid,
    #[garde(range(min = 1))]
    amount: i64,
    /// Left out, the last one of the purse that it is from.
    #[serde(default)]
    #[garde(skip)]
    note: Option<String>,
}

impl Command for Pay {
    const NAME: &'static str = "purse.pay";
    const ACCESS: Access = Access::owner_or(&[Role::Staff]);
    type Model = (Option<Entity<Purse>>, Entity<Purse>);

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new("purse", self.from.unwrap_or(self.to))
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        let from = self.from.map(|from| reads.get(from));
        let to = reads.get(self.to);
        Ok((from.transpose()?, to?))
    }

    fn owner(&self, (from, to): &Self::Model, _: &Context) -> Option<Uuid> {
        from.as_ref().unwrap_or(to).owner
    }

    fn handle(&self, (from, to): &Self::Model, context: &Context) -> Result<Decision, Rejection> {
        let mut decision = Decision::new();
        if let Some(from) = from {
            if from.balance < self.amount {
                return Err(Rejection::rule("not_enough", "There is not enough in it.").field("amount"));
            }
            decision = decision.emit(from, Paid { amount: -self.amount, owner: None, note: None });
        }
        let owner = context.actor.account();
        let new = self.note.clone().zip(owner).map(|(note, owner)| Personal::new(account_subject(owner), note));
        let note = new.or_else(|| from.as_ref()?.note.clone());
        Ok(decision.emit(to, Paid { amount: self.amount, owner, note }))
    }
}

/// Gives a purse a name that no other one has: another one's, when it is `from` that one.
#[derive(Debug, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
struct Name {
    #[garde(skip)]
    from: Option<Uuid>,
    #[garde(skip)]
    to: Uuid,
    #[garde(skip)]
    name: String,
}

impl Command for Name {
    const NAME: &'static str = "purse.name";
    const ACCESS: Access = Access::roles(&[Role::Staff]);
    type Model = (Option<Entity<Purse>>, Entity<Purse>);

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new("purse", self.to)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Self::Model, NotLoaded> {
        let from = self.from.map(|from| reads.get(from));
        let to = reads.get(self.to);
        Ok((from.transpose()?, to?))
    }

    fn handle(&self, (from, to): &Self::Model, _: &Context) -> Result<Decision, Rejection> {
        let mut decision = Decision::new().emit(to, Paid { amount: 0, owner: None, note: None });
        if let Some(from) = from {
            decision = decision.release(from, "purse.name", &self.name);
        }
        Ok(decision.claim(
            to,
            "purse.name",
            &self.name,
            Rejection::rule("name_taken", "Another one has this name."),
        ))
    }
}

async fn keys(database: &Database) -> Keys {
    let masters = MasterKeys::parse(&"5e".repeat(32)).expect("a master key");
    Keys::open(database, masters).await.expect("the keys open")
}

async fn dispatcher(database: Database) -> (Dispatcher, Log) {
    let keys = keys(&database).await;
    let log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
    let settings = Settings { refusal_window: Duration::from_secs(3600), ..Settings::default() };
    (Dispatcher::new(log.clone(), keys, settings), log)
}

fn request(role: Role) -> Request {
    let actor = Actor::Account { id: Uuid::from_u128(role as u128 + 1), roles: vec![role] };
    Request { actor, client_ip: Some("192.0.2.7".into()), ..Request::system("test") }
}

fn body(from: Option<u128>, to: u128, amount: i64) -> Vec<u8> {
    let pay = Pay { from: from.map(Uuid::from_u128), to: Uuid::from_u128(to), amount, note: None };
    serde_json::to_vec(&pay).expect("JSON")
}

async fn history(log: &Log) -> Vec<RecordedEvent> {
    log.read(Position::START, 1_000).await.expect("the log answers")
}

async fn a_receipt_says_where_the_events_stand(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let staff = request(Role::Staff);
    dispatcher.dispatch(&spec, &body(None, 1, 10), &staff).await.expect("a receipt");
    let receipt = dispatcher.dispatch(&spec, &body(Some(1), 2, 4), &staff).await.expect("a receipt");

    assert_eq!(receipt.id, Uuid::from_u128(1).to_string());
    assert_eq!(receipt.position, Position::new(3));
    let events = history(&log).await;
    for (event, said) in events[1..].iter().zip(&receipt.events) {
        assert_eq!((&said.stream, said.revision, said.position), (&event.stream, event.revision, event.position));
        assert_eq!(said.event_type, event.event_type);
        let metadata = event.metadata().expect("metadata");
        assert_eq!(metadata.command_id, receipt.command_id);
        assert_eq!(metadata.command, "purse.pay");
        assert_eq!(metadata.actor, staff.actor.name());
        assert_eq!(metadata.correlation_id, staff.correlation_id);
    }
    assert_eq!(receipt.events[1].revision, Revision::new(1));
    log.close().await;
}

async fn a_repeated_command_gets_the_first_receipt(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let keyed = |key: &str, role| Request { idempotency_key: Some(key.into()), ..request(role) };
    let first = dispatcher.dispatch(&spec, &body(None, 1, 10), &keyed("a", Role::Staff)).await.expect("a receipt");
    let again = dispatcher.dispatch(&spec, &body(None, 1, 10), &keyed("a", Role::Staff)).await.expect("a receipt");
    assert_eq!(first, again);
    let other_body = dispatcher.dispatch(&spec, &body(None, 1, 11), &keyed("a", Role::Staff)).await;
    assert!(matches!(other_body, Err(DispatchError::KeyReused)), "{other_body:?}");
    let other_actor = dispatcher.dispatch(&spec, &body(None, 1, 10), &keyed("a", Role::Admin)).await;
    assert_ne!(other_actor.expect("a receipt").command_id, first.command_id);
    assert_eq!(history(&log).await.len(), 2);
    log.close().await;
}

async fn what_is_personal_is_sealed_before_it_is_appended(_: Location, database: Database) {
    let keys = keys(&database).await;
    let (dispatcher, log) = dispatcher(database).await;
    let (staff, anonymous) =
        (request(Role::Staff), Request { actor: Actor::Anonymous, ..request(Role::Customer) });
    let pay = Pay { from: None, to: Uuid::from_u128(1), amount: 5, note: Some("for the rent".into()) };
    dispatcher.run(Pay::NAME, Pay::ACCESS, &pay, &staff).await.expect("a receipt");
    // A rejection, and what somebody without an account does.
    let spec = CommandSpec::of::<Pay>();
    dispatcher.dispatch(&spec, &body(Some(7), 8, 1), &staff).await.expect_err("there is nothing in it");
    dispatcher.run(Pay::NAME, Access::anyone(), &pay, &anonymous).await.expect_err("not theirs");

    let events = history(&log).await;
    assert_eq!(events.len(), 3);
    for event in &events {
        let line = serde_json::to_string(event).expect("JSON");
        assert!(!line.contains("rent") && !line.contains("192.0.2.7"), "{line}");
        let opened = keys
            .open_documents(vec![event.metadata.check().expect("JSON").to_owned()], &|_| true)
            .await
            .expect("the keys answer");
        assert!(opened.documents[0].get().contains(r#""client":{"ip":"192.0.2.7"}"#), "{opened:?}");
    }
    let opened = keys
        .open_documents(vec![events[0].payload.check().expect("JSON").to_owned()], &|_| true)
        .await
        .expect("the keys answer");
    assert!(opened.documents[0].get().contains(r#""note":"for the rent""#), "{opened:?}");
    log.close().await;
}

async fn a_copy_names_where_it_came_from_though_its_origin_is_in_memory_only(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let staff = request(Role::Staff);
    let first = Pay { from: None, to: Uuid::from_u128(1), amount: 5, note: Some("for the rent".into()) };
    let copy = Pay { from: Some(Uuid::from_u128(1)), to: Uuid::from_u128(2), amount: 5, note: None };
    // With both purses and the key in memory, the second is decided on what the first left there.
    for purse in [1, 2] {
        let spec = CommandSpec::of::<Pay>();
        dispatcher.dispatch(&spec, &body(None, purse, 1), &staff).await.expect("a receipt");
    }
    let (first, copy) = tokio::join!(
        dispatcher.run(Pay::NAME, Pay::ACCESS, &first, &staff),
        dispatcher.run(Pay::NAME, Pay::ACCESS, &copy, &staff),
    );
    first.and(copy).expect("receipts");
    let events = history(&log).await;
    let note = |event: &RecordedEvent| {
        serde_json::from_str::<serde_json::Value>(event.payload.get()).expect("JSON")["note"].clone()
    };
    assert_eq!(note(&events[2])["of"], format!("{}/note", events[2].id));
    assert_eq!(note(&events[4]), note(&events[2]));
    log.close().await;
}

async fn many_at_once_overdraw_nothing(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    dispatcher.dispatch(&spec, &body(None, 1, 10), &request(Role::Staff)).await.expect("a receipt");
    let tries: Vec<_> = (0..32u128)
        .map(|n| {
            let (dispatcher, spec) = (dispatcher.clone(), spec.clone());
            tokio::spawn(async move {
                dispatcher.dispatch(&spec, &body(Some(1), 100 + n, 1), &request(Role::Staff)).await
            })
        })
        .collect();
    let (mut paid, mut refused) = (0, 0);
    for one in tries {
        match one.await.expect("no panic") {
            Ok(_) => paid += 1,
            Err(DispatchError::Rejected(rejection)) if rejection.code == "not_enough" => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((paid, refused), (10, 22));
    log.close().await;
}

async fn a_stale_precondition_is_told_and_writes_nothing(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let at = |revision| Request { if_match: Some(Revision::new(revision)), ..request(Role::Staff) };
    dispatcher.dispatch(&spec, &body(None, 1, 10), &at(0)).await.expect("it did not exist");
    let stale = dispatcher.dispatch(&spec, &body(None, 1, 10), &at(0)).await;
    assert!(
        matches!(stale, Err(DispatchError::Precondition { actual, .. }) if actual == Revision::new(1)),
        "{stale:?}"
    );
    dispatcher.dispatch(&spec, &body(None, 1, 10), &at(1)).await.expect("that is where it is");
    assert_eq!(history(&log).await.len(), 2);
    log.close().await;
}

async fn of_two_with_the_same_precondition_one_is_told(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let at_start = Request { if_match: Some(Revision::NONE), ..request(Role::Staff) };
    let (body_a, body_b) = (body(None, 1, 1), body(None, 1, 2));
    let (a, b) = tokio::join!(
        dispatcher.dispatch(&spec, &body_a, &at_start),
        dispatcher.dispatch(&spec, &body_b, &at_start),
    );
    let told = |result: &Result<_, DispatchError>| matches!(result, Err(DispatchError::Precondition { .. }));
    assert!((a.is_ok() && told(&b)) || (b.is_ok() && told(&a)), "{a:?} {b:?}");
    log.close().await;
}

async fn a_dry_run_answers_what_would_be_and_writes_nothing(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let keyed = Request { idempotency_key: Some("a".into()), ..request(Role::Staff) };
    dispatcher.dispatch(&spec, &body(None, 1, 10), &request(Role::Staff)).await.expect("a receipt");
    let with_note =
        br#"{"from":"00000000-0000-0000-0000-000000000001","to":"00000000-0000-0000-0000-000000000002",
        "amount":4,"note":"for the rent"}"#;
    let preview = dispatcher.preview(&spec, with_note, &keyed).await.expect("a preview");
    let would: Vec<_> = preview.events.iter().map(|event| (event.stream.id(), event.revision.get())).collect();
    assert_eq!(would, [(&*Uuid::from_u128(1).to_string(), 2), (&*Uuid::from_u128(2).to_string(), 1)]);
    assert!(preview.events[1].payload.get().contains(r#""note":"for the rent""#), "{preview:?}");
    assert_eq!(preview.position, Position::new(1));

    let rejected = dispatcher.preview(&spec, &body(Some(1), 2, 11), &keyed).await;
    assert!(matches!(rejected, Err(DispatchError::Rejected(_))), "{rejected:?}");
    let stale = Request { if_match: Some(Revision::NONE), ..request(Role::Staff) };
    let stale = dispatcher.preview(&spec, &body(Some(1), 2, 1), &stale).await;
    assert!(matches!(stale, Err(DispatchError::Precondition { .. })), "{stale:?}");
    assert_eq!(history(&log).await.len(), 1, "not even the rejection");
    // Nothing of it is left in memory either, and the key was not used up.
    let receipt = dispatcher.dispatch(&spec, &body(Some(1), 2, 10), &keyed).await.expect("a receipt");
    assert_eq!(receipt.events[1].revision, Revision::new(1));

    // To see what would be, one has to be allowed to do it; who tries is written down.
    let denied = dispatcher.preview(&spec, &body(Some(1), 2, 1), &request(Role::Customer)).await;
    assert!(matches!(denied, Err(DispatchError::NotTheirs)), "{denied:?}");
    assert_eq!(history(&log).await.len(), 4);
    log.close().await;
}

async fn a_dry_run_works_claims_off_as_an_append_does(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let (spec, staff) = (CommandSpec::of::<Name>(), request(Role::Staff));
    let body = |from: Option<u128>, to: u128| {
        let name = Name { from: from.map(Uuid::from_u128), to: Uuid::from_u128(to), name: "savings".into() };
        serde_json::to_vec(&name).expect("JSON")
    };
    dispatcher.dispatch(&spec, &body(None, 1), &staff).await.expect("a receipt");
    for (from, to, is_taken) in [(None, 2, true), (Some(3), 2, true), (None, 1, false), (Some(1), 2, false)] {
        let body = body(from, to);
        let (preview, done) =
            (dispatcher.preview(&spec, &body, &staff).await, dispatcher.dispatch(&spec, &body, &staff).await);
        assert_eq!(matches!(preview, Err(DispatchError::Rejected(_))), is_taken, "{from:?} to {to}: {preview:?}");
        assert_eq!((preview.is_err(), done.is_err()), (is_taken, is_taken), "{from:?} to {to}: {done:?}");
    }
    log.close().await;
}

async fn refusals_are_in_the_log_once_and_counted(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    for _ in 0..5 {
        let refused = dispatcher.dispatch(&spec, &body(Some(1), 2, 1), &request(Role::Staff)).await;
        assert!(matches!(refused, Err(DispatchError::Rejected(_))), "{refused:?}");
        let denied = dispatcher.dispatch(&spec, &body(Some(1), 2, 1), &request(Role::Customer)).await;
        assert!(matches!(denied, Err(DispatchError::NotTheirs)), "{denied:?}");
    }
    assert_eq!(history(&log).await.len(), 2, "the first of each is written at once");
    dispatcher.close().await;

    let mut counts = std::collections::BTreeMap::new();
    for event in history(&log).await {
        assert_eq!(event.stream.category(), "daybook.refusals");
        assert!(event.payload.get().contains("purse-00000000"), "{}", event.payload);
        let payload: serde_json::Value = serde_json::from_str(event.payload.get()).expect("JSON");
        *counts.entry(event.event_type).or_insert(0) += payload["count"].as_u64().expect("a count");
    }
    let counts: Vec<_> = counts.into_iter().collect();
    assert_eq!(counts, [("daybook.command.denied".to_owned(), 5), ("daybook.command.rejected".to_owned(), 5)]);
    log.close().await;
}

async fn a_window_that_is_over_writes_its_count(_: Location, database: Database) {
    let keys = keys(&database).await;
    let log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
    let settings = Settings { refusal_window: Duration::from_millis(200), ..Settings::default() };
    let dispatcher = Dispatcher::new(log.clone(), keys, settings);
    let spec = CommandSpec::of::<Pay>();
    for _ in 0..3 {
        let refused = dispatcher.dispatch(&spec, &body(Some(1), 2, 1), &request(Role::Staff)).await;
        assert!(matches!(refused, Err(DispatchError::Rejected(_))), "{refused:?}");
    }
    let mut head = log.watch();
    let written = head.wait_for(|position| *position >= Position::new(2));
    tokio::time::timeout(Duration::from_secs(20), written).await.expect("in time").expect("the log is open");
    let counts: Vec<_> = history(&log)
        .await
        .iter()
        .map(|event| {
            serde_json::from_str::<serde_json::Value>(event.payload.get()).expect("JSON")["count"].clone()
        })
        .collect();
    assert_eq!(counts.iter().filter_map(serde_json::Value::as_u64).sum::<u64>(), 3, "{counts:?}");
    log.close().await;
}

async fn a_twin_in_another_process_gets_the_winners_receipt(_: Location, database: Database) {
    let (one, log) = dispatcher(database.clone()).await;
    let (two, other_log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let staff = request(Role::Staff);
    for round in 0..20u128 {
        let (purse, key) = (1_000 + round, format!("round {round}"));
        one.dispatch(&spec, &body(None, purse, 1), &staff).await.expect("a receipt");
        let keyed = Request { idempotency_key: Some(key), ..staff.clone() };
        let last_coin = body(Some(purse), 1, 1);
        let (a, b) =
            tokio::join!(one.dispatch(&spec, &last_coin, &keyed), two.dispatch(&spec, &last_coin, &keyed),);
        assert_eq!(a.expect("a receipt"), b.expect("the same receipt"), "round {round}");
    }
    log.close().await;
    other_log.close().await;
}

async fn at_its_deadline_a_command_gives_up(_: Location, database: Database) {
    let (one, log) = dispatcher(database.clone()).await;
    let keys = keys(&database).await;
    let other_log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
    let settings = Settings { deadline: Duration::ZERO, ..Settings::default() };
    let two = Dispatcher::new(other_log.clone(), keys, settings);
    let spec = CommandSpec::of::<Pay>();
    let staff = request(Role::Staff);
    let (body_a, body_b) = (body(None, 1, 1), body(None, 1, 1));
    // Both decide over the same state; of those rounds in which the second is too late, it must not try again.
    let mut gave_up = false;
    for _ in 0..200 {
        let (a, b) = tokio::join!(one.dispatch(&spec, &body_a, &staff), two.dispatch(&spec, &body_b, &staff));
        a.expect("has time to try again");
        match b {
            Ok(_) => {}
            Err(DispatchError::Conflict) => {
                gave_up = true;
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(gave_up, "never in each other's way");
    log.close().await;
    other_log.close().await;
}

async fn an_owner_may_and_the_order_of_checks_holds(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let customer = request(Role::Customer);
    let theirs = Pay { from: None, to: Uuid::from_u128(9), amount: 5, note: None };
    let as_owner = Request { actor: customer.actor.clone(), ..Request::system("test") };
    let staff_like = Request {
        actor: Actor::Account { id: customer.actor.account().expect("an account"), roles: vec![Role::Staff] },
        ..Request::system("test")
    };
    dispatcher.run(Pay::NAME, Pay::ACCESS, &theirs, &staff_like).await.expect("staff opens it for them");
    dispatcher.dispatch(&spec, &body(Some(9), 2, 1), &as_owner).await.expect("it is theirs");

    let anonymous = Request { actor: Actor::Anonymous, ..Request::system("test") };
    let first = dispatcher.dispatch(&spec, b"nonsense", &anonymous).await;
    assert!(matches!(first, Err(DispatchError::SignIn)), "{first:?}");
    let second = dispatcher.dispatch(&spec, b"nonsense", &as_owner).await;
    assert!(matches!(second, Err(DispatchError::Input(_))), "{second:?}");
    log.close().await;
}

on_both!(
    &[Schema::Log, Schema::Keys],
    a_receipt_says_where_the_events_stand,
    a_repeated_command_gets_the_first_receipt,
    what_is_personal_is_sealed_before_it_is_appended,
    a_copy_names_where_it_came_from_though_its_origin_is_in_memory_only,
    many_at_once_overdraw_nothing,
    a_stale_precondition_is_told_and_writes_nothing,
    of_two_with_the_same_precondition_one_is_told,
    a_dry_run_answers_what_would_be_and_writes_nothing,
    a_dry_run_works_claims_off_as_an_append_does,
    refusals_are_in_the_log_once_and_counted,
    a_window_that_is_over_writes_its_count,
    a_twin_in_another_process_gets_the_winners_receipt,
    at_its_deadline_a_command_gives_up,
    an_owner_may_and_the_order_of_checks_holds,
    commands_to_one_stream_ride_in_few_commits,
    what_is_built_on_a_failed_append_fails_with_it,
    what_an_aggregate_panics_over_is_not_appended,
    a_refusal_takes_into_account_what_others_have_written,
);

async fn commands_to_one_stream_ride_in_few_commits(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let staff = request(Role::Staff);
    dispatcher.dispatch(&spec, &body(None, 1, 1), &staff).await.expect("a receipt");
    // They come together, and each is decided on what those before it left, committed or not.
    let body = body(None, 1, 1);
    let receipts = join_all((0..100).map(|_| dispatcher.dispatch(&spec, &body, &staff))).await;
    let revisions: BTreeSet<u64> =
        receipts.iter().map(|receipt| receipt.as_ref().expect("a receipt").events[0].revision.get()).collect();
    assert_eq!(revisions, (2..=101).collect());
    let times: BTreeSet<_> = history(&log).await.iter().map(|event| event.recorded_at).collect();
    // A group has one time.
    assert!(times.len() < 50, "{} commits", times.len());
}

async fn what_is_built_on_a_failed_append_fails_with_it(_: Location, database: Database) {
    let keys = keys(&database).await;
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let staff = request(Role::Staff);
    dispatcher.dispatch(&spec, &body(None, 1, 1), &staff).await.expect("a receipt");
    // Another process takes the money out, and this one has not seen it yet.
    let spend = CommandSpec::of::<Pay>();
    let elsewhere = Dispatcher::new(log.clone(), keys, Settings::default());
    elsewhere.dispatch(&spend, &body(Some(1), 2, 1), &staff).await.expect("a receipt");
    // The first of these is decided on the old balance, the second on what the first left.
    let (first, second) = (body(Some(1), 3, 1), body(Some(3), 4, 1));
    let (first, second) =
        tokio::join!(dispatcher.dispatch(&spec, &first, &staff), dispatcher.dispatch(&spec, &second, &staff));
    for answer in [first, second] {
        assert!(matches!(answer, Err(DispatchError::Rejected(_))), "{answer:?}");
    }
    let purses: Vec<_> = history(&log).await.iter().map(|event| event.stream.to_string()).collect();
    assert!(purses.iter().all(|purse| !purse.ends_with('3') && !purse.ends_with('4')), "{purses:?}");
}

async fn what_an_aggregate_panics_over_is_not_appended(_: Location, database: Database) {
    let (dispatcher, log) = dispatcher(database).await;
    let (spec, staff) = (CommandSpec::of::<Pay>(), request(Role::Staff));
    for (to, amount) in [(1, i64::MAX), (2, 5)] {
        dispatcher.dispatch(&spec, &body(None, to, amount), &staff).await.expect("a receipt");
    }
    // The first purse has changed in memory when the second one overflows.
    let overflows = {
        let (dispatcher, spec, staff) = (dispatcher.clone(), spec.clone(), staff.clone());
        tokio::spawn(async move { dispatcher.dispatch(&spec, &body(Some(2), 1, 5), &staff).await })
    };
    assert!(overflows.await.expect_err("it panics").is_panic());
    assert_eq!(history(&log).await.len(), 2);
    dispatcher.dispatch(&spec, &body(Some(2), 3, 5), &staff).await.expect("the five are still there");
    log.close().await;
}

async fn a_refusal_takes_into_account_what_others_have_written(_: Location, database: Database) {
    let keys = keys(&database).await;
    let (dispatcher, log) = dispatcher(database).await;
    let spec = CommandSpec::of::<Pay>();
    let staff = request(Role::Staff);
    dispatcher.dispatch(&spec, &body(None, 1, 1), &staff).await.expect("a receipt");
    let elsewhere = Dispatcher::new(log.clone(), keys, Settings::default());
    elsewhere.dispatch(&spec, &body(None, 1, 9), &staff).await.expect("a receipt");
    dispatcher.dispatch(&spec, &body(Some(1), 2, 10), &staff).await.expect("there is enough by now");
}
