//! A database behind a proxy, and two logs on it: one that goes through the proxy and one that does not.

use std::time::Duration;

use daybook_campaign::Dice;
use daybook_campaign::proxy::{Moment, Proxy};
use daybook_core::{Metadata, Receipt, Revision, StreamId};
use daybook_database::testing::{Backend, run};
use daybook_database::{Database, Location, Options, Schema};
use daybook_log::{Append, Claim, Expected, Log, NewRecord, Settings, Verdict};
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a log waits for others.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Behind {
    pub(crate) proxy: Proxy,
    /// Through the proxy.
    pub(crate) log: Log,
    /// Past it.
    pub(crate) other: Log,
}

/// Runs a test on a database of its own, behind a proxy.
pub(crate) async fn behind_a_proxy<F>(test: impl FnOnce(Behind) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    behind_a_proxy_with(Settings::default(), test).await;
}

/// The same, with settings of its own for the log that goes through the proxy.
pub(crate) async fn behind_a_proxy_with<F>(settings: Settings, test: impl FnOnce(Behind) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    run(Backend::Postgres, &[Schema::Log], async |location: Location, database: Database| {
        let Location::Postgres(options) = location else { panic!("a server was asked for") };
        let server = format!("{}:{}", options.get_host(), options.get_port());
        let proxy = Proxy::start(server, Dice::new(1)).await.expect("a port");
        let through = options.host("127.0.0.1").port(proxy.address().port());
        let through = Location::Postgres(Box::new(through));
        let through = Database::connect(&through, &Options::default()).await.expect("the proxy passes on");
        let (log, other) = (open(through, settings).await, open(database, Settings::default()).await);
        test(Behind { proxy, log, other }).await;
    })
    .await;
}

async fn open(database: Database, settings: Settings) -> Log {
    let settings = Settings { lock_timeout: LOCK_TIMEOUT, ..settings };
    Log::open(database, settings).await.expect("the log opens")
}

/// Waits until a cut was made; the write that it is for is under way.
pub(crate) async fn made(cut: oneshot::Receiver<Moment>) {
    timeout(Duration::from_secs(10), cut).await.expect("in time").expect("no other cut took its place");
}

/// An append of one event, to a stream that is new: it goes out in one statement when nobody is in its way.
pub(crate) fn one() -> Append {
    let command_id = Uuid::now_v7();
    let stream = StreamId::new("thing", command_id);
    Append {
        id: "1".into(),
        command_id,
        events: vec![NewRecord {
            stream: stream.clone(),
            id: Uuid::now_v7(),
            event_type: "thing.done".into(),
            schema_version: 1,
            payload: "{}".into(),
        }],
        metadata: Metadata {
            actor: None,
            client: None,
            command: "test".into(),
            command_id,
            causation_id: None,
            correlation_id: "test".into(),
            traceparent: None,
        },
        expected: vec![Expected { stream, revision: Revision::NONE, read_at: None }],
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    }
}

/// The same, in a transaction of several statements: it gives a claim back.
pub(crate) fn one_in_a_transaction() -> Append {
    let holder = StreamId::new("thing", 1);
    Append { claims: vec![Claim::Release { name: "name".into(), key: "a".into(), holder }], ..one() }
}

/// Appends what has to be committed.
pub(crate) async fn commit(log: &Log, append: Append) -> Receipt {
    match log.append(append).await.expect("a verdict") {
        Verdict::Committed(receipt) => receipt,
        other => panic!("not committed: {other:?}"),
    }
}
