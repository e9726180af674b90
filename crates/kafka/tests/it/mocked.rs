//! Against brokers that librdkafka plays. They take what is aborted for published.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use daybook_core::Position;
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, Options, on_both};
use daybook_kafka::{Published, Settings, backup};
use metrics_exporter_prometheus::PrometheusBuilder;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::fixture::*;

const TOPIC: &str = "events";

on_both!(
    &[Schema::Log],
    all_is_published_in_order,
    whoever_goes_on_begins_behind_what_was_acknowledged,
    nothing_is_lost_by_the_first_error_and_what_follows,
    what_was_in_the_way_is_forgotten_once_it_is_gone,
    a_right_that_is_missing_is_named,
    one_publishes_and_another_takes_over,
    one_whose_lease_was_taken_moves_nothing,
    another_history_is_not_published,
    a_log_that_is_rolled_back_under_a_relay_at_work_is_published_no_further,
    another_number_of_partitions_is_refused,
    a_topic_that_was_made_anew_is_refused,
    without_brokers_the_log_goes_on,
    a_backup_knows_how_far_it_was_published,
    what_is_said_of_a_group_keeps_nobody_from_reading,
    what_the_broker_does_not_take_is_explained,
    a_lag_that_is_not_known_is_no_number,
);

/// Brokers, on a thread that they do not leave.
pub(crate) struct Cluster {
    brokers: String,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

type Order = Box<dyn FnOnce(&MockCluster<'static, DefaultProducerContext>) + Send>;

impl Cluster {
    pub(crate) fn start() -> Self {
        let (orders, taken) = mpsc::channel::<Order>();
        let (told, brokers) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("brokers");
            cluster.create_topic(TOPIC, i32::from(PARTITIONS), 1).expect("a topic");
            told.send(cluster.bootstrap_servers()).expect("somebody asks");
            for order in taken {
                order(&cluster);
            }
        });
        let brokers = brokers.recv().expect("brokers");
        Self { brokers, orders: Some(orders), thread: Some(thread) }
    }

    pub(crate) fn settings(&self) -> Settings {
        settings(&self.brokers, TOPIC)
    }

    async fn read(&self) -> Vec<Vec<Published>> {
        read(&self.brokers, TOPIC).await
    }

    /// The brokers answer the next requests so.
    fn answer(&self, request: RDKafkaApiKey, errors: &'static [RDKafkaRespErr]) {
        let order: Order = Box::new(move |cluster| match errors {
            [] => cluster.clear_request_errors(request),
            errors => cluster.request_errors(request, errors),
        });
        self.order(order);
    }

    /// The only broker goes away, or comes back with what it had.
    pub(crate) fn go(&self, is_away: bool) {
        self.order(Box::new(move |cluster| {
            if is_away { cluster.broker_down(1) } else { cluster.broker_up(1) }.expect("there is one");
        }));
    }

    fn order(&self, order: Order) {
        self.orders.as_ref().expect("it runs").send(order).expect("it runs");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.thread.take().map(JoinHandle::join);
    }
}

async fn all_is_published_in_order(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    append(&log, 50).await;
    let relay = start(&log, &database, &cluster.settings());
    let status = published(&database, &log).await;
    assert_eq!((status.partitions, status.problem), (Some(PARTITIONS), None));
    append(&log, 20).await;
    published(&database, &log).await;
    relay.stop().await;
    let topic = cluster.read().await;
    assert_holds(&topic, &log).await;
    assert_eq!(count(&topic), 70, "nothing twice");
}

async fn whoever_goes_on_begins_behind_what_was_acknowledged(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    for round in 1..=3 {
        let relay = start(&log, &database, &cluster.settings());
        append(&log, 10).await;
        published(&database, &log).await;
        relay.stop().await;
        assert_eq!(count(&cluster.read().await), round * 10);
        assert_eq!(status(&database, &log).await.and_then(|status| status.owner), None, "given back");
    }
    assert_holds(&cluster.read().await, &log).await;
}

async fn nothing_is_lost_by_the_first_error_and_what_follows(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    let errors: [(RDKafkaApiKey, &[RDKafkaRespErr]); 4] = [
        (RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD; 9]),
        (RDKafkaApiKey::AddPartitionsToTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE; 9]),
        (RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE; 9]),
        (RDKafkaApiKey::EndTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED; 9]),
    ];
    for (request, errors) in errors {
        cluster.answer(request, errors);
        append(&log, 5).await;
        problem(&database, &log).await;
        cluster.answer(request, &[]);
        let status = published(&database, &log).await;
        assert_eq!(status.problem, None, "it has gone on");
    }
    relay.stop().await;
    assert_holds(&cluster.read().await, &log).await;
}

async fn what_was_in_the_way_is_forgotten_once_it_is_gone(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    wait_for("somebody to publish", async || status(&database, &log).await?.owner).await;
    relay.stop().await;
    execute(&database, "UPDATE relays SET problem = 'the brokers do not answer'").await;
    let relay = start(&log, &database, &cluster.settings());
    // There is nothing to publish, and so nothing that is acknowledged.
    assert!(status(&database, &log).await.is_some_and(|status| status.position == Position::START));
    wait_for("it to go on", async || status(&database, &log).await.filter(|status| status.problem.is_none()))
        .await;
    relay.stop().await;
}

async fn a_right_that_is_missing_is_named(_: Location, database: Database) {
    const TOPIC_FORBIDDEN: &[RDKafkaRespErr] = &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 9];
    const ID_FORBIDDEN: &[RDKafkaRespErr] =
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 9];
    let log = open(&database).await;
    append(&log, 5).await;
    let log_id = log.head().await.expect("the log answers").log_id;
    let id = format!("transactional ids `daybook-{log_id}-{TOPIC}` and `daybook-{log_id}-{TOPIC}:2`");
    let cases = [
        (RDKafkaApiKey::FindCoordinator, ID_FORBIDDEN, id.as_str()),
        (RDKafkaApiKey::InitProducerId, ID_FORBIDDEN, id.as_str()),
        (RDKafkaApiKey::AddPartitionsToTxn, TOPIC_FORBIDDEN, "topic `events`"),
        (RDKafkaApiKey::Produce, TOPIC_FORBIDDEN, "topic `events`"),
    ];
    for (request, errors, on) in cases {
        let cluster = Cluster::start();
        cluster.answer(request, errors);
        let relay = start(&log, &database, &cluster.settings());
        let said = format!("do not let us: grant the relay's user `Write` on the {on}");
        wait_for("what is missing", || async {
            status(&database, &log).await?.problem.filter(|problem| problem.ends_with(&said))
        })
        .await;
        relay.stop().await;
    }
}

/// The topic is readable, and nobody is in a group.
async fn what_is_said_of_a_group_keeps_nobody_from_reading(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    relay.stop().await;
    let head = log.head().await.expect("the log answers");
    let forbidden = &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 99];
    cluster.answer(RDKafkaApiKey::FindCoordinator, forbidden);
    let found = backup::published(&cluster.settings(), head.log_id).await.expect("it is read");
    assert_eq!(found.map(|found| found.checkpoint), Some(head.checkpoint()));
}

async fn what_the_broker_does_not_take_is_explained(_: Location, database: Database) {
    let log = open(&database).await;
    append(&log, 5).await;
    let cases: [(&[RDKafkaRespErr], &str); 2] = [
        (&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP; 9], "set its `message.timestamp.after.max.ms`"),
        (&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 9], "raise its `max.message.bytes`"),
    ];
    for (errors, said) in cases {
        let cluster = Cluster::start();
        cluster.answer(RDKafkaApiKey::Produce, errors);
        let relay = start(&log, &database, &cluster.settings());
        wait_for("the advice", || async {
            status(&database, &log).await?.problem.filter(|problem| problem.contains(said))
        })
        .await;
        relay.stop().await;
    }
}

async fn a_lag_that_is_not_known_is_no_number(location: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    relay.stop().await;
    let there = Database::connect(&location, &Options::default()).await.expect("the database answers");
    let log = open(&there).await;
    for (is_away, said) in [(false, "0"), (true, "NaN")] {
        if is_away {
            there.close().await;
        }
        let (database, log) = (there.clone(), log.clone());
        let recorder = PrometheusBuilder::new().build_recorder();
        let reporting = tokio::task::spawn_blocking(move || {
            let report = daybook_kafka::report(&database, &log, TOPIC);
            metrics::with_local_recorder(&recorder, || tokio::runtime::Handle::current().block_on(report));
            recorder.handle().render()
        });
        let shown = reporting.await.expect("no panic");
        for name in ["daybook_relay_lag_events", "daybook_relay_lag_seconds"] {
            assert!(shown.contains(&format!("{name}{{topic=\"{TOPIC}\"}} {said}\n")), "{shown}");
        }
    }
}

async fn one_publishes_and_another_takes_over(location: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let first = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    let owner = published(&database, &log).await.owner.expect("an owner");
    let there = Database::connect(&location, &Options::default()).await.expect("the database answers");
    let second = start(&open(&there).await, &there, &cluster.settings());
    append(&log, 5).await;
    assert_eq!(published(&database, &log).await.owner, Some(owner.clone()), "it keeps it");
    first.stop().await;
    let next = wait_for("the other", || async { status(&database, &log).await?.owner }).await;
    assert_ne!(next, owner);
    append(&log, 5).await;
    published(&database, &log).await;
    second.stop().await;
    there.close().await;
    let topic = cluster.read().await;
    assert_holds(&topic, &log).await;
    assert_eq!(count(&topic), 15, "nothing twice");
}

/// As if it had been frozen while another one held it.
async fn one_whose_lease_was_taken_moves_nothing(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    let until = match &database {
        Database::Postgres(_) => "now() + interval '1 hour'",
        Database::Sqlite(_) => "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+3600 seconds')",
    };
    let rob =
        format!("UPDATE relays SET lease_epoch = lease_epoch + 1, lease_owner = 'a rival', lease_until = {until}");
    execute(&database, &rob).await;
    append(&log, 5).await;
    // It publishes them, unless it sees first that it has lost its lease. Once it ends, it has tried to write that down.
    let mut acknowledged = relay.acknowledged();
    let _ =
        tokio::time::timeout(Duration::from_secs(2), acknowledged.wait_for(|reached| reached.get() == 10)).await;
    let held = async || status(&database, &log).await.map(|status| (status.position.get(), status.owner));
    let rivals = Some((5, Some("a rival".to_owned())));
    assert_eq!(held().await, rivals);
    relay.stop().await;
    assert_eq!(held().await, rivals, "who lost it moves nothing, and gives nothing back");
}

async fn another_history_is_not_published(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    relay.stop().await;
    execute(&database, "UPDATE relays SET event_id = log_id").await;
    append(&log, 5).await;
    let relay = start(&log, &database, &cluster.settings());
    let problem = problem(&database, &log).await;
    assert!(problem.contains("the event at position 5 is not the one"), "{problem}");
    relay.stop().await;
    assert_eq!(count(&cluster.read().await), 5);
}

/// As putting an older backup in its place does: the log ends there, or has gone on beyond where the relay was.
async fn a_log_that_is_rolled_back_under_a_relay_at_work_is_published_no_further(_: Location, database: Database) {
    for further in [0, 2] {
        let (cluster, log) = (Cluster::start(), open(&database).await);
        append(&log, 5).await;
        let end = log.head().await.expect("the log answers").position.get();
        let relay = start(&log, &database, &cluster.settings());
        published(&database, &log).await;
        roll_back(&database, end - 1).await;
        let other = open(&database).await;
        append(&other, further).await;
        let mut acknowledged = relay.acknowledged();
        tokio::select! {
            problem = problem(&database, &other) => assert!(problem.contains("rolled back"), "{problem}"),
            Ok(reached) = acknowledged.wait_for(|reached| reached.get() > end) => {
                panic!("{} is of another history", *reached)
            }
        }
        relay.stop().await;
        assert_eq!(count(&cluster.read().await) as u64, end, "as it was");
        other.close().await;
        execute(&database, "DELETE FROM relays").await;
    }
}

async fn another_number_of_partitions_is_refused(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    relay.stop().await;
    execute(&database, "UPDATE relays SET partitions = 2").await;
    append(&log, 5).await;
    let relay = start(&log, &database, &cluster.settings());
    let problem = problem(&database, &log).await;
    assert!(problem.contains("has 3 partitions, and had 2"), "{problem}");
    relay.stop().await;
    assert_eq!(count(&cluster.read().await), 5);
}

async fn a_topic_that_was_made_anew_is_refused(_: Location, database: Database) {
    let log = open(&database).await;
    {
        let cluster = Cluster::start();
        let relay = start(&log, &database, &cluster.settings());
        append(&log, 5).await;
        published(&database, &log).await;
        relay.stop().await;
    }
    let cluster = Cluster::start();
    let relay = start(&log, &database, &cluster.settings());
    let problem = problem(&database, &log).await;
    assert!(problem.contains("has had 0 messages, and 5 were published"), "{problem}");
    relay.stop().await;
    assert_eq!(count(&cluster.read().await), 0);
}

async fn without_brokers_the_log_goes_on(_: Location, database: Database) {
    let log = open(&database).await;
    let relay = start(&log, &database, &settings("127.0.0.1:1", TOPIC));
    append(&log, 5).await;
    let problem = problem(&database, &log).await;
    assert!(problem.contains("127.0.0.1:1") && problem.contains("refused"), "{problem}");
    append(&log, 5).await;
    assert_eq!(status(&database, &log).await.map(|status| status.lag_events), Some(10));
    let stopped = tokio::time::timeout(Duration::from_secs(5), relay.stop()).await;
    stopped.expect("it does not wait for Kafka");
}

async fn a_backup_knows_how_far_it_was_published(_: Location, database: Database) {
    let (cluster, log) = (Cluster::start(), open(&database).await);
    let relay = start(&log, &database, &cluster.settings());
    append(&log, 5).await;
    published(&database, &log).await;
    let mut snapshot = database.snapshot().await.expect("a state");
    let reached = backup::reached(&mut snapshot).await.expect("rows");
    snapshot.close().await.expect("closed");
    assert_eq!(reached.len(), 1);
    assert_eq!((reached[0].topic.as_str(), reached[0].checkpoint.position.get()), (TOPIC, 5));
    log.check(&reached[0].checkpoint).await.expect("it is of this log");

    // Over the row that is there, and held; and where there is none.
    let lines: Vec<String> = reached.iter().map(|one| serde_json::to_string(one).expect("JSON")).collect();
    for empty in [false, true] {
        let change =
            if empty { "DELETE FROM relays" } else { "UPDATE relays SET partitions = NULL, position = 2" };
        execute(&database, change).await;
        let mut loading = database.load().await.expect("a transaction");
        loading.read(&backup::RELAYS, &lines).await.expect("taken");
        loading.commit().await.expect("committed");
        let mut snapshot = database.snapshot().await.expect("a state");
        assert_eq!(backup::reached(&mut snapshot).await.expect("rows"), reached);
        snapshot.close().await.expect("closed");
    }
    relay.stop().await;
}
