//! A view that is there, built anew.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{ArgMatches, Command};
use daybook_views::{AtLeast, GenerationStatus, Phase, Projectors, Settings, Views};
use serde_json::{Value, json};

use super::{FILLED, World, operator, store};
use crate::{arguments, process};

/// How long the view may take to be there for the first time, and to be built anew.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn command() -> Command {
    let memory = arguments::with_default("memory-mib", "1024", "How much memory its documents may take");
    Command::new("rebuild")
        .about("Builds a view of a filled log anew, beside the one that is served")
        .args(store())
        .arg(memory)
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let world = World::open(arguments).await?;
    let memory: usize = arguments::parse(arguments, "memory-mib")?;
    let projectors =
        Projectors::start(&world.views, Settings { rebuild_bytes_max: memory << 20, ..Settings::default() });
    let served = AtLeast { position: world.head, deadline: tokio::time::Instant::now() + LIMIT };
    world.views.get(FILLED, "", Some(served)).await?;
    let before = process::memory_mib(None, "VmRSS");
    let rebuilt = Rebuilt::of(&world.views, FILLED, LIMIT).await?;
    projectors.stop().await;
    let mut measured = rebuilt.to_json(world.head.get());
    let fields = measured.as_object_mut().context("an object")?;
    fields.insert("before_mib".into(), json!(before));
    fields.insert("peak_mib".into(), json!(process::memory_mib(None, "VmHWM")));
    world.close().await;
    Ok(measured)
}

/// How long it took until a view was built, and until it was served.
pub(crate) struct Rebuilt {
    replayed: Duration,
    built: Duration,
    served: Duration,
}

impl Rebuilt {
    /// Has a view built anew.
    pub(crate) async fn of(views: &Views, view: &str, limit: Duration) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let number = views.rebuild(view, false, &operator()).await?;
        let (mut replayed, mut built) = (None, None);
        loop {
            ensure!(begun.elapsed() < limit, "it is not built after {limit:?}");
            let generations = views.generations(view).await?;
            let one: &GenerationStatus =
                generations.iter().find(|one| one.number == number).context("it was begun")?;
            let is_past = |phases: &[Phase]| !phases.contains(&one.phase);
            if replayed.is_none() && is_past(&[Phase::Replay]) {
                replayed = Some(begun.elapsed());
            }
            if built.is_none() && is_past(&[Phase::Replay, Phase::CatchUp]) {
                built = Some(begun.elapsed());
            }
            if let (Phase::Live, Some(replayed), Some(built)) = (one.phase, replayed, built) {
                let differing = one.report.as_ref().and_then(|report| report["differing"].as_u64());
                ensure!(differing == Some(0), "it differs from the one before: {:?}", one.report);
                return Ok(Self { replayed, built, served: begun.elapsed() });
            }
            ensure!(one.phase.is_built(), "it was given up: {:?}", one.phase);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What is printed of it. It is built when its key and its indexes are made, and it has caught up.
    pub(crate) fn to_json(&self, events: u64) -> Value {
        json!({
            "per_second": events as f64 / self.built.as_secs_f64(),
            "replayed_s": self.replayed.as_secs_f64(),
            "built_s": self.built.as_secs_f64(),
            "served_s": self.served.as_secs_f64(),
        })
    }
}
