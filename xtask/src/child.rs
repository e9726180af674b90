//! Child processes that never outlive us.

use std::ffi::OsStr;
use std::io::{Read, Seek};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// How often to look whether a child has ended.
const POLL: Duration = Duration::from_millis(20);

/// How long a child has to end by itself once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `command` to its end, its output being ours.
///
/// # Errors
///
/// When it cannot be started or does not succeed.
pub(crate) async fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = Group::spawn(command)?.wait().await?;
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
    let status = group.wait().await?;
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
    let status = group.wait().await?;
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
///
/// The group's number is its own for as long as the child was not waited for, and may be anybody's then. So whether it has
/// ended is looked at without that, and it is waited for when all of its group was ended.
pub(crate) struct Group {
    child: Child,
    /// `None` once it was waited for.
    id: Option<Pid>,
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
        let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Self { id, child })
    }

    /// The child's process id; `None` once it has ended, and that was noticed.
    pub(crate) fn id(&self) -> Option<Pid> {
        self.id
    }

    /// How the child has ended; `None` while it runs. What it leaves behind is ended.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.runs() {
            return Ok(None);
        }
        self.signal(Signal::KILL);
        self.id = None;
        Ok(self.child.try_wait()?)
    }

    /// Waits until the child ends, and ends what it leaves behind.
    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether the child has not ended. It is not waited for.
    fn runs(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.id.is_some_and(|id| matches!(waitid(WaitId::Pid(id), look), Ok(None)))
    }

    /// Asks all of it to end by a signal, and ends what does not: also what a child leaves behind that ended by itself.
    pub(crate) fn stop(&mut self, signal: Signal) {
        if self.runs() {
            self.signal(signal);
            self.wait_for_end();
        }
        self.kill();
    }

    /// Ends all of it at once, and waits until the child is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end();
        // When it does not end even so, it keeps its number.
        let _ = self.ended();
    }

    /// Waits as long as the child has to end, and not longer.
    fn wait_for_end(&mut self) {
        let limit = Instant::now() + GRACE;
        while Instant::now() < limit && self.runs() {
            std::thread::sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // Nobody is left but a child that has ended: that is no error.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop(Signal::TERM);
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
                group.wait().await.expect("it ends");
                assert!(group.id().is_none(), "the number may be somebody else's");
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
