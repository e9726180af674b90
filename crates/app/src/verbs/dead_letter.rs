//! `daybook dead-letter …`

use std::time::Duration;

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_core::{Domain, Position};
use daybook_views::{AtLeast, DeadLetter, RETRY, SKIP, ViewError, Views};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::projection::metadata;
use crate::config::Config;
use crate::engine::LogAndViews;
use crate::terminal;

/// How long to wait until an act is carried out.
const LIMIT: Duration = Duration::from_secs(30);

/// Shows dead letters, and has them tried again or passed over.
pub(crate) async fn dead_letter(
    domain: Domain,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let opened = LogAndViews::open(domain, config).await?;
    let outcome = match arguments.subcommand() {
        Some(("list", arguments)) => list(&opened.views, arguments, as_json).await,
        Some(("show", arguments)) => show(&opened, arguments, as_json).await,
        Some(("retry", arguments)) => retry(&opened.views, arguments, as_json).await,
        Some(("skip", arguments)) => skip(&opened.views, arguments, as_json).await,
        _ => bail!("say what to do with the dead letters: list, show, retry or skip"),
    };
    opened.close().await;
    outcome
}

/// The projection and the document's key.
fn of(arguments: &ArgMatches) -> anyhow::Result<(&str, &str)> {
    let text = |name| arguments.get_one::<String>(name).map(String::as_str);
    Ok((text("projection").context("of which projection?")?, text("key").context("of which document?")?))
}

/// A dead letter of a projection.
#[derive(Serialize)]
struct Listed<'a> {
    projection: &'a str,
    #[serde(flatten)]
    letter: DeadLetter,
}

/// Page after page, since nobody knows how many there are: the list in JSON, too, is printed as it is read.
async fn list(views: &Views, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let names = match arguments.get_one::<String>("projection") {
        Some(name) => vec![name.clone()],
        None => views.status().await?.into_iter().map(|one| one.name.to_owned()).collect(),
    };
    let mut before = "[";
    for projection in &names {
        let mut after = None;
        loop {
            let letters = views.dead_letters(projection, None, after).await?;
            let Some(last) = letters.last() else { break };
            after = Some((last.key.clone(), last.position));
            for letter in letters {
                if as_json {
                    let one = serde_json::to_string(&Listed { projection, letter })?;
                    terminal::line(format_args!("{before}{one}"))?;
                } else {
                    terminal::line(format_args!("{projection}  {}", line(&letter)))?;
                }
                before = ",";
            }
        }
    }
    match (as_json, before) {
        (true, "[") => terminal::line("[]"),
        (true, _) => terminal::line("]"),
        (false, "[") => {
            terminal::nothing("dead letters");
            Ok(())
        }
        (false, _) => Ok(()),
    }
}

/// All dead letters of a document.
async fn all(views: &Views, projection: &str, key: &str) -> anyhow::Result<Vec<DeadLetter>> {
    let mut all: Vec<DeadLetter> = Vec::new();
    loop {
        let after = all.last().map(|last| (last.key.clone(), last.position));
        let further = views.dead_letters(projection, Some(key), after).await?;
        if further.is_empty() {
            return Ok(all);
        }
        all.extend(further);
    }
}

fn line(DeadLetter { key, position, event_type, error, created_at, .. }: &DeadLetter) -> String {
    let since = created_at.format("%Y-%m-%d %H:%M:%S");
    let why = error.as_deref().unwrap_or("stands behind the one before");
    format!("{key}  {event_type} at {position}  since {since}  {why}")
}

/// The event is printed as it is stored, personal fields sealed.
async fn show(opened: &LogAndViews, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let (projection, key) = of(arguments)?;
    let letters = all(&opened.views, projection, key).await?;
    let first = letters.first().with_context(|| format!("`{key}` has no dead letters in `{projection}`"))?;
    let event = opened.log.event(first.position).await?;
    if as_json {
        return terminal::json(&json!({"data": letters, "event": event}));
    }
    letters.iter().try_for_each(|letter| terminal::line(line(letter)))?;
    terminal::json(&event)
}

async fn retry(views: &Views, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let (projection, key) = of(arguments)?;
    let position = views.retry(projection, key, &metadata(RETRY)).await?;
    outcome(views, projection, key, position, as_json).await
}

async fn skip(views: &Views, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let (projection, key) = of(arguments)?;
    let skipped: Position =
        arguments.get_one::<String>("position").context("which?")?.parse().context("a position is a number")?;
    let position = views.skip(projection, key, skipped, &metadata(SKIP)).await?;
    outcome(views, projection, key, position, as_json).await
}

/// Waits until the view has come to an act, and says what became of the document's dead letters.
async fn outcome(
    views: &Views,
    projection: &str,
    key: &str,
    position: Position,
    as_json: bool,
) -> anyhow::Result<()> {
    let at_least = AtLeast { position, deadline: Instant::now() + LIMIT };
    match views.get(projection, key, Some(at_least)).await {
        Err(ViewError::NotYet { reached }) => bail!(
            "it is in the log at position {position}, and is done when the view comes there: it is at {reached} \
             (`daybook projection status {projection}` says who projects)"
        ),
        answered => answered?,
    };
    let left = all(views, projection, key).await?;
    if as_json {
        let what = json!({"projection": projection, "key": key, "position": position, "left": left});
        terminal::json(&what)?;
    }
    match left.first() {
        None if as_json => Ok(()),
        None => terminal::line(format_args!("`{key}` has no dead letters any more")),
        Some(first) => bail!("`{key}` still has dead letters: {}", line(first)),
    }
}
