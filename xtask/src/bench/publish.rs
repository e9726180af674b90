//! `BENCHMARKS.md`: the newest run of each bench, with when and on what it was measured.

use std::fmt::Write;
use std::path::Path;

use crate::bench::figures::Row;
use crate::bench::goals::BENCHES;
use crate::bench::table::{TITLES, cells, remarks};

/// What stands above all sections.
const INTRODUCTION: &str = "\
# Benchmarks

Written by `cargo xtask bench all --publish`; without `--publish` it only prints. `cargo xtask bench append` measures one
part, `cargo xtask bench append.c64` one line of it. `--help` lists how often and for how long.

Figures differ from machine to machine and from hour to hour, so a goal is a **ratio to a baseline that the same run
measures on the same server**, in turn with what it stands beside: a PostgreSQL of its own with default durability,
`shared_buffers=1GB`, `max_wal_size=8GB`. Values are medians; *from* and *to* are the least and the greatest of the
rounds. A line without a baseline has a limit. Callers call again when they were answered (closed loop), so their number
is the load.
";

/// With what the figures of a bench begin.
const MEASURED: &str = "Measured ";

/// The text of `BENCHMARKS.md` with new figures for the benches of which `rows` has all metrics; the others keep theirs.
pub(crate) fn merged(old: &str, rows: &[Row], provenance: &str) -> String {
    let mut text = INTRODUCTION.to_owned();
    for bench in BENCHES {
        let _ = write!(text, "\n## {}\n\n{}\n\nWhat limits it now:\n\n", bench.name, bench.about);
        for metric in bench.metrics {
            let _ = writeln!(text, "- `{}`: {}", metric.name, metric.limited_by);
        }
        text.push('\n');
        let found: Vec<_> = rows.iter().filter(|row| row.metric.bench() == bench.name).collect();
        if found.len() == bench.metrics.len() {
            text.push_str(&figures(&found, provenance));
        } else {
            text.push_str(published(old, bench.name).unwrap_or("Not published yet.\n"));
        }
    }
    text
}

/// When and on what, and a table.
fn figures(rows: &[&Row], provenance: &str) -> String {
    let line = |cells: [String; TITLES.len()]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{MEASURED}{provenance}\n\n");
    text.push_str(&line(TITLES.map(str::to_owned)));
    text.push_str(&line(TITLES.map(|_| "---".to_owned())));
    text.extend(rows.iter().map(|row| line(cells(row))));
    let remarks: Vec<_> = rows.iter().flat_map(|row| remarks(row)).collect();
    if !remarks.is_empty() {
        text.push('\n');
    }
    text.extend(remarks.into_iter().map(|(name, remark)| format!("- `{name}`: {remark}\n")));
    text
}

/// The figures of a bench that were published before.
fn published<'a>(text: &'a str, bench: &str) -> Option<&'a str> {
    let section = text.split("\n## ").find_map(|section| section.strip_prefix(bench)?.strip_prefix('\n'))?;
    let begin = section.find(&format!("\n{MEASURED}"))?;
    Some(&section[begin + 1..])
}

fn said(program: &str, args: &[&str]) -> anyhow::Result<String> {
    crate::child::run_quietly(std::process::Command::new(program).args(args))
}

/// The commit that is about to be measured: anybody can check it out.
pub(crate) fn commit() -> anyhow::Result<String> {
    let commit = said("git", &["describe", "--always", "--dirty", "--exclude=*"])?;
    anyhow::ensure!(
        !commit.ends_with("-dirty"),
        "what is published is a commit's: commit first, or leave `--publish` out"
    );
    Ok(commit)
}

/// When and on what a commit was measured, in a sentence.
pub(crate) fn provenance(commit: &str, postgres: &str, pace: &str) -> anyhow::Result<String> {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown processor".into());
    let memory_kib: f64 =
        field("/proc/meminfo", "MemTotal").and_then(|size| size.split(' ').next()?.parse().ok()).unwrap_or(0.0);
    Ok(format!(
        "on {date} at commit {commit}: {pace}, on {cores} cores of {processor}, {memory:.0} GiB, {system}; \
         PostgreSQL {postgres}, {rust}.",
        date = said("date", &["-u", "+%Y-%m-%d"])?,
        cores = std::thread::available_parallelism()?,
        memory = memory_kib / 1_048_576.0,
        system = said("uname", &["-sr"])?,
        rust = said("rustc", &["--version"])?,
    ))
}

/// Where it is.
pub(crate) fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../BENCHMARKS.md"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::row;

    fn rows(bench: &str, value: f64) -> Vec<Row> {
        let bench = BENCHES.iter().find(|one| one.name == bench).expect("there is one");
        let samples = || [value].into_iter().collect();
        bench.metrics.iter().map(|metric| row(metric.name, samples(), Some(samples()))).collect()
    }

    #[test]
    fn a_bench_that_was_measured_is_replaced_and_the_others_stay() {
        let both: Vec<_> = rows("append", 111.0).into_iter().chain(rows("hot", 222.0)).collect();
        let first = merged("", &both, "first.");
        assert!(first.contains("Not published yet."), "{first}");
        let second = merged(&first, &rows("hot", 333.0), "second.");
        assert!(second.contains("first.") && second.contains("second."), "{second}");
        assert!(second.contains(" 111 ") && second.contains(" 333 ") && !second.contains(" 222 "), "{second}");
        assert_eq!(merged(&second, &[], ""), second, "nothing measured, nothing changed");
    }

    #[test]
    fn half_a_bench_is_not_published() {
        let mut half = rows("hot", 444.0);
        half.pop();
        assert!(!merged("", &half, "now.").contains("444"));
    }

    #[test]
    fn what_is_published_is_up_to_date_with_what_is_measured() {
        let text = std::fs::read_to_string(path()).expect("BENCHMARKS.md is there");
        assert_eq!(merged(&text, &[], ""), text, "run `cargo xtask bench --publish`");
    }
}
