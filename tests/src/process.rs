//! The binary as a process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::{Store, wait_for};

/// How long the binary may take to print its addresses, and to end when it is asked to.
const LIMIT: Duration = Duration::from_secs(60);

/// What a verb that runs to its end has answered.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A running binary, whose output is kept. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the binary on a store.
    pub(crate) fn start(store: &Store, args: &[&str]) -> Self {
        let mut child = command(store, args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary().display()));
        let output = Arc::default();
        keep(child.stdout.take(), &output);
        keep(child.stderr.take(), &output);
        Self { child, output }
    }

    /// Runs a verb to its end, with `input` on its standard input.
    pub(crate) fn run(store: &Store, args: &[&str], input: &str) -> Output {
        let mut child = command(store, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary().display()));
        if let Some(mut stdin) = child.stdin.take() {
            // A verb that does not read its input closes it; that is its right.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().expect("the verb ends");
        Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Waits for a line that begins with `before`, and answers the rest of it.
    pub(crate) async fn printed(&mut self, before: &str) -> String {
        wait_for(&format!("`{before}…`"), LIMIT, async || {
            self.assert_running();
            let output = self.output();
            let complete = &output[..=output.rfind('\n')?];
            complete.lines().find_map(|line| line.strip_prefix(before)).map(str::to_owned)
        })
        .await
    }

    /// Fails when it has ended.
    pub(crate) fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the binary ended with {status}");
        }
    }

    /// All that it has written so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("no reader panics").clone()
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        // The shell's own `kill`: there is no other in a slim container.
        let id = self.child.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -s TERM \"$1\"", "sh", &id]).status();
        assert!(asked.is_ok_and(|status| status.success()), "the binary ended before it was asked to");
        wait_for("the binary's end", LIMIT, async || self.child.try_wait().expect("it is our child")).await
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "it becomes part of the failed test's report")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- what the binary wrote ----\n{}", self.output());
        }
    }
}

/// The binary with `args` on a store, free of whatever is set around the tests.
fn command(store: &Store, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if is_setting(&name) {
            command.env_remove(name);
        }
    }
    if let Some(url) = store.database_url() {
        command.env("DATABASE_URL", url);
    }
    command.args(args).arg("--data").arg(store.data()).current_dir(store.data());
    command
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("DAYBOOK_") || name.ends_with("DATABASE_URL") || name == "RUST_LOG"
}

/// `DAYBOOK_BIN`, or what `cargo build` left beside the tests.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DAYBOOK_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test knows where it is");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("it is in `target/debug/deps`");
    let path = profile.join("daybook");
    assert!(path.is_file(), "there is no {}: run `cargo build` first, or set DAYBOOK_BIN", path.display());
    path
}

/// Keeps the lines of a pipe until it closes.
fn keep(pipe: Option<impl Read + Send + 'static>, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    let mut lines = BufReader::new(pipe.expect("the pipe was asked for"));
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            output.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}
