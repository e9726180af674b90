//! `replay`: a whole log, typed.

use crate::bench::figures::Row;
use crate::bench::plan::{Plan, row};
use crate::bench::programs::{Ids, Programs, json};
use crate::bench::server::Server;

/// How many events the log has, when nothing else is asked for.
const EVENTS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    RowStream,
    Replay,
}

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    if !plan.wants("replay") {
        return Ok(Vec::new());
    }
    let database = server.database("replay").await?;
    programs.fill(&database.url, plan.events.unwrap_or(EVENTS), None, Ids::Ordered).await?;
    server.settle(&database).await?;
    let replay = async |verb| json(programs.measurement(verb).args(["--url", &database.url])).await;
    // From here on, the log is in memory for both.
    replay("row-stream").await?;
    let seen = plan
        .alternate(&[Run::RowStream, Run::Replay], async |run| match run {
            Run::RowStream => replay("row-stream").await,
            Run::Replay => replay("replay").await,
        })
        .await?;
    database.remove().await?;
    Ok(vec![row("replay", seen.rates(Run::Replay), Some(seen.rates(Run::RowStream)))])
}
