//! `hot.…`: commands that all decide on the newest state of one stream.

use anyhow::Context;
use serde_json::{Value, json};

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::{self, Programs};
use crate::bench::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    /// 64 callers, each with a stream of its own.
    Separate,
    /// 64 callers on one stream.
    One,
    /// 64 callers on one stream, 32 in each of two processes.
    TwoProcesses,
}

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let two = plan.wants("hot.two_processes") || plan.wants("hot.two_processes.p99_ms");
    let mut runs = Vec::new();
    if plan.wants("hot.c64") {
        runs.push(Run::Separate);
    }
    if plan.wants("hot.c64") || two {
        runs.push(Run::One);
    }
    if two {
        runs.push(Run::TwoProcesses);
    }
    let seen = plan
        .alternate(&runs, async |run| {
            let database = server.database("hot").await?;
            let process = async |callers: &str, streams: &str| {
                let mut hot = programs.load("hot", plan.pace);
                hot.args(["--url", &database.url, "--callers", callers, "--streams", streams]);
                programs::json(&mut hot).await
            };
            let measured = match run {
                Run::Separate => process("64", "64").await?,
                Run::One => process("64", "1").await?,
                Run::TwoProcesses => {
                    let (one, other) = tokio::join!(process("32", "1"), process("32", "1"));
                    together(&one?, &other?)?
                }
            };
            database.remove().await?;
            Ok(measured)
        })
        .await?;

    let mut rows = Vec::new();
    if plan.wants("hot.c64") {
        rows.push(row("hot.c64", seen.rates(Run::One), Some(seen.rates(Run::Separate))));
    }
    if plan.wants("hot.two_processes") {
        rows.push(row("hot.two_processes", seen.rates(Run::TwoProcesses), Some(seen.rates(Run::One))));
    }
    if plan.wants("hot.two_processes.p99_ms") {
        rows.push(row("hot.two_processes.p99_ms", seen.samples(Run::TwoProcesses, "p99_ms"), None));
    }
    Ok(rows)
}

/// Two processes as one: what they did together, and how long the worse off had to wait.
fn together(one: &Value, other: &Value) -> anyhow::Result<Value> {
    let both = |field: &str| {
        let number = |measured: &Value| measured[field].as_f64().with_context(|| format!("no `{field}`"));
        anyhow::Ok((number(one)?, number(other)?))
    };
    let (rates, p50, p99, max) = (both("per_second")?, both("p50_ms")?, both("p99_ms")?, both("max_ms")?);
    let worse = |(a, b): (f64, f64)| a.max(b);
    Ok(json!({
        "per_second": rates.0 + rates.1,
        "p50_ms": worse(p50),
        "p99_ms": worse(p99),
        "max_ms": worse(max),
        "lesser_share": rates.0.min(rates.1) / (rates.0 + rates.1),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_processes_rates_add_up_and_the_worse_latency_counts() {
        let one = json!({"per_second": 30.0, "p50_ms": 1.0, "p99_ms": 9.0, "max_ms": 20.0});
        let other = json!({"per_second": 10.0, "p50_ms": 2.0, "p99_ms": 5.0, "max_ms": 30.0});
        let expected =
            json!({"per_second": 40.0, "p50_ms": 2.0, "p99_ms": 9.0, "max_ms": 30.0, "lesser_share": 0.25});
        assert_eq!(together(&one, &other).expect("all there"), expected);
        assert!(together(&one, &json!({})).is_err());
    }
}
