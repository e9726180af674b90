//! `append.…`: appends with a verdict each.

use crate::bench::figures::Row;
use crate::bench::plan::{Pace, Plan, row};
use crate::bench::programs::Programs;
use crate::bench::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    /// pgbench's bare INSERT.
    Bare {
        clients: u32,
    },
    Append {
        callers: u32,
    },
    /// Groups, with nothing but the work.
    ByHand {
        callers: u32,
    },
    InClear,
    SqliteBare,
    SqliteAppend,
    SnapshotClosed,
    SnapshotOpen,
}

/// Address and user agent are sealed in all appends but those that have them in clear.
const SEALED: Run = Run::Append { callers: 64 };

/// Measures what is wanted of it.
pub(crate) async fn measure(plan: &Plan, programs: &Programs, server: &Server) -> anyhow::Result<Vec<Row>> {
    let wants = |callers: u32| {
        ["", ".p99_ms", ".by_hand"].iter().any(|kind| plan.wants(&format!("append.c{callers}{kind}")))
    };
    let mut runs = Vec::new();
    if wants(1) {
        runs.extend([Run::Bare { clients: 1 }, Run::Append { callers: 1 }]);
    }
    if wants(64) || wants(256) {
        runs.push(Run::Bare { clients: 64 });
    }
    runs.extend([64, 256].into_iter().filter(|callers| wants(*callers)).map(|callers| Run::Append { callers }));
    let by_hand = [64, 256].into_iter().filter(|callers| plan.wants(&format!("append.c{callers}.by_hand")));
    runs.extend(by_hand.map(|callers| Run::ByHand { callers }));
    if plan.wants("append.sealing") {
        if !runs.contains(&SEALED) {
            runs.push(SEALED);
        }
        runs.push(Run::InClear);
    }
    if plan.wants("append.sqlite.c64") {
        runs.extend([Run::SqliteBare, Run::SqliteAppend]);
    }
    if plan.wants("append.snapshot_open") {
        runs.extend([Run::SnapshotClosed, Run::SnapshotOpen]);
    }
    // What a snapshot costs shows at its end.
    let long = Pace { warm_up_s: plan.snapshot_s, ..plan.pace };
    let seen = plan
        .alternate(&runs, async |run| match run {
            Run::Bare { clients } => server.bare_insert(clients, plan.pace).await,
            Run::Append { callers } => {
                server.measure(programs.load("append", plan.pace).args(["--callers", &callers.to_string()])).await
            }
            Run::ByHand { callers } => {
                server
                    .measure(programs.load("append-by-hand", plan.pace).args(["--callers", &callers.to_string()]))
                    .await
            }
            Run::InClear => server.measure(programs.load("append", plan.pace).arg("--in-clear")).await,
            Run::SqliteBare => server.measure_file(programs.load("batch-writer", plan.pace)).await,
            Run::SqliteAppend => server.measure_file(programs.load("append", plan.pace)).await,
            Run::SnapshotClosed => server.measure(&mut programs.load("append", long)).await,
            Run::SnapshotOpen => server.measure(programs.load("append", long).arg("--snapshot")).await,
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
        let by_hand = format!("append.c{callers}.by_hand");
        if callers > 1 && plan.wants(&by_hand) {
            rows.push(row(&by_hand, seen.rates(append), Some(seen.rates(Run::ByHand { callers }))));
        }
    }
    for (name, run, baseline) in [
        ("append.sealing", SEALED, Run::InClear),
        ("append.sqlite.c64", Run::SqliteAppend, Run::SqliteBare),
        ("append.snapshot_open", Run::SnapshotOpen, Run::SnapshotClosed),
    ] {
        if plan.wants(name) {
            rows.push(row(name, seen.rates(run), Some(seen.rates(baseline))));
        }
    }
    Ok(rows)
}
