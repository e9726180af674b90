//! A server of ours: started, stopped, killed, and started again.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::child::{Group, run_quietly};
use crate::loopback;

/// How long one may take until it is ready.
const LIMIT: Duration = Duration::from_secs(120);

/// How often to look whether it is.
const POLL: Duration = Duration::from_millis(20);

/// How many lines of its log are shown when it ends by itself.
const LINES_SHOWN: usize = 40;

/// How one tells that it is ready.
pub(crate) enum Ready {
    /// It says this in its log. Whoever else listens on its port is not it.
    Says(&'static str),
    /// Somebody can connect to it.
    Listens(SocketAddr),
    /// It answers 200 on this port of loopback, for this path.
    Answers(u16, &'static str),
}

/// A program that serves until it is told to end. Dropping it stops it.
pub(crate) struct Server {
    name: String,
    command: Command,
    ready: Ready,
    stop_signal: Signal,
    kill: Option<std::process::Command>,
    log: PathBuf,
    running: Option<Group>,
}

impl Server {
    /// One that is not running yet. All that it says in a run is going to be in the file `log`.
    pub(crate) fn new(name: impl Into<String>, command: impl Into<Command>, ready: Ready, log: PathBuf) -> Self {
        let (name, command) = (name.into(), command.into());
        Self { name, command, ready, stop_signal: Signal::TERM, kill: None, log, running: None }
    }

    /// Asked to end by another signal than SIGTERM.
    pub(crate) fn stopped_by(self, signal: Signal) -> Self {
        Self { stop_signal: signal, ..self }
    }

    /// Killed by a command, since not all of it is in the process group of what was started.
    pub(crate) fn killed_by(self, command: std::process::Command) -> Self {
        Self { kill: Some(command), ..self }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub(crate) fn process_id(&self) -> Option<Pid> {
        self.running.as_ref().and_then(Group::id)
    }

    /// Starts it, again if it ran before, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends before, or takes too long.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_until_ready().await
    }

    /// Starts it, and does not wait.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        self.stop();
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        self.command.stdout(log.try_clone()?).stderr(log);
        self.running = Some(Group::spawn(&mut self.command)?);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends before, or takes too long.
    pub(crate) async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let limit = Instant::now() + LIMIT;
        loop {
            self.check()?;
            let is_ready = match self.ready {
                Ready::Says(text) => self.log().contains(text),
                Ready::Listens(address) => TcpStream::connect(address).await.is_ok(),
                Ready::Answers(port, path) => loopback::answers(port, path).await,
            };
            if is_ready {
                return Ok(());
            }
            if Instant::now() > limit {
                bail!("{} is not ready after {LIMIT:?}:\n{}", self.name, self.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Makes sure that it has not ended by itself; of one that has it is told once.
    ///
    /// # Errors
    ///
    /// When it has; the error says with what.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.running.as_mut().map(Group::ended).transpose()?.flatten() else { return Ok(()) };
        self.running = None;
        bail!("{} ended with {status}:\n{}", self.name, self.log_end())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        if let Some(mut group) = self.running.take() {
            group.stop(self.stop_signal);
        }
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let Some(mut group) = self.running.take() else { return };
        if let Some(kill) = &mut self.kill {
            // What does not end by it does by a signal.
            let _ = run_quietly(kill);
        }
        group.kill();
    }

    fn log(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}
