//! The processes that a campaign kills, freezes and starts again.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Dice;
use crate::signal::Frozen;

/// How long everything has to come to rest.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It is killed, and started again.
    Kill,
    /// It is frozen for less time than its leases last.
    Freeze,
    /// It is frozen for longer than that.
    FreezePastLease,
}

impl Harm {
    /// What to say of the process.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Freeze => "frozen",
            Self::FreezePastLease => "frozen past its lease",
        }
    }

    /// The longest that a process is frozen whose leases last as long as this.
    pub(crate) fn longest(lease: Duration) -> Duration {
        3 * lease
    }
}

/// How a process is started: its name in this life is among its arguments.
type Launch = Box<dyn FnMut(&str) -> Command + Send>;

/// A process, in all its lives. It ends when its standard input does.
pub(crate) struct Process {
    name: String,
    life: u32,
    launch: Launch,
    /// Where what it logs goes.
    notes: PathBuf,
    /// How long its leases last.
    lease: Duration,
    child: Child,
    frozen: Option<Frozen>,
}

impl Process {
    /// Starts one.
    pub(crate) fn start(
        name: String,
        notes: PathBuf,
        lease: Duration,
        launch: impl FnMut(&str) -> Command + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut launch: Launch = Box::new(launch);
        let child = spawn(&mut launch, &notes, &in_life(&name, 1))?;
        Ok(Self { name, life: 1, launch, notes, lease, child, frozen: None })
    }

    /// What it is called in this life.
    pub(crate) fn name(&self) -> String {
        in_life(&self.name, self.life)
    }

    /// Does it harm.
    pub(crate) async fn suffer(&mut self, harm: Harm, dice: &mut Dice) -> anyhow::Result<()> {
        let lease = self.lease.as_millis() as u64;
        match harm {
            Harm::Kill => {
                self.make_sure_that_it_runs().await?;
                self.child.kill().await?;
                self.life += 1;
                self.child = spawn(&mut self.launch, &self.notes, &in_life(&self.name, self.life))?;
                Ok(())
            }
            Harm::Freeze => self.freeze(dice.ms(5, lease / 2)).await,
            Harm::FreezePastLease => {
                let longest = Harm::longest(self.lease).as_millis() as u64;
                self.freeze(dice.ms(lease + 100, longest)).await
            }
        }
    }

    /// Has it do nothing for a time.
    pub(crate) async fn freeze(&mut self, time: Duration) -> anyhow::Result<()> {
        self.make_sure_that_it_runs().await?;
        let id = self.child.id().context("it runs")?;
        self.frozen = Some(Frozen::begin(id, time)?);
        Ok(())
    }

    async fn make_sure_that_it_runs(&mut self) -> anyhow::Result<()> {
        self.thaw().await?;
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended by itself: {status}", self.name()),
            None => Ok(()),
        }
    }

    /// Waits until it goes on.
    pub(crate) async fn thaw(&mut self) -> anyhow::Result<()> {
        match self.frozen.take() {
            Some(frozen) => frozen.end().await,
            None => Ok(()),
        }
    }

    /// Has it go on.
    pub(crate) fn wake(&mut self) -> anyhow::Result<()> {
        self.frozen.take().map_or(Ok(()), Frozen::cut_short)
    }

    /// Has it end in an orderly way.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<()> {
        self.thaw().await?;
        drop(self.child.stdin.take());
        let ended = timeout(SETTLE_LIMIT, self.child.wait()).await;
        let ended = ended.with_context(|| format!("{} does not end", self.name()))??;
        ensure!(ended.success(), "{} ended with {ended}", self.name());
        Ok(())
    }
}

fn in_life(name: &str, life: u32) -> String {
    format!("{name}.{life}")
}

fn spawn(launch: &mut Launch, notes: &std::path::Path, name: &str) -> anyhow::Result<Child> {
    let mut command = launch(name);
    command
        .env_remove("DATABASE_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(notes.join(format!("{name}.log")))?)
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {name}"))
}
