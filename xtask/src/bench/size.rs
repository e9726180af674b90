//! `size.…`: what a long log costs.

use serde_json::Value;

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::{Ids, Programs, json};
use crate::bench::server::{Database, Server};

/// How many events a long log has, when nothing else is asked for.
const EVENTS: u64 = 10_000_000;
/// How many a short one has.
const EVENTS_FEW: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Append,
    Load,
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Length {
    Short,
    Long,
}

/// A metric: what is done, and what is taken of the outcome.
type Wanted = (&'static str, What, &'static str);

const ORDERED: &[Wanted] = &[
    ("size.append", What::Append, "per_second"),
    ("size.load", What::Load, "per_second"),
    ("size.start", What::Start, "ms"),
    ("size.memory", What::Append, "peak_mib"),
];
const RANDOM: &[Wanted] =
    &[("size.random.append", What::Append, "per_second"), ("size.random.load", What::Load, "per_second")];

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (ids, metrics) in [(Ids::Ordered, ORDERED), (Ids::Random, RANDOM)] {
        let wanted: Vec<_> = metrics.iter().filter(|(name, ..)| plan.wants(name)).collect();
        if wanted.is_empty() {
            continue;
        }
        let long = filled(programs, server, "long", plan.events.unwrap_or(EVENTS), ids).await?;
        let mut runs: Vec<_> = wanted.iter().map(|(_, what, _)| *what).collect();
        runs.sort_unstable();
        runs.dedup();
        let runs: Vec<_> =
            runs.into_iter().flat_map(|what| [(what, Length::Short), (what, Length::Long)]).collect();
        let seen = plan
            .alternate(&runs, async |(what, length)| match length {
                Length::Long => {
                    server.settle(&long).await?;
                    one(plan, programs, &long, what, ids).await
                }
                Length::Short => {
                    let short = filled(programs, server, "short", EVENTS_FEW, ids).await?;
                    let measured = one(plan, programs, &short, what, ids).await?;
                    short.remove().await?;
                    Ok(measured)
                }
            })
            .await?;
        long.remove().await?;
        for (name, what, field) in wanted {
            let of = |length| seen.samples((*what, length), field);
            rows.push(row(name, of(Length::Long), Some(of(Length::Short))));
        }
    }
    Ok(rows)
}

/// A database with a log that was filled, and where a server has been before.
async fn filled<'a>(
    programs: &Programs,
    server: &'a Server,
    name: &str,
    events: u64,
    ids: Ids,
) -> anyhow::Result<Database<'a>> {
    let database = server.database(name).await?;
    programs.fill(&database.url, events, None, ids).await?;
    server.settle(&database).await?;
    start(programs, &database).await?;
    Ok(database)
}

async fn one(
    plan: &Plan,
    programs: &Programs,
    database: &Database<'_>,
    what: What,
    ids: Ids,
) -> anyhow::Result<Value> {
    let mut load = match what {
        What::Start => return start(programs, database).await,
        What::Append => programs.load("append", plan.pace),
        What::Load => programs.load("load", plan.pace),
    };
    if what == What::Append {
        load.arg("--filled");
        if ids == Ids::Random {
            load.arg("--random-ids");
        }
    } else {
        load.args(["--callers", "8"]);
    }
    json(load.args(["--url", &database.url])).await
}

/// Without projectors, which would begin to read what was filled in.
async fn start(programs: &Programs, database: &Database<'_>) -> anyhow::Result<Value> {
    json(programs.start()?.args(["--roles", "api", "--url", &database.url])).await
}
