//! A server of ours: started, stopped, killed, and started again.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::child::Group;

/// How long one may take until it is ready.
const LIMIT: Duration = Duration::from_secs(60);

/// How often to look whether it is.
const POLL: Duration = Duration::from_millis(20);

/// How many lines of its log are shown when it ends by itself.
const LINES_SHOWN: usize = 40;

/// A program that serves until it is told to end. Dropping it stops it.
pub(crate) struct Server {
    name: String,
    command: Command,
    log: PathBuf,
    running: Option<Group>,
}

impl Server {
    /// One that is not running yet. All that it says in a run is going to be in the file `log`.
    pub(crate) fn new(name: impl Into<String>, command: Command, log: PathBuf) -> Self {
        Self { name: name.into(), command, log, running: None }
    }

    /// Starts it; if it runs already, again.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.stop();
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        self.command.stdout(log.try_clone()?).stderr(log);
        self.running = Some(Group::spawn(&mut self.command)?);
        Ok(())
    }

    /// Waits until `ready` says yes, which is handed what is in its log so far.
    ///
    /// # Errors
    ///
    /// When it ends before, or takes too long.
    pub(crate) async fn wait_until(&mut self, mut ready: impl AsyncFnMut(&str) -> bool) -> anyhow::Result<()> {
        let limit = Instant::now() + LIMIT;
        while !ready(&self.log()).await {
            self.check()?;
            if Instant::now() > limit {
                bail!("{} is not ready after {LIMIT:?}:\n{}", self.name, self.log_end());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Makes sure that it has not ended by itself.
    ///
    /// # Errors
    ///
    /// When it has; the error says with what.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.running.as_mut().map(Group::ended).transpose()?.flatten() {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_end()),
        }
    }

    /// Its process id, while it runs.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.running.as_ref().and_then(Group::id)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut group) = self.running.take() {
            group.kill();
        }
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
