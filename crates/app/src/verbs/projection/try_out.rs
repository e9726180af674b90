//! `daybook projection try`

use anyhow::Context;
use clap::ArgMatches;
use daybook_core::Position;
use daybook_views::{Effect, Step, Touched, Views, Window};

use super::name;
use crate::terminal;

/// Steps through the log with a projection, and prints what each event does. Nothing is written, and personal values stay
/// sealed.
pub(super) async fn try_out(views: &Views, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let number = |name| arguments.get_one::<u64>(name).copied().with_context(|| format!("`--{name}`"));
    let window = Window {
        key: arguments.get_one::<String>("key").cloned(),
        from: Position::new(number("from")?),
        limit: usize::try_from(number("limit")?).context("`--limit`")?,
    };
    let steps = views.steps(name(arguments)?, &window).await?;
    if steps.is_empty() {
        terminal::nothing("events that touch a document");
    }
    steps.iter().try_for_each(|step| show(step, as_json))
}

fn show(step: &Step, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return terminal::line(serde_json::to_string(step)?);
    }
    let Step { position, stream, revision, event_type, documents } = step;
    terminal::line(format_args!("{position:>8}  {event_type:28} {stream}@{revision}"))?;
    for Touched { key, effect } in documents {
        match effect {
            Effect::Fails { error } => terminal::line(format_args!("          {key}: fails: {error}"))?,
            Effect::Parked => terminal::line(format_args!("          {key}: parked behind what failed"))?,
            Effect::PassedOver => terminal::line(format_args!("          {key}: passed over"))?,
            Effect::Changes { fields } if fields.is_empty() => {
                terminal::line(format_args!("          {key}: unchanged"))?;
            }
            Effect::Changes { fields } => {
                terminal::line(format_args!("          {key}"))?;
                for field in fields {
                    let name = if field.field.is_empty() { "(document)" } else { &field.field };
                    terminal::line(format_args!("            {name}: {} -> {}", field.before, field.after))?;
                }
            }
        }
    }
    Ok(())
}
