//! A view that follows its log, page by page.

use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use daybook_views::{AtLeast, Projectors, Settings};
use serde_json::{Value, json};

use super::{FILLED, World, store};
use crate::process;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn command() -> Command {
    Command::new("project").about("Projects a filled log into a view that is not there yet").args(store())
}

pub(crate) async fn measure(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let world = World::open(arguments).await?;
    let begun = Instant::now();
    let projectors = Projectors::start(&world.views, Settings::default());
    let followed = AtLeast { position: world.head, deadline: tokio::time::Instant::now() + LIMIT };
    world.views.get(FILLED, "", Some(followed)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    projectors.stop().await;
    let peak = process::memory_mib(None, "VmHWM");
    let head = world.head.get();
    world.close().await;
    Ok(json!({"per_second": head as f64 / seconds, "peak_mib": peak}))
}
