//! `daybook projection verify`

use std::ops::ControlFlow;

use anyhow::{Context, bail};
use clap::ArgMatches;
use daybook_core::Position;
use daybook_views::{Extent, Finding, SLICES, Told, Views};

use super::name;
use crate::progress::Progress;
use crate::terminal;

/// Compares a view with the log. Each finding is a line as soon as it is met, and the last line is what was compared; it
/// fails when there are any. How far it is stands on standard error.
pub(super) async fn verify(views: &Views, arguments: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    let name = name(arguments)?;
    let extent = if arguments.get_flag("full") { Extent::Full } else { Extent::Sample };
    let mib = *arguments.get_one::<u64>("memory-mib").context("how much memory?")?;
    let bytes_max = usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let (mut printed, mut passes) = (Ok(()), Passes::begin());
    let mut print = |told: Told| {
        match told {
            Told::Found(finding) if printed.is_ok() => {
                printed = passes.progress.beside(|| show(&finding, as_json));
            }
            Told::Found(_) => {}
            Told::Folded { position, through, slices } => passes.reach(position, through, slices),
        }
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let verified = views.verify(name, extent, bytes_max, &mut print).await;
    passes.progress.finish();
    printed?;
    let report = verified?;
    if as_json {
        terminal::line(serde_json::to_string(&report)?)?;
    } else {
        terminal::line(format_args!(
            "{name} version {}, generation {}, up to position {}: {} documents in {} of {SLICES} slices compared with {} \
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

/// How far the log is folded, each time that it is.
struct Passes {
    progress: Progress,
    /// How many slices were compared in the passes before.
    slices: u16,
}

impl Passes {
    fn begin() -> Self {
        Self { progress: progress(), slices: 0 }
    }

    fn reach(&mut self, position: Position, through: Position, slices: u16) {
        if position == Position::START {
            self.progress.finish();
            self.progress = progress();
        }
        if slices > self.slices {
            self.progress.say(&format!("{slices} of {SLICES} slices are compared"));
        }
        self.slices = slices;
        self.progress.reach(position.get(), through.get());
    }
}

fn progress() -> Progress {
    Progress::new("verifying", "events", 0)
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
