//! `daybook projection …`

mod try_out;
mod verify;

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::Utc;
use clap::ArgMatches;
use daybook_core::{Domain, Metadata};
use daybook_dispatch::Request;
use daybook_views::{Act, Building, GenerationStatus, Phase, Projectors, REBUILD, Status, ViewError, Views};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::status::line;
use crate::config::Config;
use crate::engine::LogAndViews;
use crate::progress::Progress;
use crate::serve::projectors_settings;
use crate::terminal;

/// How often to look how far a rebuild is.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Shows projections, has views rebuilt, and compares them with the log.
pub(crate) async fn projection(
    domain: Domain,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let opened = LogAndViews::open(domain, config).await?;
    let outcome = match arguments.subcommand() {
        Some(("list", _)) => list(&opened.views, as_json).await,
        Some(("status", arguments)) => status(&opened, arguments, as_json).await,
        Some(("rebuild", arguments)) => rebuild(&opened, config, arguments, as_json).await,
        Some(("verify", arguments)) => verify::verify(&opened.views, arguments, as_json).await,
        Some(("try", arguments)) => try_out::try_out(&opened.views, arguments, as_json).await,
        Some((verb, arguments)) => match Act::ALL.into_iter().find(|act| act.name() == verb) {
            Some(act) => carry_out(&opened.views, act, name(arguments)?, as_json).await,
            None => bail!("`{verb}` cannot be done to a projection"),
        },
        None => bail!("say what to do: `daybook projection --help`"),
    };
    opened.close().await;
    outcome
}

/// What stands in the log of who did something with the command line.
pub(super) fn metadata(command: &str) -> Metadata {
    Request::system("cli").metadata(command, Uuid::now_v7(), Utc::now())
}

fn name(arguments: &ArgMatches) -> anyhow::Result<&str> {
    arguments.get_one::<String>("projection").map(String::as_str).context("which projection?")
}

async fn list(views: &Views, as_json: bool) -> anyhow::Result<()> {
    let projections = views.status().await?;
    if as_json {
        return terminal::json(&projections);
    }
    if projections.is_empty() {
        terminal::nothing("projections");
    }
    projections.iter().try_for_each(|one| terminal::line(line(one)))
}

/// A projection with its generations.
#[derive(Serialize)]
struct Overview {
    #[serde(flatten)]
    status: Status,
    generations: Vec<GenerationStatus>,
}

async fn status(opened: &LogAndViews, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let (views, name) = (&opened.views, name(arguments)?);
    if arguments.get_flag("watch") {
        let generations = views.generations(name).await?;
        if let Some(built) = generations.iter().rfind(|one| one.phase.is_built()) {
            wait(opened, name, built.number, false).await?;
        }
    }
    let generations = views.generations(name).await?;
    let status = views.status().await?.into_iter().find(|one| one.name == name).context("it is gone")?;
    if as_json {
        return terminal::json(&Overview { status, generations });
    }
    terminal::line(line(&status))?;
    for one in &generations {
        let paused = if one.paused { ", paused" } else { "" };
        terminal::line(format_args!(
            "  generation {}: {}{paused}, since {}; begun by {} at {}",
            one.number,
            one.phase,
            one.phase_at.format("%Y-%m-%d %H:%M:%S"),
            one.started_by,
            one.started_at.format("%Y-%m-%d %H:%M:%S"),
        ))?;
        if let (true, Some(rate), Some(eta)) = (one.phase.is_built(), one.events_per_second, one.eta_seconds) {
            let (position, target) = (one.position, one.target);
            terminal::line(format_args!(
                "    {position} of {target} events, {rate:.0} a second, {eta:.0} s to go"
            ))?;
        }
        if one.dead_letters > 0 {
            terminal::line(format_args!("    {} dead letters", one.dead_letters))?;
        }
        one.report.iter().try_for_each(print_report)?;
    }
    Ok(())
}

async fn carry_out(views: &Views, act: Act, name: &str, as_json: bool) -> anyhow::Result<()> {
    let generation = act.carry_out(views, name, &metadata(act.command())).await?;
    if as_json {
        return terminal::json(&json!({"projection": name, "generation": generation}));
    }
    let what = match act {
        Act::Pause => "is paused",
        Act::Resume => "goes on",
        Act::Abort => "is given up",
        Act::Confirm => "is served as soon as it is not behind",
        Act::Rollback => "is served again",
    };
    terminal::line(format_args!("generation {generation} of `{name}` {what}"))
}

async fn rebuild(
    opened: &LogAndViews,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let name = name(arguments)?;
    let begun = opened.views.rebuild(name, arguments.get_flag("confirm-diff"), &metadata(REBUILD)).await;
    let number = match begun {
        Err(ViewError::Refused(reason)) => {
            bail!("{reason}: `daybook projection status {name} --watch` shows how far")
        }
        begun => begun?,
    };
    if arguments.get_flag("no-wait") {
        if as_json {
            return terminal::json(&json!({"projection": name, "generation": number}));
        }
        return terminal::line(format_args!("generation {number} of `{name}` is being built"));
    }
    let projectors =
        arguments.get_flag("here").then(|| Projectors::start(&opened.views, projectors_settings(config)));
    let waited = wait(opened, name, number, projectors.is_some()).await;
    if let Some(projectors) = projectors {
        projectors.stop().await;
    }
    let left = || format!("no longer waiting: generation {number} of `{name}` goes on wherever somebody projects");
    let built = waited.with_context(left)?;
    if as_json {
        terminal::json(&built)?;
    } else {
        built.report.iter().try_for_each(print_report)?;
    }
    match built.phase {
        Phase::Live | Phase::Retired | Phase::Dropped if as_json => Ok(()),
        Phase::Live | Phase::Retired | Phase::Dropped => terminal::line(format_args!(
            "generation {number} of `{name}` is served; `daybook projection rollback {name}` takes that back"
        )),
        Phase::Aborted => bail!("generation {number} of `{name}` was given up by somebody"),
        Phase::Replay | Phase::CatchUp | Phase::Verify | Phase::Held => bail!(
            "generation {number} of `{name}` differs and is held: `daybook projection confirm {name}` serves it, \
             `daybook projection abort {name}` gives it up"
        ),
    }
}

/// Waits until a generation is served, held or given up.
async fn wait(opened: &LogAndViews, name: &str, number: u32, here: bool) -> anyhow::Result<GenerationStatus> {
    let (mut progress, mut told) = (None, None);
    loop {
        let generations = opened.views.generations(name).await?;
        let one = generations.into_iter().find(|one| one.number == number).context("the generation is gone")?;
        let (done, target) = (one.position.get(), one.target.get());
        let progress = progress.get_or_insert_with(|| Progress::within("rebuilding", "events", done, target));
        if !one.phase.is_built() || (one.phase == Phase::Held && one.confirm_diff) {
            progress.finish();
            return Ok(one);
        }
        progress.reach(done, target);
        let hindrance = hindrance(&opened.views, &one, here).await?;
        if let Some(hindrance) = hindrance.as_ref().filter(|_| hindrance != told) {
            progress.say(hindrance);
        }
        told = hindrance;
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            pressed = tokio::signal::ctrl_c() => {
                progress.finish();
                pressed?;
                bail!("asked to end; `daybook projection status {name}` says how far it is, \
                       `daybook projection abort {name}` gives it up");
            }
            () = opened.log.ended() => bail!("the log was rolled back, or cannot be followed any more"),
        }
    }
}

/// Why a generation stands still, when it does; `here` when this process works on it.
async fn hindrance(views: &Views, one: &GenerationStatus, here: bool) -> anyhow::Result<Option<String>> {
    let name = &one.projection;
    if one.paused {
        return Ok(Some(format!("it is paused: `daybook projection resume {name}` lets it go on")));
    }
    let status = views.status().await?.into_iter().find(|status| status.name == name);
    let Some(Status { building: Some(Building { owners, stopped, .. }), owners: of_served, .. }) = status else {
        return Ok(None);
    };
    Ok(match stopped {
        Some(stopped) => {
            Some(format!("the projection is stopped at position {}: {}", stopped.position, stopped.reason))
        }
        // Whoever feeds the one that is served is about to find this one.
        None if owners.is_empty() && of_served.is_empty() && !here => Some(
            "nobody projects: start `daybook serve`, or `daybook serve --roles projector`; it goes on by itself then"
                .to_owned(),
        ),
        None => None,
    })
}

/// What was found out when a generation was compared with the one that was served.
fn print_report(report: &Value) -> anyhow::Result<()> {
    terminal::line(format_args!(
        "    up to position {}: {} documents beside {} that were served; {} differ, {} changed while they were compared",
        report["position"], report["built"], report["served"], report["differing"], report["undecided"],
    ))?;
    let digests = &report["digests"];
    if let (Some(served), Some(built)) = (digests["served"].as_str(), digests["built"].as_str()) {
        terminal::line(format_args!("    digest {built} beside {served}"))?;
    }
    for sample in report["samples"].as_array().into_iter().flatten() {
        terminal::line(format_args!("      {}", sample["key"].as_str().unwrap_or_default()))?;
        for field in sample["fields"].as_array().into_iter().flatten() {
            let path = field["field"].as_str().filter(|path| !path.is_empty()).unwrap_or("the document");
            terminal::line(format_args!("        {path}: {} served, {} built", field["served"], field["built"]))?;
        }
    }
    Ok(())
}
