//! `append.…`: appends with a verdict each, next to bare INSERTs.

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::{Programs, measure};
use crate::bench::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Bare { clients: u32 },
    Append { callers: u32 },
}

/// Measures what is wanted of it.
pub(crate) async fn measure_all(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let wants =
        |callers| plan.wants(&format!("append.c{callers}")) || plan.wants(&format!("append.c{callers}.p99_ms"));
    let mut runs = Vec::new();
    if wants(1) {
        runs.extend([Run::Bare { clients: 1 }, Run::Append { callers: 1 }]);
    }
    if wants(64) || wants(256) {
        runs.push(Run::Bare { clients: 64 });
    }
    runs.extend([64, 256].into_iter().filter(|callers| wants(*callers)).map(|callers| Run::Append { callers }));
    let seen = plan
        .alternate(&runs, async |run| match run {
            Run::Bare { clients } => server.bare_insert(clients, plan.pace).await,
            Run::Append { callers } => {
                let database = server.database("append").await?;
                let mut append = programs.measurement("append", plan.pace);
                append.args(["--url", &database.url, "--callers", &callers.to_string()]);
                let measured = measure(&mut append).await?;
                database.remove().await?;
                Ok(measured)
            }
        })
        .await?;

    let mut rows = Vec::new();
    for (callers, clients) in [(1, 1), (64, 64), (256, 64)] {
        let (append, bare) = (Run::Append { callers }, Run::Bare { clients });
        let (rate, p99) = (format!("append.c{callers}"), format!("append.c{callers}.p99_ms"));
        if plan.wants(&rate) {
            rows.push(row(&rate, seen.rates(append), Some(seen.rates(bare))));
        }
        if plan.wants(&p99) {
            rows.push(row(&p99, seen.samples(append, "p99_ms"), None));
        }
    }
    Ok(rows)
}
