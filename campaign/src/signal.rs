//! Signals to other processes.

use std::process::{Command, Stdio};

use anyhow::bail;

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
