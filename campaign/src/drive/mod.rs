//! A campaign from its beginning to its end: a store, writers, a reader, faults, and the checker.

mod faults;
mod fleet;
mod inject;
mod store;
mod summary;
mod verdict;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use daybook_database::Database;
use daybook_log::{Log, LogError};
use tokio::time::sleep;

pub use store::Backend;
pub use summary::{Silence, Summary};

use crate::Dice;
use crate::check::{Evidence, Violation, check};
use crate::domain::{CLAIM, NAMES};
use crate::journal::{self, Micros};
use crate::proxy::Proxy;
use crate::reader::Reader;
use faults::Means;
use fleet::{Launch, Writer};
pub(crate) use store::{Store, with_store};

/// After how many faults it is others who work.
const SHIFT_FAULTS: u64 = 10;

/// What a campaign is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On which store.
    pub backend: Backend,
    /// The server, when the store is on one.
    pub server_url: Option<String>,
    /// Whether the server is the campaign's own, and may be crashed.
    pub crash: bool,
    /// A folder on a disk that may be filled, to put an embedded store in.
    pub disk: Option<PathBuf>,
    /// Where the journals go. Has to be there, and empty.
    pub journals: PathBuf,
    /// The program that the writers run: this crate's own.
    pub binary: PathBuf,
    /// What all dice start from.
    pub seed: u64,
    /// How many faults there are to be.
    pub faults: u64,
    /// When to stop, however many there were. Without it, too few of them are a failure.
    pub time_limit: Option<Duration>,
    /// How many writers there are.
    pub writers: u32,
    /// How many clients each of them has.
    pub clients: u32,
    /// How long each waits for the log's head.
    pub lock_timeout: Duration,
}

/// How long all faults may take when nobody says when to stop.
const TIME_LIMIT: Duration = Duration::from_secs(3_600);

/// How long it may take until as much is done undisturbed as a campaign asks for.
const WORK_ON_LIMIT: Duration = Duration::from_secs(30);

/// Runs a campaign.
///
/// # Errors
///
/// When it cannot be run. That the log broke its word, or that it proves too little, is part of the summary, and no error.
pub async fn run(plan: &Plan) -> anyhow::Result<Summary> {
    let folder = plan.disk.as_ref().unwrap_or(&plan.journals);
    let work = async |store: &Store| Campaign::run(plan, store).await;
    with_store(plan.backend, plan.server_url.as_deref(), folder, work).await
}

struct Campaign<'a> {
    plan: &'a Plan,
    store: &'a Store,
    means: Means,
    dice: Dice,
    writers: Vec<Writer>,
    /// The proxy of each writer, on PostgreSQL.
    proxies: Vec<Proxy>,
    faults: BTreeMap<String, u64>,
    /// When the server was down.
    crashes: Vec<RangeInclusive<Micros>>,
    violations: Vec<Violation>,
}

impl<'a> Campaign<'a> {
    async fn run(plan: &'a Plan, store: &'a Store) -> anyhow::Result<Summary> {
        let start = Instant::now();
        let means = Means {
            backend: plan.backend,
            crash: plan.crash,
            disk: plan.disk.is_some(),
            lock_timeout: plan.lock_timeout,
        };
        let mut dice = Dice::new(plan.seed);
        let launch = Launch {
            binary: plan.binary.clone(),
            journals: plan.journals.clone(),
            clients: plan.clients,
            lock_timeout: plan.lock_timeout,
        };
        let (mut writers, mut proxies) = (Vec::new(), Vec::new());
        for number in 1..=plan.writers {
            let proxy = match plan.backend {
                Backend::Postgres => Some(Proxy::start(store.server()?, dice.fork()).await?),
                Backend::Sqlite => None,
            };
            let database = store.arguments(proxy.as_ref().map(Proxy::address))?;
            writers.push(Writer::start(number, database, &launch, dice.fork()).await?);
            proxies.extend(proxy);
        }
        let database = store.connect().await?;
        let log = Log::open(database.clone(), daybook_log::Settings::default()).await?;
        let reader = Reader::start(log.clone());
        let (faults, crashes, violations) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut campaign = Self { plan, store, means, dice, writers, proxies, faults, crashes, violations };

        campaign.go_wrong(start + plan.time_limit.unwrap_or(TIME_LIMIT)).await?;
        campaign.work_on(&log).await?;
        campaign.settle().await?;
        let mut read = reader.finish().await?;
        read.compare(&log).await?;
        let head = log.head().await?.position.get();
        let names = names(&log).await?;
        let snapshots = snapshots(&database).await?;
        log.close().await;
        database.close().await;

        let mut journals = Vec::new();
        for writer in &campaign.writers {
            journals.extend(journal::read_all(&plan.journals, writer.number)?);
        }
        let evidence = Evidence { log: read.log, head, names, journals, sightings: read.sightings };
        let report = check(&evidence);
        let mut violations = campaign.violations;
        violations.extend(read.violations);
        violations.extend(report.violations);
        if !violations.is_empty() {
            keep(&plan.journals, &evidence, &violations)?;
        }
        let mut summary = Summary {
            backend: plan.backend,
            seed: plan.seed,
            time: start.elapsed(),
            faults: campaign.faults,
            counts: report.counts,
            snapshots,
            silence: Silence::new(&evidence.journals, &campaign.crashes),
            violations,
            shortcomings: Vec::new(),
        };
        summary.shortcomings = verdict::shortcomings(plan, &summary);
        Ok(summary)
    }

    /// Makes one fault after the other.
    async fn go_wrong(&mut self, until: Instant) -> anyhow::Result<()> {
        let (mut made, mut next_shift) = (0, 0);
        while made < self.plan.faults && Instant::now() < until {
            self.tend().await?;
            let mut dice = self.dice.fork();
            if made >= next_shift {
                next_shift += SHIFT_FAULTS;
                self.change_shift(&mut dice).await?;
            }
            let fault = self.means.draw(&mut dice);
            if let Some(how) = self.inject(fault, &mut dice).await? {
                *self.faults.entry(how).or_default() += 1;
                made += 1;
            }
            sleep(if dice.one_in(5) { dice.ms(50, 200) } else { dice.ms(0, 30) }).await;
        }
        Ok(())
    }

    /// Has everybody work, or one alone: what a writer does when nobody is in its way is another thing.
    async fn change_shift(&mut self, dice: &mut Dice) -> anyhow::Result<()> {
        let alone = dice.one_in(2).then(|| dice.below(self.writers.len() as u64) as usize);
        for (index, writer) in self.writers.iter_mut().enumerate() {
            writer.rest(alone.is_some_and(|one| one != index)).await?;
        }
        Ok(())
    }

    /// Thaws and starts again whoever is due.
    async fn tend(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        for writer in &mut self.writers {
            writer.tend(now, &mut self.violations).await?;
        }
        Ok(())
    }

    /// Takes everything out of the writers' way, and has them go on until two events were appended for each fault: what a
    /// fault has left behind shows in what comes after it.
    async fn work_on(&mut self, log: &Log) -> anyhow::Result<()> {
        for proxy in &self.proxies {
            proxy.disarm();
            proxy.open();
        }
        for writer in &mut self.writers {
            writer.recover(&mut self.violations).await?;
        }
        let enough = log.head().await?.position.plus(2 * self.plan.faults);
        let until = Instant::now() + WORK_ON_LIMIT;
        while Instant::now() < until && log.head().await?.position < enough {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until all writers have their answers.
    async fn settle(&mut self) -> anyhow::Result<()> {
        for writer in &mut self.writers {
            writer.settle().await?;
        }
        for writer in &mut self.writers {
            writer.finished(&mut self.violations).await?;
        }
        Ok(())
    }
}

/// The names that are taken, and the things that hold them.
async fn names(log: &Log) -> Result<Vec<(String, String)>, LogError> {
    let mut names = Vec::new();
    for name in 1..=NAMES {
        if let Some(holder) = log.claim_holder(CLAIM, &name.to_string()).await? {
            names.push((name.to_string(), holder.id().to_owned()));
        }
    }
    Ok(names)
}

/// How many states are kept beside the log.
async fn snapshots(database: &Database) -> Result<u64, sqlx::Error> {
    let count = "SELECT count(*) FROM snapshots";
    let count: i64 = match database {
        Database::Postgres(pool) => sqlx::query_scalar(count).fetch_one(pool).await?,
        Database::Sqlite(file) => sqlx::query_scalar(count).fetch_one(file.readers()).await?,
    };
    Ok(count.unsigned_abs())
}

/// Puts what was found beside the journals.
fn keep(folder: &Path, evidence: &Evidence, violations: &[Violation]) -> anyhow::Result<()> {
    let mut log = std::io::BufWriter::new(std::fs::File::create(folder.join("log.txt"))?);
    for entry in &evidence.log {
        writeln!(log, "{} {}@{} {:?}", entry.position, entry.stream, entry.revision, entry.changed)?;
    }
    log.flush()?;
    let text: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    std::fs::write(folder.join("violations.txt"), text)?;
    Ok(())
}
