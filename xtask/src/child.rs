//! Child processes that never outlive us.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How long a child has to end by itself once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `command` to its end, its output being ours.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) async fn run(command: &mut Command) -> anyhow::Result<()> {
    let mut group = Group::spawn(command)?;
    let status = group.child.wait().await?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs `command` to its end and answers what it wrote to its standard output.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) async fn read(command: &mut Command) -> anyhow::Result<String> {
    let mut group = Group::spawn(command.stdout(Stdio::piped()))?;
    let mut text = String::new();
    if let Some(mut stdout) = group.child.stdout.take() {
        stdout.read_to_string(&mut text).await?;
    }
    let status = group.child.wait().await?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(text)
}

/// Runs `command` to its end, and answers how it ended and all that it wrote, as it was written.
///
/// # Errors
///
/// When it cannot be started.
pub(crate) async fn record(command: &mut Command) -> anyhow::Result<(ExitStatus, String)> {
    let mut written = tempfile::tempfile()?;
    let mut group = Group::spawn(command.stdout(written.try_clone()?).stderr(written.try_clone()?))?;
    let status = group.child.wait().await?;
    written.rewind()?;
    let mut bytes = Vec::new();
    written.read_to_end(&mut bytes)?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

/// Runs a short `command` quietly; its output is part of the error when it does not succeed.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) fn run_quietly(command: &mut std::process::Command) -> anyhow::Result<String> {
    let shown = format!("{} …", command.get_program().to_string_lossy());
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&stdout);
    if !status.success() {
        bail!("`{shown}` ended with {status}:\n{stdout}{}", String::from_utf8_lossy(&stderr));
    }
    Ok(stdout.trim().to_owned())
}

/// A child in a process group of its own. A terminal's Ctrl-C reaches us alone, so the order in which things stop
/// is ours; and what the child has started goes with it.
/// Dropping it asks it to end, and ends it when it does not.
pub(crate) struct Group {
    child: Child,
    id: Option<u32>,
}

impl Group {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When there is no such program.
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
        Ok(Self { id: child.id(), child })
    }

    /// The child's process id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.id
    }

    /// How the child has ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks all of it to end by a signal, and ends what does not: also what a child leaves behind that ended by itself.
    pub(crate) fn stop(&mut self, signal: &str) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(signal);
            self.wait_for_end();
        }
        self.kill();
    }

    /// Ends all of it at once, and waits until the child is gone.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.wait_for_end();
    }

    /// Waits as long as the child has to end, and not longer.
    fn wait_for_end(&mut self) {
        let limit = Instant::now() + GRACE;
        while Instant::now() < limit && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let Some(id) = self.id else { return };
        // The shell's own `kill`: there is no other in a slim container. A group that is gone already is no error.
        let _ = std::process::Command::new("sh")
            .args(["-c", "kill -s \"$1\" -- \"-$2\"", "sh", name, &id.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop("TERM");
    }
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;

    use super::*;

    #[tokio::test]
    async fn what_a_child_has_started_goes_with_it() {
        // A child that goes on, and one that is killed while what it has started goes on.
        for script in ["sleep 1000 & echo $!; wait", "sleep 1000 & echo $!; kill -s KILL $$"] {
            let mut command = Command::new("sh");
            let mut group =
                Group::spawn(command.args(["-c", script]).stdout(Stdio::piped())).expect("there is a shell");
            let mut first_line = String::new();
            let mut stdout = tokio::io::BufReader::new(group.child.stdout.take().expect("it was asked for"));
            stdout.read_line(&mut first_line).await.expect("the shell says whom it started");
            if script.contains("KILL") {
                group.child.wait().await.expect("it ends");
            }

            drop(group);

            // The pipe closes when the last process that holds it is gone.
            let mut rest = String::new();
            let closed = tokio::time::timeout(GRACE, stdout.read_to_string(&mut rest)).await;
            assert!(closed.is_ok(), "`{script}`: `sleep` ({}) is still there", first_line.trim());
        }
    }

    #[tokio::test]
    async fn a_child_that_fails_is_told_by_its_command_line() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).await.expect_err("it fails");
        assert!(error.to_string().starts_with("`sh -c exit 3` ended with"), "{error}");
    }
}
