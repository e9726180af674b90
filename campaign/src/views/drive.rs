//! The campaign of the views, from its beginning to its end.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use daybook_core::Position;
use daybook_database::Database;
use daybook_log::Log;
use daybook_views::{AtLeast, PageQuery, Phase, Projectors, Views};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::check::{self, Note};
use super::domain::{self, Tally, VIEW};
use super::process::{LEASE, projectors};
use crate::Dice;
use crate::drive::{Backend, Store};
use crate::signal::Frozen;

/// How long everything has to come to rest.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// The most breaches that are printed.
const SHOWN_MAX: usize = 20;

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

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    plan: Plan,
    time: Duration,
    /// How often each thing went wrong, or was done.
    faults: BTreeMap<&'static str, u64>,
    /// How many events the log has.
    pub events: u64,
    /// How many reads were right.
    pub reads: u64,
    /// How many times the view was built anew and put in place.
    pub rebuilds: u64,
    /// What was wrong.
    pub breaches: Vec<String>,
}

impl Summary {
    /// Whether all was right, and there was something that could have been wrong.
    pub fn succeeded(&self) -> bool {
        self.breaches.is_empty() && self.reads > self.plan.faults && self.rebuilds > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { backend, seed, .. } = &self.plan;
        writeln!(f, "views on {backend:?}, seed {seed}, in {:.0} s", self.time.as_secs_f64())?;
        for (name, count) in &self.faults {
            writeln!(f, "  {count:>7}  {name}")?;
        }
        let lines = [
            (self.rebuilds, "rebuilds put in place"),
            (self.events, "events in the log"),
            (self.reads, "reads"),
            (self.breaches.len() as u64, "violations"),
        ];
        for (count, what) in lines {
            writeln!(f, "  {count:>7}  {what}")?;
        }
        self.breaches.iter().take(SHOWN_MAX).try_for_each(|breach| writeln!(f, "{breach}"))?;
        if self.breaches.is_empty() && !self.succeeded() {
            writeln!(f, "It proves too little.")?;
        }
        Ok(())
    }
}

/// Runs a campaign.
///
/// # Errors
///
/// When it cannot be run. What was wrong is part of the summary, and no error.
pub async fn run(plan: &Plan) -> anyhow::Result<Summary> {
    let store = match plan.backend {
        Backend::Postgres => {
            Store::postgres(plan.server_url.as_deref().context("PostgreSQL needs DATABASE_URL")?).await?
        }
        Backend::Sqlite => Store::sqlite(&plan.notes).await?,
    };
    let outcome = campaign(plan, &store).await;
    let removed = store.remove().await;
    let summary = outcome?;
    removed?;
    Ok(summary)
}

async fn campaign(plan: &Plan, store: &Store) -> anyhow::Result<Summary> {
    let begun = Instant::now();
    let (mut dice, mut faults) = (Dice::new(plan.seed), BTreeMap::new());
    let arguments = store.arguments(None)?;
    let mut fleet = Vec::new();
    for number in 0..plan.processes {
        fleet.push(Process::start(plan, &arguments, number, dice.fork()).await?);
    }
    let database = store.connect().await?;
    let (log, views) = domain::open(database.clone()).await?;
    sleep(LEASE).await;
    for fault in 0..plan.faults {
        // Early, so that some of it happens while the view is being built.
        if fault % 5 == 1 && views.rebuild(VIEW, false, &domain::metadata()).await.is_ok() {
            *faults.entry("rebuilds asked for").or_default() += 1;
        }
        let name = if dice.one_in(4) {
            take_leases_away(&database).await?;
            "leases taken away"
        } else {
            let one = dice.below(fleet.len() as u64) as usize;
            fleet[one].go_wrong(&mut dice).await?
        };
        *faults.entry(name).or_default() += 1;
        sleep(dice.ms(20, 250)).await;
    }
    for process in &mut fleet {
        process.settle().await?;
    }
    let mut breaches = Vec::new();
    let mut reads = 0;
    for entry in std::fs::read_dir(&plan.notes)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "notes") {
            for note in check::notes(&std::fs::read_to_string(path)?) {
                match note {
                    Note::Right => reads += 1,
                    Note::Breach(what) => breaches.push(what),
                }
            }
        }
    }
    // Whatever was left half done is finished by one that nobody disturbs.
    let finishing = Projectors::start(&views, projectors());
    let (events, expected) = domain::plain_fold(&log).await?;
    compare(&views, Position::new(events), &expected, &mut breaches).await?;
    let rebuilds = built(&log, &views, &mut breaches).await?;
    compare(&views, Position::new(events), &expected, &mut breaches).await?;
    finishing.stop().await;
    log.close().await;
    database.close().await;
    let plan = plan.clone();
    Ok(Summary { plan, time: begun.elapsed(), faults, events, reads, rebuilds, breaches })
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

/// The view has to be what a plain fold of the log makes.
async fn compare(
    views: &Views,
    position: Position,
    expected: &BTreeMap<String, Tally>,
    breaches: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut listed = Vec::new();
    let mut query = PageQuery { limit: PageQuery::LIMIT_MAX, ..PageQuery::default() };
    loop {
        let at_least = AtLeast { position, deadline: tokio::time::Instant::now() + SETTLE_LIMIT };
        let answer = views.page(VIEW, &query, Some(at_least)).await?;
        for document in answer.data.documents {
            let tally: Tally = serde_json::from_str(document.body.get())?;
            listed.push((document.key, tally));
        }
        match answer.data.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    breaches.extend(check::compare(listed, expected));
    Ok(())
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

/// A process, in all its lives.
struct Process {
    plan: Plan,
    arguments: [String; 2],
    number: usize,
    life: u32,
    dice: Dice,
    child: Child,
    /// Until when it is stopped.
    frozen: Option<Frozen>,
}

impl Process {
    async fn start(plan: &Plan, arguments: &[String; 2], number: usize, mut dice: Dice) -> anyhow::Result<Self> {
        let child = launch(plan, arguments, number, 1, &mut dice)?;
        let (plan, arguments) = (plan.clone(), arguments.clone());
        Ok(Self { plan, arguments, number, life: 1, dice, child, frozen: None })
    }

    /// Kills it and starts it again, or stops it for a while; says which.
    async fn go_wrong(&mut self, dice: &mut Dice) -> anyhow::Result<&'static str> {
        self.thaw().await?;
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("process {} ended by itself: {status}", self.number);
        }
        if dice.one_in(2) {
            self.child.kill().await?;
            self.life += 1;
            self.child = launch(&self.plan, &self.arguments, self.number, self.life, &mut self.dice)?;
            return Ok("kill -9");
        }
        // Mostly longer than its leases last.
        let (time, name) = match dice.one_in(4) {
            true => (dice.ms(5, LEASE.as_millis() as u64 / 2), "process frozen"),
            false => (dice.ms(LEASE.as_millis() as u64 + 50, 1_500), "process frozen past its leases"),
        };
        let id = self.child.id().context("it runs")?;
        self.frozen = Some(Frozen::begin(id, time)?);
        Ok(name)
    }

    async fn thaw(&mut self) -> anyhow::Result<()> {
        match self.frozen.take() {
            Some(frozen) => frozen.end().await,
            None => Ok(()),
        }
    }

    /// Has it end in an orderly way.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.thaw().await?;
        drop(self.child.stdin.take());
        let ended = timeout(SETTLE_LIMIT, self.child.wait()).await.context("a process does not end")??;
        ensure!(ended.success(), "process {} ended with {ended}", self.number);
        Ok(())
    }
}

fn launch(
    plan: &Plan,
    arguments: &[String; 2],
    number: usize,
    life: u32,
    dice: &mut Dice,
) -> anyhow::Result<Child> {
    let name = format!("{number}.{life}");
    let mut command = Command::new(&plan.binary);
    command
        .arg("process")
        .args(arguments)
        .arg("--notes")
        .arg(plan.notes.join(format!("{name}.notes")))
        .args(["--seed", &dice.below(u64::MAX).to_string()])
        .env_remove("DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(plan.notes.join(format!("{name}.log")))?)
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start process {name}"))
}
