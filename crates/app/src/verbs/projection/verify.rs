//! `daybook projection verify`

use std::ops::ControlFlow;

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_views::{Extent, Finding, Told, Views};

use super::name;
use crate::terminal;

/// Compares a view with the log. Each finding is a line as soon as it is met, and the last line is what was compared; it
/// fails when there are any.
pub(super) async fn verify(views: &Views, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let name = name(arguments)?;
    let extent = if arguments.get_flag("full") { Extent::Full } else { Extent::Sample };
    let mib = *arguments.get_one::<u64>("memory-mib").context("how much memory?")?;
    let bytes_max = usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let mut printed = Ok(());
    let mut print = |told: Told| {
        if let (Told::Found(finding), Ok(())) = (told, &printed) {
            printed = show(&finding, as_json);
        }
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let verified = views.verify(name, extent, bytes_max, &mut print).await;
    printed?;
    let report = verified?;
    if as_json {
        terminal::line(serde_json::to_string(&report)?)?;
    } else {
        terminal::line(format_args!(
            "{name} version {}, generation {}, up to position {}: {} documents in {} of 1024 slices compared with {} \
             folded from the log, {} of them parked",
            report.version,
            report.generation,
            report.position,
            report.documents,
            report.slices,
            report.folded,
            report.parked,
        ))?;
    }
    if report.findings > 0 {
        bail!("`{name}` is not what the log says: {} findings", report.findings);
    }
    Ok(())
}

fn show(finding: &Finding, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return terminal::line(serde_json::to_string(finding)?);
    }
    match finding {
        Finding::Checkpoint { slice_from, slice_to, reason } => {
            terminal::line(format_args!("checkpoint  slices {slice_from} to {}: {reason}", slice_to - 1))
        }
        Finding::Missing { key } => terminal::line(format_args!("missing     {key}")),
        Finding::Unexpected { key } => terminal::line(format_args!("unexpected  {key}")),
        Finding::Differs { key, fields } => {
            terminal::line(format_args!("differs     {key}"))?;
            fields.iter().try_for_each(|field| {
                let (name, before, after) = (&field.field, &field.before, &field.after);
                terminal::line(format_args!("              {name}: {before} is stored, {after} has to be"))
            })
        }
    }
}
