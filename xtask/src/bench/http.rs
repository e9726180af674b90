//! `http.…`: commands over HTTP.

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::Programs;
use crate::bench::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    /// pgbench's bare INSERT.
    Bare,
    Command,
    OrderPlace,
}

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let metrics = [("http.command", Run::Command), ("http.order_place", Run::OrderPlace)];
    let mut runs: Vec<_> = metrics.iter().filter(|(name, _)| plan.wants(name)).map(|(_, run)| *run).collect();
    if !runs.is_empty() {
        runs.insert(0, Run::Bare);
    }
    let send = async |command| {
        let mut http = programs.http(plan.pace)?;
        server.measure(http.args(["--callers", "64", "--command", command])).await
    };
    let seen = plan
        .alternate(&runs, async |run| match run {
            Run::Bare => server.bare_insert(64, plan.pace).await,
            Run::Command => send("stock.receive").await,
            Run::OrderPlace => send("order.place").await,
        })
        .await?;
    let wanted = metrics.iter().filter(|(name, _)| plan.wants(name));
    Ok(wanted.map(|(name, run)| row(name, seen.rates(*run), Some(seen.rates(Run::Bare)))).collect())
}
