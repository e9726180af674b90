//! `cargo xtask campaign …`: faults, and the proof that the log and the views keep their word under them.

use std::fs;
use std::path::Path;

use anyhow::bail;

use crate::build;
use crate::child;
use crate::disk::Disk;
use crate::postgres::Cluster;
use crate::steps::Steps;

/// What a campaign is to do.
#[derive(Debug, Clone)]
pub(crate) struct Campaign {
    /// What it is about: `log` or `views`.
    pub(crate) about: &'static str,
    /// What all dice start from. The same seed makes the same faults; what they hit depends on the machine, too.
    pub(crate) seed: u64,
    /// How many faults there are to be on each store.
    pub(crate) faults: u64,
    /// When to stop, however many there were, in seconds. Without it, too few of them are a failure.
    pub(crate) seconds: Option<u64>,
    /// On which stores: `postgres`, `sqlite`, or `both`.
    pub(crate) store: String,
}

impl Campaign {
    /// Runs it on each store.
    ///
    /// # Errors
    ///
    /// When somebody's word is broken on one of them, too little happened, or the campaign cannot be run.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        println!("seed {}", self.seed);
        let mut steps = Steps::default();
        let outcome = self.take(&mut steps).await;
        steps.print_summary();
        outcome
    }

    async fn take(&self, steps: &mut Steps) -> anyhow::Result<()> {
        let [binary] = steps.take("the campaign's program", build::binaries(["daybook-campaign"], "dev")).await?;
        let mut broken = Vec::new();
        if self.store != "sqlite" {
            let cluster = steps.take("PostgreSQL", Cluster::start(&[])).await?;
            let mut arguments = vec!["--database-url".into(), cluster.url()];
            if self.about == "log" {
                arguments.push("--crash".into());
            }
            broken.extend(steps.take("on PostgreSQL", self.on("postgres", &binary, &arguments)).await.err());
        }
        if self.store != "postgres" {
            let disk = if self.about == "log" { Disk::make()? } else { None };
            if self.about == "log" && disk.is_none() {
                println!("No disk is going to be full: only root can make one for that.");
            }
            let arguments = disk.iter().flat_map(|disk| ["--disk".into(), disk.path().display().to_string()]);
            let arguments: Vec<_> = arguments.collect();
            broken.extend(steps.take("on SQLite", self.on("sqlite", &binary, &arguments)).await.err());
        }
        match broken.into_iter().next() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    async fn on(&self, store: &str, binary: &Path, arguments: &[String]) -> anyhow::Result<()> {
        let journals = binary.with_file_name(format!("campaign-{}-{store}-{}", self.about, self.seed));
        if journals.exists() {
            fs::remove_dir_all(&journals)?;
        }
        fs::create_dir_all(&journals)?;
        let mut command = tokio::process::Command::new(binary);
        command.args([self.about, "--store", store, "--journals"]).arg(&journals);
        let numbers = [("--seed", Some(self.seed)), ("--faults", Some(self.faults)), ("--seconds", self.seconds)];
        for (name, number) in numbers {
            command.args(number.map(|number| format!("{name}={number}")));
        }
        if let Err(error) = child::run(command.args(arguments)).await {
            bail!("{error:#}\nWhat everybody noted down is in {}.", journals.display());
        }
        Ok(fs::remove_dir_all(&journals)?)
    }
}
