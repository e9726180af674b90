//! The writers of a campaign, as processes.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::check::{Breach, Violation};
use crate::writer::orders;
use crate::{Dice, journal, signal};

/// How long writers have to get answers to all that they wait for, once nothing is in their way any more.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// How much has to be in a writer's journal before it is worth while to kill it.
const WORKED_BYTES: u64 = 5_000;

/// How each writer is started.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) binary: PathBuf,
    pub(super) journals: PathBuf,
    pub(super) clients: u32,
    pub(super) lock_timeout: Duration,
}

/// What a writer is doing.
#[derive(Debug)]
enum State {
    Running {
        child: Child,
        orders: ChildStdin,
    },
    /// Stopped by SIGSTOP, until then.
    Frozen {
        child: Child,
        orders: ChildStdin,
        until: Instant,
    },
    /// Killed, to be started again then.
    Dead {
        until: Instant,
    },
}

/// One writer, in all its lives.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) number: u32,
    pub(super) life: u32,
    database: [String; 2],
    launch: Launch,
    dice: Dice,
    state: State,
    /// Whether it has nothing to do but to answer for others.
    resting: bool,
}

impl Writer {
    pub(super) async fn start(
        number: u32,
        database: [String; 2],
        launch: &Launch,
        dice: Dice,
    ) -> anyhow::Result<Self> {
        let launch = launch.clone();
        let state = State::Dead { until: Instant::now() };
        let mut writer = Self { number, life: 0, database, launch, dice, state, resting: false };
        writer.restart().await?;
        Ok(writer)
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        self.life += 1;
        let name = format!("{}.{}", self.number, self.life);
        let log = File::create(self.launch.journals.join(format!("{name}.log")))?;
        let mut command = Command::new(&self.launch.binary);
        command
            .arg("writer")
            .args(&self.database)
            .arg("--journals")
            .arg(&self.launch.journals)
            .args(["--writer", &self.number.to_string(), "--life", &self.life.to_string()])
            .args(["--seed", &self.dice.below(u64::MAX).to_string()])
            .args(["--clients", &self.launch.clients.to_string()])
            .args(["--lock-ms", &self.launch.lock_timeout.as_millis().to_string()])
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start writer {name}"))?;
        let orders = child.stdin.take().context("a writer takes orders")?;
        self.state = State::Running { child, orders };
        self.order(self.shift()).await
    }

    /// Has it rest or work, in this life and those to come.
    pub(super) async fn rest(&mut self, resting: bool) -> anyhow::Result<()> {
        self.resting = resting;
        self.order(self.shift()).await
    }

    fn shift(&self) -> &'static str {
        if self.resting { orders::REST } else { orders::WORK }
    }

    /// Whether it runs and has work.
    pub(super) fn is_working(&self) -> bool {
        self.is_running() && !self.resting
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether it runs and has noted down something already.
    pub(super) fn has_worked(&self) -> bool {
        let journal = journal::path(&self.launch.journals, self.number, self.life);
        self.is_running() && std::fs::metadata(journal).is_ok_and(|file| file.len() > WORKED_BYTES)
    }

    /// Kills it, to be started again after a while.
    pub(super) async fn kill(&mut self, pause: Duration) -> anyhow::Result<()> {
        if let State::Running { child, .. } | State::Frozen { child, .. } = &mut self.state {
            child.kill().await?;
        }
        self.state = State::Dead { until: Instant::now() + pause };
        Ok(())
    }

    /// Stops it where it is, for a while.
    pub(super) fn freeze(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        match std::mem::replace(&mut self.state, State::Dead { until }) {
            State::Running { child, orders } => {
                let process = child.id().context("it runs")?;
                signal::send("STOP", process)?;
                // On time, whatever goes wrong meanwhile. Whoever has the number by then does not mind a CONT.
                tokio::spawn(async move {
                    sleep(time).await;
                    let _ = signal::send("CONT", process);
                });
                self.state = State::Frozen { child, orders, until };
            }
            other => self.state = other,
        }
        Ok(())
    }

    /// Has it ask for what another one waits for.
    pub(super) async fn adopt(&mut self, other: u32) -> anyhow::Result<()> {
        self.order(&format!("{}{other}", orders::ADOPT)).await
    }

    async fn order(&mut self, order: &str) -> anyhow::Result<()> {
        if let State::Running { orders, .. } | State::Frozen { orders, .. } = &mut self.state {
            // One that died meanwhile is found out about in `tend`.
            let _ = orders.write_all(format!("{order}\n").as_bytes()).await;
        }
        Ok(())
    }

    /// Does what is due: thaws it, starts it again, notices that it ended by itself.
    pub(super) async fn tend(&mut self, now: Instant, violations: &mut Vec<Violation>) -> anyhow::Result<()> {
        let until = Instant::now();
        match std::mem::replace(&mut self.state, State::Dead { until }) {
            State::Frozen { child, orders, until } if until <= now => {
                signal::send("CONT", child.id().context("it was frozen")?)?;
                self.state = State::Running { child, orders };
            }
            State::Dead { until } if until <= now => self.restart().await?,
            State::Running { mut child, orders } => match child.try_wait()? {
                None => self.state = State::Running { child, orders },
                Some(status) => {
                    let detail = format!("writer {}.{} ended by itself: {status}", self.number, self.life);
                    violations.push(Violation::new(Breach::Died, detail));
                }
            },
            other => self.state = other,
        }
        Ok(())
    }

    /// Thaws it, or starts it again, whether it is due or not, and has it work.
    pub(super) async fn recover(&mut self, violations: &mut Vec<Violation>) -> anyhow::Result<()> {
        if let State::Frozen { until, .. } | State::Dead { until } = &mut self.state {
            *until = Instant::now();
        }
        self.tend(Instant::now(), violations).await?;
        self.rest(false).await
    }

    /// Tells it to finish.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        self.order(orders::SETTLE).await
    }

    /// Waits until it has finished.
    pub(super) async fn finished(&mut self, violations: &mut Vec<Violation>) -> anyhow::Result<()> {
        let State::Running { child, .. } = &mut self.state else { return Ok(()) };
        let how = match timeout(SETTLE_LIMIT, child.wait()).await {
            Ok(status) => match status? {
                status if status.success() => return Ok(()),
                status => format!("ended with {status}"),
            },
            Err(_) => format!("did not get all its answers within {SETTLE_LIMIT:?}"),
        };
        let detail = format!("writer {}.{} {how}", self.number, self.life);
        violations.push(Violation::new(Breach::Died, detail));
        Ok(())
    }
}
