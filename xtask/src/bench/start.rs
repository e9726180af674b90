//! `start_ms`: from the start of the process until it is ready.

use crate::bench::figures::Row;
use crate::bench::plan::{Pace, Plan, row};
use crate::bench::programs::{Programs, json};
use crate::bench::server::Server;

/// How often it is started in each round: it takes no time.
const STARTS: usize = 5;

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    if !plan.wants("start_ms") {
        return Ok(Vec::new());
    }
    let database = server.database("start").await?;
    // A shop with some history.
    let mut orders = programs.http(Pace { warm_up_s: 0, seconds: 2 })?;
    json(orders.args(["--command", "order.place", "--url", &database.url])).await?;
    let start = async || json(programs.start()?.args(["--url", &database.url])).await;
    // The views are made at the first start.
    start().await?;
    let seen = plan.alternate(&["start"; STARTS], async |_| start().await).await?;
    database.remove().await?;
    Ok(vec![row("start_ms", seen.samples("start", "ms"), None)])
}
