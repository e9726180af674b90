//! `rebuild…`, `project…` and `lag…`: views of a filled log.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use crate::bench::figures::Row;
use crate::bench::goals::{Goal, metrics};
use crate::bench::plan::{Plan, row};
use crate::bench::programs::{Ids, Programs, json};
use crate::bench::server::Server;

/// How many events the log has that is folded anew, when nothing else is asked for, and how many each stream.
const REBUILT_EVENTS: u64 = 1_000_000;
const EVENTS_PER_STREAM: u64 = 5;

/// How many events the log has that is followed page by page, each of another stream.
const FOLLOWED_EVENTS: u64 = 150_000;

/// What the documents of a rebuild may take, in MiB: all of them, or as they are 200,000, a quarter of them.
const UNBOUNDED_MIB: u64 = 1_024;
const BOUNDED_MIB: u64 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    ByHand,
    Rebuild,
    Bounded,
}

/// Measures what is wanted of rebuilds.
pub(crate) async fn rebuild(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let (unbounded, bounded) = (plan.wants("rebuild"), plan.wants("rebuild.bounded"));
    let mut runs = Vec::new();
    if unbounded {
        runs.push(Run::ByHand);
    }
    if unbounded || bounded {
        runs.push(Run::Rebuild);
    }
    if bounded {
        runs.push(Run::Bounded);
    }
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let log = server.database("log").await?;
    let events = plan.events.unwrap_or(REBUILT_EVENTS);
    programs.fill(&log.url, events, Some(events.div_ceil(EVENTS_PER_STREAM)), Ids::Ordered).await?;
    server.settle(&log).await?;
    let views = server.database("views").await?;
    let fold = async |verb, mib: Option<u64>| {
        let mut fold = programs.measurement(verb);
        fold.args(["--url", &log.url, "--views-url", &views.url]);
        json(fold.args(mib.map(|mib| format!("--memory-mib={mib}")))).await
    };
    // The view is there, and log and programs are in memory, from here on.
    fold("rebuild", Some(UNBOUNDED_MIB)).await?;
    let seen = plan
        .alternate(&runs, async |run| {
            server.settle(&views).await?;
            match run {
                Run::ByHand => fold("rebuild-by-hand", None).await,
                Run::Rebuild => fold("rebuild", Some(UNBOUNDED_MIB)).await,
                Run::Bounded => fold("rebuild", Some(BOUNDED_MIB)).await,
            }
        })
        .await?;
    views.remove().await?;
    log.remove().await?;
    let mut rows = Vec::new();
    if unbounded {
        rows.push(row("rebuild", seen.rates(Run::Rebuild), Some(seen.rates(Run::ByHand))));
    }
    if bounded {
        rows.push(row("rebuild.bounded", seen.rates(Run::Bounded), Some(seen.rates(Run::Rebuild))));
    }
    Ok(rows)
}

/// Measures a rebuild beside commands.
pub(crate) async fn while_serving(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let (asked, reached) = ("rebuild.while_serving", "rebuild.while_serving.reached");
    if !plan.wants(asked) && !plan.wants(reached) {
        return Ok(Vec::new());
    }
    let rate = quarter_of("http.command", plan, server).await?;
    let mut http = programs.http(plan.pace)?;
    let sent = server.measure(http.args(["--callers", "64", "--command", "stock.receive"])).await?;
    let mut reachable = (sent["per_second"].as_f64().context("a rate")? / 4.0).round();
    println!("    a quarter of what is reached of `http.command`: {reachable}/s");
    let run = "while serving";
    let seen = plan
        .alternate(&[run], async |_| {
            let mut serving = programs.serving("rebuild-while-serving", plan.pace)?;
            let rates = ["--rate", &rate.to_string(), "--reachable-rate", &reachable.to_string()];
            let measured = server.measure(serving.args(rates)).await?;
            // It is looked for once: what is measured later begins where it was found.
            reachable = measured["reachable"]["rate"].as_f64().context("a rate")?;
            Ok(measured)
        })
        .await?;
    let alone = || Some(seen.samples(run, "alone"));
    let at = seen.samples(run, "/reachable/rate").median();
    let rows = [
        Row { missed: seen.text(run, "/missed"), ..row(asked, seen.rates(run), alone()) },
        Row {
            missed: seen.text(run, "/reachable/missed"),
            load: Some(format!("at {at:.0} commands a second")),
            ..row(reached, seen.samples(run, "/reachable/per_second"), alone())
        },
    ];
    Ok(rows.into_iter().filter(|row| plan.wants(row.metric.name)).collect())
}

/// Measures what is wanted of views that follow their log.
pub(crate) async fn project(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    if !plan.wants("project.worst") {
        return Ok(Vec::new());
    }
    let log = server.database("log").await?;
    programs.fill(&log.url, FOLLOWED_EVENTS, Some(FOLLOWED_EVENTS), Ids::Ordered).await?;
    server.settle(&log).await?;
    let verbs = ["project-by-hand", "project"];
    let seen = plan
        .alternate(&verbs, async |verb| {
            let views = server.database("views").await?;
            let mut project = programs.measurement(verb);
            let measured = json(project.args(["--url", &log.url, "--views-url", &views.url])).await?;
            views.remove().await?;
            Ok(measured)
        })
        .await?;
    log.remove().await?;
    Ok(vec![row("project.worst", seen.rates("project"), Some(seen.rates("project-by-hand")))])
}

/// At which rate others append while it is measured how far something is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rate {
    /// A quarter of what the goal of `append.c64` asks for.
    Goal,
    /// A quarter of what is reached of it.
    Reached,
}

/// Measures how far views are behind while others append.
pub(crate) async fn lag(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    const GOAL_RATE: &str = "lag.rate";
    let lags = [
        ("lag.p50_ms", Rate::Goal, "p50_ms"),
        ("lag.p99_ms", Rate::Goal, "p99_ms"),
        ("lag.reached.p50_ms", Rate::Reached, "p50_ms"),
        ("lag.reached.p99_ms", Rate::Reached, "p99_ms"),
    ];
    let lags: Vec<_> = lags.into_iter().filter(|(name, ..)| plan.wants(name)).collect();
    let wants = |rate| lags.iter().any(|(_, of, _)| *of == rate);
    let mut rates = BTreeMap::new();
    if wants(Rate::Goal) || plan.wants(GOAL_RATE) {
        rates.insert(Rate::Goal, quarter_of("append.c64", plan, server).await?);
    }
    if wants(Rate::Reached) {
        let append = server.measure(programs.load("append", plan.pace).args(["--callers", "64"])).await?;
        let rate = (append["per_second"].as_f64().context("a rate")? / 4.0).round();
        println!("    a quarter of what `append.c64` reaches: {rate}/s");
        rates.insert(Rate::Reached, rate);
    }
    let runs: Vec<_> = rates.keys().copied().collect();
    let seen = plan
        .alternate(&runs, async |run| {
            let database = server.database("lag").await?;
            let mut lag = programs.load("lag", plan.pace);
            lag.args(["--url", &database.url, "--views-url", &database.url, "--rate", &rates[&run].to_string()]);
            let measured = json(lag.args(["--callers", "256"])).await?;
            database.remove().await?;
            Ok(measured)
        })
        .await?;
    let mut rows = Vec::new();
    if plan.wants(GOAL_RATE) {
        let appends = |field| seen.samples_of(Rate::Goal, "appends", field);
        rows.push(row(GOAL_RATE, appends("per_second"), Some(appends("due_per_second"))));
    }
    rows.extend(lags.into_iter().map(|(name, rate, field)| row(name, seen.samples(rate, field), None)));
    Ok(rows)
}

/// A quarter of a goal that is a ratio to the bare `INSERT` of 64 clients, in calls a second on this machine.
pub(crate) async fn quarter_of(metric: &str, plan: &Plan, server: &Server) -> anyhow::Result<f64> {
    let bare = server.bare_insert(64, plan.pace).await?;
    let bare = bare["per_second"].as_f64().context("a rate")?;
    let metric = metrics().find(|one| one.name == metric).context("such a metric")?;
    let Goal::RatioAtLeast(times) = metric.goal else { bail!("`{}` is no rate", metric.name) };
    let rate = (bare * times / 4.0).round();
    println!("    a quarter of the goal of `{}`: {rate}/s", metric.name);
    Ok(rate)
}
