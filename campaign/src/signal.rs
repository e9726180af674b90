//! Signals to other processes.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Sends a signal (`KILL`, `STOP`, `CONT`) to a process.
///
/// # Errors
///
/// When there is none, or it is not ours.
pub fn send(name: &str, process: u32) -> anyhow::Result<()> {
    // The shell's own `kill`: there is no other in a slim container.
    let id = process.to_string();
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &id])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("no {name} for process {process}");
    }
    Ok(())
}

/// A process that does nothing for a time.
#[derive(Debug)]
pub struct Frozen {
    process: u32,
    /// Ends when it goes on.
    thaw: JoinHandle<anyhow::Result<()>>,
}

impl Frozen {
    /// Freezes a process for this long. It goes on by then, whatever else happens meanwhile: whoever has its number by then
    /// does not mind a CONT.
    ///
    /// # Errors
    ///
    /// See [`send`].
    pub fn begin(process: u32, time: Duration) -> anyhow::Result<Self> {
        send("STOP", process)?;
        let thaw = tokio::spawn(async move {
            sleep(time).await;
            send("CONT", process)
        });
        Ok(Self { process, thaw })
    }

    /// Waits until it is over.
    ///
    /// # Errors
    ///
    /// See [`send`].
    pub async fn end(self) -> anyhow::Result<()> {
        self.thaw.await.context("nobody thaws it")?
    }

    /// Has it go on now.
    ///
    /// # Errors
    ///
    /// See [`send`].
    pub fn cut_short(self) -> anyhow::Result<()> {
        // Or else it would end the next time that it is frozen.
        self.thaw.abort();
        send("CONT", self.process)
    }
}
