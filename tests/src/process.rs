//! The binary as a process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
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

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Self { status: output.status, stdout, stderr }
    }
}

/// A running binary, whose output is kept. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Kept,
    stderr: Kept,
}

/// What came out of a pipe so far, and who reads on.
#[derive(Debug)]
struct Kept {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
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
        let (stdout, stderr) = (Kept::new(child.stdout.take()), Kept::new(child.stderr.take()));
        Self { child, stdout, stderr }
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
        Output::from(child.wait_with_output().expect("the verb ends"))
    }

    /// Runs a script of a shell to its end where `daybook-data` is a store, and `target/release/daybook` the binary.
    pub(crate) fn shell(store: &Store, script: &str) -> Output {
        let programs = store.data().join("target/release");
        std::fs::create_dir_all(&programs).expect("the folder is ours");
        for (to, at) in [(binary(), programs.join("daybook")), (".".into(), store.data().join("daybook-data"))] {
            symlink(to, at).expect("the folder is ours");
        }
        // All that it has begun ends with it.
        let mut shell = Command::new("timeout");
        shell.args(["--kill-after=1", &LIMIT.as_secs().to_string(), "bash", "-c", script]);
        Output::from(on(store, &mut shell).stdin(Stdio::null()).output().expect("there is a `timeout`"))
    }

    /// Waits for a line that begins with `before`, and answers the rest of it.
    pub(crate) async fn printed(&mut self, before: &str) -> String {
        wait_for(&format!("`{before}…`"), LIMIT, async || {
            self.assert_running();
            let output = self.stdout();
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

    /// All that it has written to its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// All that it has written to its standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end.
    pub(crate) fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        // The shell's own `kill`: there is no other in a slim container.
        let id = self.child.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -s \"$2\" \"$1\"", "sh", &id, signal]).status();
        assert!(asked.is_ok_and(|status| status.success()), "the binary ended before it was asked to");
    }

    /// Waits until it has ended, and all that it has written is kept.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status =
            wait_for("the binary's end", LIMIT, async || child.try_wait().expect("it is our child")).await;
        self.stdout.finish();
        self.stderr.finish();
        status
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.ended().await
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "it becomes part of the failed test's report")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- what the binary wrote ----\n{}{}", self.stdout(), self.stderr());
        }
    }
}

/// The binary with `args` on a store.
fn command(store: &Store, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    on(store, command.args(args).arg("--data").arg(store.data()));
    command
}

/// In a store's folder, with its settings, free of whatever is set around the tests.
fn on<'a>(store: &Store, command: &'a mut Command) -> &'a mut Command {
    for (name, _) in std::env::vars_os() {
        if is_setting(&name) {
            command.env_remove(name);
        }
    }
    if let Some(url) = store.database_url() {
        command.env("DATABASE_URL", url);
    }
    command.current_dir(store.data())
}

fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("DAYBOOK_")
        || name.ends_with("DATABASE_URL")
        || ["KAFKA_BROKERS", "RUST_LOG"].contains(&name.as_ref())
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

impl Kept {
    /// Keeps the lines of a pipe until it closes.
    fn new(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let kept = Arc::clone(&text);
        let mut lines = BufReader::new(pipe.expect("the pipe was asked for"));
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                kept.lock().expect("nobody panics").push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().expect("nobody panics").clone()
    }

    /// Waits for the end of the pipe.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("nobody panics");
        }
    }
}
