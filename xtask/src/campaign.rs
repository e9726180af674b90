//! `cargo xtask campaign …`: faults, and the proof that the log, the views and the relay keep their word under them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use crate::build;
use crate::child;
use crate::disk::Disk;
use crate::kafka::{Broker, Detour};
use crate::postgres::Cluster;
use crate::steps::Steps;

/// How often it is looked whether the broker has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What a campaign is to do.
#[derive(Debug, Clone)]
pub(crate) struct Campaign {
    /// What it is about: `log`, `views` or `kafka`.
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
        if self.about != "kafka" {
            return self.on_stores(steps, &binary, &[]).await;
        }
        let mut broker = steps.take("Kafka", Broker::start()).await?;
        let folder = tempfile::tempdir()?;
        let process = folder.path().join("broker");
        let mut arguments = vec!["--brokers".into(), broker.address().into()];
        match broker.detour() {
            Some(Detour { proxy, broker: proxied }) => {
                arguments.extend([format!("--proxy={proxy}"), format!("--proxied={proxied}")]);
                arguments.extend(["--broker-process".into(), process.display().to_string()]);
            }
            None => println!("No connection is going to be cut and no broker stopped: it is in a container."),
        }
        keep_note(&mut broker, &process)?;
        tokio::select! {
            outcome = self.on_stores(steps, &binary, &arguments) => outcome,
            ended = keep(&mut broker, &process) => ended,
        }
    }

    async fn on_stores(&self, steps: &mut Steps, binary: &Path, arguments: &[String]) -> anyhow::Result<()> {
        let mut broken = Vec::new();
        if self.store != "sqlite" {
            let cluster = steps.take("PostgreSQL", Cluster::start(&[])).await?;
            let mut arguments = arguments.to_vec();
            arguments.extend(["--database-url".into(), cluster.url()]);
            if self.about == "log" {
                arguments.push("--crash".into());
            }
            broken.extend(steps.take("on PostgreSQL", self.on("postgres", binary, &arguments)).await.err());
        }
        if self.store != "postgres" {
            let disk = if self.about == "log" { Disk::make()? } else { None };
            if self.about == "log" && disk.is_none() {
                println!("No disk is going to be full: only root can make one for that.");
            }
            let mut arguments = arguments.to_vec();
            arguments.extend(disk.iter().flat_map(|disk| ["--disk".into(), disk.path().display().to_string()]));
            broken.extend(steps.take("on SQLite", self.on("sqlite", binary, &arguments)).await.err());
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

/// Starts the broker again whenever it has ended: it is the campaign that ends it.
async fn keep(broker: &mut Broker, note: &Path) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if broker.server().check().is_err() {
            broker.server().start().await?;
        }
        keep_note(broker, note)?;
    }
}

/// Notes down which process the broker is.
fn keep_note(broker: &mut Broker, note: &Path) -> anyhow::Result<()> {
    if let Some(id) = broker.server().process_id() {
        // Whole or not at all, for whoever reads it.
        let new = note.with_extension("new");
        fs::write(&new, id.to_string())?;
        fs::rename(&new, note)?;
    }
    Ok(())
}
