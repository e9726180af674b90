//! All binaries with tests, several beside each other: most tests wait for a database, for a process or for time to
//! pass, and what waits longest is one test at the end of a binary.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use tokio::process::Command;

use crate::build::{MESSAGES, artifacts, cargo};
use crate::child;

/// How many binaries run at once. More would load the machine so much that what tests give time to is not done in it.
const BINARIES: usize = 2;

/// How many tests of one binary run at once for each processor.
const TESTS_PER_PROCESSOR: usize = 2;

/// Those that take longest are begun first, so that no long one is left at the end. Each is named by its package's
/// folder and its target; of what is not named here, nothing takes long.
const LONGEST: &[&str] = &["tests it", "views it"];

/// What has tests, and is run by itself.
pub(crate) struct Binary {
    name: String,
    command: Command,
}

/// What became of one.
struct Run {
    name: String,
    succeeded: bool,
    text: String,
    time: Duration,
}

/// Builds all of them. What is tested in the documentation counts as one more, which cargo builds as it runs it.
///
/// # Errors
///
/// When one does not build.
pub(crate) async fn build() -> anyhow::Result<Vec<Binary>> {
    let documentation = cargo(&["test", "--workspace", "--no-fail-fast", "--doc", "--"]);
    let mut binaries = vec![Binary { name: "documentation".into(), command: documentation }];
    for artifact in artifacts(&mut cargo(&["test", "--workspace", "--no-run", MESSAGES])).await? {
        let Some(program) = artifact.executable.filter(|_| artifact.profile.test) else { continue };
        let folder = artifact.manifest_path.parent().context("a manifest lies in a folder")?;
        let name = format!("{} {}", folder.file_name().unwrap_or_default(), artifact.target.name);
        let mut command = Command::new(program);
        // Where cargo runs it.
        command.current_dir(folder);
        binaries.push(Binary { name, command });
    }
    for long in LONGEST {
        ensure!(binaries.iter().any(|binary| binary.name == *long), "there is no `{long}`, which takes long");
    }
    binaries.sort_by_key(|binary| LONGEST.iter().position(|name| *name == binary.name).unwrap_or(LONGEST.len()));
    Ok(binaries)
}

/// Runs all of them to their ends, and prints what each has written when it has ended.
///
/// # Errors
///
/// When a test fails, or none was run.
pub(crate) async fn run(
    binaries: Vec<Binary>,
    settings: &[(&str, &OsStr)],
    args: &[String],
) -> anyhow::Result<()> {
    let threads = TESTS_PER_PROCESSOR * available_parallelism().map_or(1, NonZeroUsize::get);
    let runs = binaries.into_iter().map(|mut binary| {
        binary.command.args(args).env("RUST_TEST_THREADS", threads.to_string()).envs(settings.iter().copied());
        binary.run()
    });
    let mut runs = stream::iter(runs).buffer_unordered(BINARIES);
    let (mut passed, mut failed) = (0, Vec::new());
    while let Some(run) = runs.next().await {
        println!("--> {} ({:.1} s)\n{}", run.name, run.time.as_secs_f64(), run.text);
        passed += run.passed().unwrap_or_default();
        failed.extend(run.failed());
    }
    println!("{passed} tests passed.");
    ensure!(failed.is_empty(), "these failed:\n  {}", failed.join("\n  "));
    ensure!(passed > 0, "there is no such test");
    Ok(())
}

impl Binary {
    async fn run(mut self) -> Run {
        println!("    {} begins", self.name);
        let start = Instant::now();
        let (succeeded, text) = match child::record(&mut self.command).await {
            Ok((status, text)) => (status.success(), text),
            Err(error) => (false, format!("{error:#}")),
        };
        Run { name: self.name, succeeded, text, time: start.elapsed() }
    }
}

impl Run {
    /// How many tests have passed; `None` when it ended without saying so.
    fn passed(&self) -> Option<u64> {
        let results = self.text.lines().filter_map(|line| line.strip_prefix("test result: "));
        let counts = results.map(|result| result.split(' ').nth(1)?.parse::<u64>().ok());
        counts.reduce(|sum, count| Some(sum? + count?)).flatten()
    }

    /// The tests that have failed, each with the binary's name; that alone when it was broken off.
    fn failed(&self) -> Vec<String> {
        let tests = self.text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let mut failed: Vec<_> = tests.map(|test| format!("{}: {test}", self.name)).collect();
        if failed.is_empty() && !(self.succeeded && self.passed().is_some()) {
            failed.push(self.name.clone());
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str) -> Run {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Binary { name: "core it".into(), command }.run().await
    }

    #[tokio::test]
    async fn whatever_does_not_say_that_its_tests_passed_has_failed() {
        let said = |result| format!("echo 'test a ... ok'; echo 'test result: {result}; 0 ignored'");
        let good = run(&said("ok. 2 passed; 0 failed")).await;
        assert_eq!((good.passed(), good.failed()), (Some(2), Vec::new()));
        let bad =
            run(&format!("echo 'test b ... FAILED'; {}; exit 101", said("FAILED. 1 passed; 1 failed"))).await;
        assert_eq!((bad.passed(), bad.failed()), (Some(1), vec!["core it: b".to_owned()]));
        for broken_off in ["exit 0", "kill -s KILL $$", &format!("{}; exit 1", said("ok. 2 passed; 0 failed"))] {
            assert_eq!(run(broken_off).await.failed(), ["core it"], "{broken_off}");
        }
        let missing = Binary { name: "core it".into(), command: Command::new("/nowhere") }.run().await;
        assert_eq!(missing.failed(), ["core it"]);
    }
}
