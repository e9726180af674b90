//! `memory.…`: of the process that answers requests.

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::Programs;
use crate::bench::server::Server;

/// How long after the load memory is at rest, in seconds.
const REST_S: u64 = 10;

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let metrics = [("memory.peak_mib", "peak_mib"), ("memory.rest_mib", "rest_mib")];
    if !metrics.iter().any(|(name, _)| plan.wants(name)) {
        return Ok(Vec::new());
    }
    let seen = plan
        .alternate(&["memory"], async |_| {
            let mut http = programs.http(plan.pace)?;
            http.args(["--callers", "256", "--command", "order.place", "--rest", &REST_S.to_string()]);
            server.measure(&mut http).await
        })
        .await?;
    let wanted = metrics.iter().filter(|(name, _)| plan.wants(name));
    Ok(wanted.map(|(name, field)| row(name, seen.samples("memory", field), None)).collect())
}
