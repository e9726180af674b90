//! `daybook backup`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use clap::ArgMatches;
use daybook_core::Domain;
use daybook_database::{Lines, Snapshot};
use daybook_log::{Head, Log};
use daybook_views::backup::{self as views, Tables};
use futures_util::TryStreamExt;
use serde_json::json;

use crate::backup::{Entry, Folder, KeysBackup, LogBackup, Manifest, Segment, ViewBackup, key_tables};
use crate::config::Config;
use crate::engine::Databases;
use crate::progress::Progress;
use crate::terminal;

/// How many events are read at a time.
const PAGE: usize = 2_000;

/// Backs up while everything else goes on.
pub(crate) async fn backup(
    domain: Domain,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let path: &PathBuf = arguments.get_one("folder").context("into which folder?")?;
    let keys_path = arguments.get_one::<PathBuf>("keys");
    let folder = Folder::create(path)?;
    let keys_folder = keys_path.map(|path| keys_folder(path, &folder)).transpose()?;
    let databases = Databases::open(config).await?;
    let begun = Instant::now();
    let log = back_up_log(&domain, config, &databases, &folder).await;
    let (manifest, new) = match log {
        Ok(done) => done,
        Err(error) => {
            databases.close().await;
            return Err(error);
        }
    };
    // Behind the log: whatever is in it can be opened with them.
    let keys = match &keys_folder {
        Some(folder) => back_up_keys(&databases, folder, &manifest.holds.log).await.map(Some),
        None => Ok(None),
    };
    databases.close().await;
    let keys = keys?;

    let (head, seconds) = (manifest.holds.log, begun.elapsed().as_secs_f64());
    if as_json {
        return terminal::json(&json!({
            "folder": path, "log": head, "new_events": new, "run": manifest.run, "seconds": seconds,
            "keys": keys.map(|rows| json!({"folder": keys_path, "rows": rows})),
        }));
    }
    terminal::line(format_args!(
        "the log up to position {} is in {} ({new} new events), with {} views, after {seconds:.1} s",
        head.position,
        path.display(),
        manifest.holds.views.len()
    ))?;
    match (keys, keys_path) {
        (Some(rows), Some(path)) => terminal::line(format_args!(
            "{rows} keys and credentials are in {}, wrapped: keep the master key as well, somewhere else",
            path.display()
        )),
        _ => {
            terminal::line("keys and credentials are not in it: `--keys FOLDER` backs them up, apart from the log")
        }
    }
}

/// Forgetting somebody deletes their key. A backup of both in one place would bring both back.
fn keys_folder(path: &Path, log: &Folder) -> anyhow::Result<Folder> {
    let absolute = std::path::absolute(path)?;
    let log = std::path::absolute(log.path())?;
    ensure!(
        !absolute.starts_with(&log) && !log.starts_with(&absolute),
        "keys are kept apart from the log that they open: name a folder that is not in {}, nor around it",
        log.display()
    );
    Folder::create(path)
}

/// Views first, so that none is ahead of the log. Answers how many events are new, too.
async fn back_up_log(
    domain: &Domain,
    config: &Config,
    databases: &Databases,
    folder: &Folder,
) -> anyhow::Result<(Manifest<LogBackup>, u64)> {
    let before: Option<Manifest<LogBackup>> = folder.manifest()?;
    let begun_at = Utc::now();
    let run = before.as_ref().map_or(0, |before| before.run) + 1;
    let views = back_up_views(domain, databases, folder, run).await?;
    let mut snapshot = databases.log.snapshot().await?;
    let head = daybook_log::backup::head(&mut snapshot).await?;
    let mut tables = BTreeMap::new();
    for (name, lines) in daybook_log::backup::TABLES {
        tables.insert(name.to_owned(), write_rows(&mut snapshot, folder, &format!("{name}-{run}"), &lines).await?);
    }
    let relays = daybook_kafka::backup::reached(&mut snapshot).await?;
    // Events need none: they do not change.
    snapshot.close().await?;

    let log = Log::open(databases.log.clone(), config.appends.clone()).await?;
    let events = back_up_events(&log, folder, before.as_ref(), &head).await;
    log.close().await;
    let (events, new) = events?;
    let holds = LogBackup { log: head, events, tables, views, relays };
    let manifest = Manifest::next(before.map(|before| before.run), begun_at, holds);
    let LogBackup { events, tables, views, .. } = &manifest.holds;
    let kept = events.iter().map(|segment| &segment.file).chain(tables.values());
    let kept = kept.chain(views.iter().filter_map(|view| view.documents.as_ref()));
    folder.finish(&manifest, &kept.collect::<Vec<_>>())?;
    Ok((manifest, new))
}

async fn back_up_views(
    domain: &Domain,
    databases: &Databases,
    folder: &Folder,
    run: u32,
) -> anyhow::Result<Vec<ViewBackup>> {
    let tables = Tables::of(domain.projections.values().map(|projection| projection.spec()))?;
    let mut snapshot = databases.views.snapshot().await?;
    let mut kept = Vec::new();
    for reached in views::reached(&mut snapshot).await? {
        let documents = match tables.documents(&reached) {
            Some(lines) => {
                let name = format!("view-{}-v{}-{run}", reached.projection, reached.version);
                Some(write_rows(&mut snapshot, folder, &name, &lines).await?)
            }
            None => None,
        };
        kept.push(ViewBackup { reached, documents });
    }
    snapshot.close().await?;
    Ok(kept)
}

/// Goes on behind what the folder holds. Answers how many events are new, too.
async fn back_up_events(
    log: &Log,
    folder: &Folder,
    before: Option<&Manifest<LogBackup>>,
    head: &Head,
) -> anyhow::Result<(Vec<Segment>, u64)> {
    let mut segments = Vec::new();
    let mut reached = log.checkpoint(head, None);
    if let Some(LogBackup { log: end, events, .. }) = before.map(|before| &before.holds) {
        let is_other = || {
            format!("{} is a backup of another history of the log: name another folder", folder.path().display())
        };
        log.check(&end.checkpoint()).await.with_context(is_other)?;
        segments.clone_from(events);
        reached = end.checkpoint();
    }
    let mut after = reached.position;
    let new = head.position.get().saturating_sub(after.get());
    if new == 0 {
        return Ok((segments, 0));
    }
    let first = after.plus(1);
    let mut file = folder.file(&format!("events-{:020}", first.get()))?;
    let progress = Progress::new("backing up", "events", new);
    let mut last = None;
    let mut scan = log.scan(&reached, PAGE);
    while after < head.position {
        let Some(events) = scan.next().await? else {
            bail!("the log ends at {after}, and a moment ago it ended at {}", head.position);
        };
        let left = usize::try_from(head.position.get() - after.get()).unwrap_or(usize::MAX);
        progress.advance(events.len().min(left) as u64);
        for event in events.into_iter().take(left) {
            after = event.position;
            file.line(&serde_json::to_string(&event)?)?;
            last = Some(event.id);
        }
    }
    progress.finish();
    ensure!(last == Some(head.event_id), "the log was rolled back while it was read: nothing is backed up");
    segments.push(Segment { first, file: file.finish()? });
    Ok((segments, new))
}

/// Answers how many rows there are.
async fn back_up_keys(databases: &Databases, folder: &Folder, head: &Head) -> anyhow::Result<u64> {
    let before: Option<Manifest<KeysBackup>> = folder.manifest()?;
    if let Some(before) = &before
        && before.holds.log_id != head.log_id
    {
        bail!("{} is a backup of another log's keys: name another folder", folder.path().display());
    }
    let begun_at = Utc::now();
    let before = before.map(|before| before.run);
    let run = before.unwrap_or_default() + 1;
    let mut snapshot = databases.keys.snapshot().await?;
    let mut tables = BTreeMap::new();
    for (name, lines) in key_tables() {
        tables.insert(name.to_owned(), write_rows(&mut snapshot, folder, &format!("{name}-{run}"), &lines).await?);
    }
    snapshot.close().await?;
    let rows = tables.values().map(|file| file.lines).sum();
    let manifest = Manifest::next(before, begun_at, KeysBackup { log_id: head.log_id, tables });
    folder.finish(&manifest, &manifest.holds.tables.values().collect::<Vec<_>>())?;
    Ok(rows)
}

async fn write_rows(snapshot: &mut Snapshot, folder: &Folder, name: &str, lines: &Lines) -> anyhow::Result<Entry> {
    let mut file = folder.file(name)?;
    let mut rows = snapshot.write(lines);
    while let Some(row) = rows.try_next().await? {
        file.line(&row)?;
    }
    file.finish()
}
