//! The campaign of the views, from its beginning to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use daybook_core::Position;
use daybook_database::Database;
use daybook_log::Log;
use daybook_views::{AtLeast, Document, PageQuery, Phase, Projectors, ViewError, Views};
use tokio::process::Command;
use tokio::time::sleep;

use super::check::{self, Note};
use super::domain::{self, Tally, VIEW};
use super::process::{LEASE, projectors};
use crate::Dice;
use crate::drive::{Backend, Store, with_store};
use crate::fleet::{Harm, Process, SETTLE_LIMIT};
use crate::summary::{Summary, shortcomings};

/// How many clients each process has.
const CLIENTS: &str = "3";

/// What is done to processes, as often as it is here. Those that are frozen are mostly so for longer than their leases last.
const HARMS: &[Harm] = &[
    Harm::Kill,
    Harm::Kill,
    Harm::Kill,
    Harm::Kill,
    Harm::Freeze,
    Harm::FreezePastLease,
    Harm::FreezePastLease,
    Harm::FreezePastLease,
];

/// What a campaign is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On which store.
    pub backend: Backend,
    /// The server, when the store is on one.
    pub server_url: Option<String>,
    /// Where everybody's notes go. Has to be there, and empty.
    pub notes: PathBuf,
    /// The program that the processes run: this crate's own.
    pub binary: PathBuf,
    /// What all dice start from.
    pub seed: u64,
    /// How many faults there are to be.
    pub faults: u64,
    /// How many processes there are.
    pub processes: usize,
}

/// Runs a campaign.
///
/// # Errors
///
/// When it cannot be run. What was wrong is part of the summary, and no error.
pub async fn run(plan: &Plan) -> anyhow::Result<Summary> {
    let work = async |store: &Store| campaign(plan, store).await;
    with_store(plan.backend, plan.server_url.as_deref(), &plan.notes, work).await
}

async fn campaign(plan: &Plan, store: &Store) -> anyhow::Result<Summary> {
    let begun = Instant::now();
    let (mut dice, mut faults) = (Dice::new(plan.seed), BTreeMap::new());
    let arguments = store.arguments(None)?;
    let mut fleet = Vec::new();
    for number in 0..plan.processes {
        let launch = launch(plan, &arguments, dice.fork());
        fleet.push(Process::start(format!("process-{number}"), plan.notes.clone(), LEASE, launch)?);
    }
    let database = store.connect().await?;
    let (log, views) = domain::open(database.clone()).await?;
    sleep(LEASE).await;
    for fault in 0..plan.faults {
        // Early, so that some of it happens while the view is being built.
        if fault % 5 == 1 && views.rebuild(VIEW, false, &domain::metadata()).await.is_ok() {
            *faults.entry("rebuilds asked for".to_owned()).or_default() += 1;
        }
        let name = if dice.one_in(4) {
            take_leases_away(&database).await?;
            "leases taken away".to_owned()
        } else {
            let one = dice.below(fleet.len() as u64) as usize;
            let harm = *dice.pick(HARMS);
            fleet[one].suffer(harm, &mut dice).await?;
            format!("process {}", harm.name())
        };
        *faults.entry(name).or_default() += 1;
        sleep(dice.ms(20, 250)).await;
    }
    for process in &mut fleet {
        process.settle().await?;
    }
    let Noted { reads, mut breaches, .. } = Noted::read(&plan.notes)?;
    // Whatever was left half done is finished by one that nobody disturbs.
    let finishing = Projectors::start(&views, projectors());
    let (events, expected) = domain::plain_fold(&log).await?;
    breaches.extend(compare(&views, Position::new(events), &expected).await?);
    let rebuilds = built(&log, &views, &mut breaches).await?;
    breaches.extend(compare(&views, Position::new(events), &expected).await?);
    finishing.stop().await;
    log.close().await;
    database.close().await;
    Ok(Summary {
        title: format!("views on {:?}", plan.backend),
        seed: plan.seed,
        time: begun.elapsed(),
        faults,
        counts: vec![(rebuilds, "rebuilds put in place"), (events, "events in the log"), (reads, "reads")],
        breaches,
        shortcomings: shortcomings([
            (reads <= plan.faults, "there were fewer reads than faults"),
            (rebuilds == 0, "nothing was rebuilt"),
        ]),
    })
}

/// What processes noted down.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// How many reads were right.
    pub(crate) reads: u64,
    /// What was wrong with the others.
    pub(crate) breaches: Vec<String>,
    /// How many events their projectors have read, by where.
    fed: BTreeMap<String, u64>,
}

impl Noted {
    /// How many events their projectors have read there.
    pub(crate) fn fed_from(&self, source: &str) -> u64 {
        self.fed.get(source).copied().unwrap_or_default()
    }

    /// Reads it from all notes in a folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut noted = Self::default();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "notes") {
                continue;
            }
            for note in check::notes(&std::fs::read_to_string(path)?) {
                match note {
                    Note::Right => noted.reads += 1,
                    Note::Breach(what) => noted.breaches.push(what),
                    Note::Fed { source, events } => *noted.fed.entry(source).or_default() += events,
                }
            }
        }
        Ok(noted)
    }
}

/// Has everybody who projects lose their leases without knowing it: as if they had been frozen for longer than those last,
/// and woken in the middle of their work, while others have it already.
async fn take_leases_away(database: &Database) -> anyhow::Result<()> {
    let sql = "UPDATE view_ranges SET lease_epoch = lease_epoch + 1, lease_owner = NULL, lease_until = NULL";
    match database {
        Database::Postgres(pool) => {
            sqlx::query(sql).execute(pool).await?;
        }
        Database::Sqlite(file) => {
            sqlx::query(sql).execute(file.writer()).await?;
        }
    }
    Ok(())
}

/// In what a view is not what a plain fold of the log makes.
async fn compare(
    views: &Views,
    position: Position,
    expected: &BTreeMap<String, Tally>,
) -> anyhow::Result<Vec<String>> {
    Ok(check::compare(tallies(&list(views, position).await?)?, expected, "the log"))
}

/// All documents of the view, once it has come this far.
pub(crate) async fn list(views: &Views, position: Position) -> Result<Vec<Document>, ViewError> {
    let mut listed = Vec::new();
    let mut query = PageQuery { limit: PageQuery::LIMIT_MAX, ..PageQuery::default() };
    loop {
        let at_least = AtLeast { position, deadline: tokio::time::Instant::now() + SETTLE_LIMIT };
        let page = views.page(VIEW, &query, Some(at_least)).await?.data;
        listed.extend(page.documents);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(listed),
        }
    }
}

/// What is in documents.
pub(crate) fn tallies(documents: &[Document]) -> serde_json::Result<Vec<(String, Tally)>> {
    let tally = |one: &Document| Ok((one.key.clone(), serde_json::from_str(one.body.get())?));
    documents.iter().map(tally).collect()
}

/// Waits until nothing is built any more, or else has one more built; answers how many were put in place. None may differ
/// from the one that it took the place of.
async fn built(log: &Log, views: &Views, breaches: &mut Vec<String>) -> anyhow::Result<u64> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        let generations = views.generations(VIEW).await?;
        if !generations.iter().any(|one| one.phase.is_built()) {
            let compared: Vec<_> =
                generations.iter().filter_map(|one| Some((one, one.report.as_ref()?))).collect();
            for (one, report) in &compared {
                if report["differing"] != serde_json::json!(0) {
                    breaches.push(format!("generation {} differs from the one before: {report}", one.number));
                }
            }
            ensure!(generations.iter().any(|one| one.phase == Phase::Live), "nothing is served");
            return Ok(compared.len() as u64);
        }
        ensure!(Instant::now() < deadline, "a rebuild does not end; the log ends at {:?}", log.head().await?);
        sleep(Duration::from_millis(50)).await;
    }
}

/// How a process is started, in each of its lives.
fn launch(plan: &Plan, arguments: &[String; 2], mut dice: Dice) -> impl FnMut(&str) -> Command + Send + use<> {
    let (binary, notes, arguments) = (plan.binary.clone(), plan.notes.clone(), arguments.clone());
    move |name| {
        let mut command = Command::new(&binary);
        command
            .arg("process")
            .args(&arguments)
            .arg("--notes")
            .arg(notes.join(format!("{name}.notes")))
            .args(["--seed", &dice.below(u64::MAX).to_string()])
            .args(["--clients", CLIENTS]);
        command
    }
}
