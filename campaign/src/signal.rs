//! Signals to other processes.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep_until};

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
    until: Instant,
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
        let until = Instant::now() + time;
        tokio::spawn(async move {
            sleep_until(until).await;
            let _ = send("CONT", process);
        });
        Ok(Self { process, until })
    }

    /// Waits until it is over, and makes sure that it is.
    ///
    /// # Errors
    ///
    /// See [`send`].
    pub async fn end(self) -> anyhow::Result<()> {
        sleep_until(self.until).await;
        send("CONT", self.process)
    }
}
