//! `daybook events …`

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_core::{Position, RecordedEvent};
use daybook_log::Log;

use crate::config::Config;
use crate::engine::Databases;
use crate::terminal;

/// How many events are read at a time.
const PAGE: usize = 500;

/// Prints events as they are stored, personal fields sealed: whoever may open them does so where it is recorded.
pub(crate) async fn events(config: &Config, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let databases = Databases::open(config).await?;
    let log = Log::open(databases.log.clone(), config.appends.clone()).await?;
    let outcome = match arguments.subcommand() {
        Some(("tail", arguments)) => tail(&log, arguments, as_json).await,
        Some(("show", arguments)) => show(&log, arguments, as_json).await,
        _ => bail!("say what to do with the events: tail, show or schema"),
    };
    log.close().await;
    databases.close().await;
    outcome
}

async fn tail(log: &Log, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let lines: u64 = arguments.get_one::<String>("lines").context("how many?")?.parse().context("`--lines`")?;
    let mut signal = log.watch();
    let head = log.head().await?;
    let before = log.event(Position::new(head.position.get().saturating_sub(lines))).await?;
    let mut reached = log.checkpoint(&head, before.as_ref());
    loop {
        let mut scan = log.scan(&reached, PAGE);
        while let Some(events) = scan.next().await? {
            for event in &events {
                print(event, as_json)?;
                reached = log.checkpoint(&head, Some(event));
            }
        }
        if !arguments.get_flag("follow") {
            if reached.position == Position::START {
                terminal::nothing("events");
            }
            return Ok(());
        }
        tokio::select! {
            changed = signal.changed() => changed?,
            // It ends by itself where it is not the log that it was.
            () = log.ended() => {
                log.check(&reached).await?;
                bail!("the log was rolled back behind what was printed, or cannot be followed any more");
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn show(log: &Log, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let position: Position =
        arguments.get_one::<String>("position").context("which?")?.parse().context("a position is a number")?;
    let event = log.event(position).await?.with_context(|| format!("there is no event at position {position}"))?;
    if as_json {
        // To the byte: whoever hashes it gets what proofs are made of.
        return terminal::line(serde_json::to_string(&event)?);
    }
    terminal::json(&event)
}

fn print(event: &RecordedEvent, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return terminal::line(serde_json::to_string(event)?);
    }
    let actor = event.metadata()?.actor.unwrap_or_else(|| "anonymous".into());
    terminal::line(format_args!(
        "{:>8}  {}  {:28} {}@{}  by {actor}",
        event.position,
        event.recorded_at.format("%Y-%m-%d %H:%M:%S%.3f"),
        event.event_type,
        event.stream,
        event.revision,
    ))
}
