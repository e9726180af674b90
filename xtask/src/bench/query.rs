//! `query.…`: queries over HTTP.

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::Programs;
use crate::bench::server::Server;

/// How many documents there are for queries by key, and for lists, when nothing else is asked for.
const KEYS_DOCUMENTS: u64 = 10_000;
const LIST_DOCUMENTS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Plain,
    Key,
    List,
}

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let (key, list) = (plan.wants("query.key"), plan.wants("query.list.p99_ms"));
    let mut runs = Vec::new();
    if key {
        runs.extend([Run::Plain, Run::Key]);
    }
    if list {
        runs.push(Run::List);
    }
    let seen = plan
        .alternate(&runs, async |run| {
            let (ask, documents) = match run {
                Run::Plain => ("plain", KEYS_DOCUMENTS),
                Run::Key => ("key", KEYS_DOCUMENTS),
                Run::List => ("list", plan.events.unwrap_or(LIST_DOCUMENTS)),
            };
            let mut query = programs.serving("query", plan.pace)?;
            server.measure(query.args(["--ask", ask, "--documents", &documents.to_string()])).await
        })
        .await?;
    let mut rows = Vec::new();
    if key {
        rows.push(row("query.key", seen.rates(Run::Key), Some(seen.rates(Run::Plain))));
    }
    if list {
        rows.push(row("query.list.p99_ms", seen.samples(Run::List, "p99_ms"), None));
    }
    Ok(rows)
}
