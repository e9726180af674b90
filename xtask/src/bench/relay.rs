//! `relay…`: the log, published to a Kafka.

use anyhow::Context;

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::{Ids, Programs, json};
use crate::bench::server::Server;
use crate::bench::views::{Rate, quarter_of};
use crate::kafka::Broker;

/// How many events the log has, when nothing else is asked for.
const EVENTS: u64 = 1_000_000;

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let lags = [(Rate::Goal, "relay.p99_ms"), (Rate::Reached, "relay.reached.p99_ms")];
    let lags: Vec<_> = lags.into_iter().filter(|(_, name)| plan.wants(name)).collect();
    let backlog = plan.wants("relay.backlog");
    if !backlog && lags.is_empty() && !plan.wants("relay.rate") {
        return Ok(Vec::new());
    }
    let mut kafka = Kafka { broker: Broker::start_as_shipped().await?, topics: 0 };
    let mut rows = Vec::new();
    if backlog {
        rows.push(self::backlog(plan, programs, server, &mut kafka).await?);
    }
    rows.extend(lag(plan, programs, server, &mut kafka, &lags).await?);
    Ok(rows)
}

/// A Kafka of our own.
struct Kafka {
    broker: Broker,
    topics: u64,
}

impl Kafka {
    /// Where to publish: a topic that is not there yet.
    fn new_topic(&mut self) -> [String; 4] {
        self.topics += 1;
        let topic = format!("bench-{}", self.topics);
        ["--brokers".into(), self.broker.address().into(), "--topic".into(), topic]
    }
}

async fn backlog(plan: &Plan, programs: &Programs, server: &Server, kafka: &mut Kafka) -> anyhow::Result<Row> {
    let database = server.database("relay").await?;
    programs.fill(&database.url, plan.events.unwrap_or(EVENTS), None, Ids::Ordered).await?;
    server.settle(&database).await?;
    let mut publish =
        async |verb| json(programs.measurement(verb).args(["--url", &database.url]).args(kafka.new_topic())).await;
    // From here on, the log is in memory, and the broker is at work as it is in the long run.
    publish("relay-by-hand").await?;
    let seen = plan.alternate(&["relay-by-hand", "relay"], async |verb| publish(verb).await).await?;
    database.remove().await?;
    Ok(row("relay.backlog", seen.rates("relay"), Some(seen.rates("relay-by-hand"))))
}

async fn lag(
    plan: &Plan,
    programs: &Programs,
    server: &Server,
    kafka: &mut Kafka,
    lags: &[(Rate, &'static str)],
) -> anyhow::Result<Vec<Row>> {
    const GOAL_RATE: &str = "relay.rate";
    let wants = |rate| lags.iter().any(|(of, _)| *of == rate);
    let mut runs = Vec::new();
    if wants(Rate::Goal) || plan.wants(GOAL_RATE) {
        runs.push((Rate::Goal, quarter_of("append.c64", plan, server).await? as u64));
    }
    if wants(Rate::Reached) {
        let append = server.measure(programs.load("append", plan.pace).args(["--callers", "64"])).await?;
        let rate = (append["per_second"].as_f64().context("a rate")? / 4.0).round();
        println!("    a quarter of what `append.c64` reaches: {rate}/s");
        runs.push((Rate::Reached, rate as u64));
    }
    let seen = plan
        .alternate(&runs, async |(_, rate)| {
            let mut lag = programs.load("relay-lag", plan.pace);
            lag.args(["--callers", "256", "--rate", &rate.to_string()]).args(kafka.new_topic());
            server.measure(&mut lag).await
        })
        .await?;
    let mut rows = Vec::new();
    for run in runs {
        let appends = |field| seen.samples_of(run, "appends", field);
        if run.0 == Rate::Goal && plan.wants(GOAL_RATE) {
            rows.push(row(GOAL_RATE, appends("per_second"), Some(appends("due_per_second"))));
        }
        for (_, name) in lags.iter().filter(|(rate, _)| *rate == run.0) {
            let (due, p50) = (appends("due_per_second").median(), seen.samples(run, "p50_ms").median());
            let load = Some(format!("at {due:.0} appends a second, half of them within {p50:.1} ms"));
            rows.push(Row { load, ..row(name, seen.samples(run, "p99_ms"), None) });
        }
    }
    Ok(rows)
}
