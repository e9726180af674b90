//! `daybook restore`
//!
//! The log comes last and in one transaction: until then nothing has happened that doing it all again would not do again,
//! and afterwards nothing is left to do.

mod readers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use clap::ArgMatches;
use daybook_core::{Domain, Position, RecordedEvent};
use daybook_database::{Database, Lines};
use daybook_dispatch::Request;
use daybook_kafka::backup::{RELAYS, Reached as Published};
use daybook_keys::Keys;
use daybook_log::backup::{RestoreError, Restoring};
use daybook_log::{Head, NewRecord};
use daybook_views::backup::Tables;
use serde_json::json;
use uuid::Uuid;

use self::readers::{History, Reader};
use crate::backup::{Entry, Folder, KeysBackup, LogBackup, LogRestored, Manifest, RestoreEvent, key_tables};
use crate::config::Config;
use crate::engine::Databases;
use crate::progress::Progress;
use crate::terminal;

/// How many rows are written at a time.
const ROWS: usize = 1_000;

/// A folder and its manifest.
struct Backup<T> {
    folder: Folder,
    manifest: Manifest<T>,
}

impl<T: serde::de::DeserializeOwned> Backup<T> {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let folder = Folder::open(path)?;
        let manifest = folder.manifest()?.with_context(|| format!("there is no backup in {}", path.display()))?;
        Ok(Self { folder, manifest })
    }
}

/// Restores what the folders hold.
pub(crate) async fn restore(
    domain: Domain,
    config: &Config,
    arguments: &ArgMatches,
    as_json: bool,
) -> anyhow::Result<()> {
    let open = |name| arguments.get_one::<PathBuf>(name);
    let log = open("folder").map(|path| Backup::<LogBackup>::open(path)).transpose()?;
    let keys = open("keys").map(|path| Backup::<KeysBackup>::open(path)).transpose()?;
    if let (Some(log), Some(keys)) = (&log, &keys) {
        let (log, keys) = (log.manifest.holds.log.log_id, keys.manifest.holds.log_id);
        ensure!(log == keys, "the keys are those of log {keys}, and this is log {log}");
    }
    if let (Some(log), Some(keys)) = (&log, &keys)
        && keys.manifest.begun_at < log.manifest.begun_at
    {
        tracing::warn!(
            "the keys were backed up before the log: what was sealed under keys made in between cannot be read any more, \
             and whoever opened an account in between cannot sign in"
        );
    }
    if arguments.get_flag("check") {
        return check(log.as_ref(), keys.as_ref(), as_json);
    }
    let databases = Databases::create(config).await?;
    let relay = config.relay.as_ref().filter(|_| !arguments.get_flag("without-kafka"));
    let outcome = restore_into(domain, &databases, relay, log.as_ref(), keys.as_ref(), as_json).await;
    databases.close().await;
    outcome
}

/// Reads everything and writes nothing.
fn check(log: Option<&Backup<LogBackup>>, keys: Option<&Backup<KeysBackup>>, as_json: bool) -> anyhow::Result<()> {
    if let Some(log) = log {
        check_log(log, &[])?;
    }
    if let Some(Backup { folder, manifest }) = keys {
        manifest.holds.tables.values().try_for_each(|entry| read_through(folder, entry))?;
    }
    let position = log.map(|log| log.manifest.holds.log.position);
    match as_json {
        true => terminal::json(&json!({"whole": true, "position": position})),
        false => terminal::line("the backup is whole"),
    }
}

async fn restore_into(
    domain: Domain,
    databases: &Databases,
    relay: Option<&daybook_kafka::Settings>,
    log: Option<&Backup<LogBackup>>,
    keys: Option<&Backup<KeysBackup>>,
    as_json: bool,
) -> anyhow::Result<()> {
    databases.migrate().await?;
    let begun = Instant::now();
    let restoring = match log {
        Some(_) => Some(Restoring::begin(&databases.log).await.map_err(not_empty)?),
        None => None,
    };
    // Asked before anything is written: without an answer, nothing is.
    let published = match log.zip(relay) {
        Some((log, relay)) => readers::published(relay, log.manifest.holds.log.log_id).await?,
        None => None,
    };
    let keys_restored = match keys {
        Some(keys) => Some(restore_keys(&databases.keys, keys).await?),
        None => None,
    };
    let restored = match log.zip(restoring) {
        Some((log, restoring)) => Some(restore_log(&domain, databases, published, log, restoring).await?),
        None => None,
    };
    let without_keys = Keys::is_new(&databases.keys).await?;
    let seconds = begun.elapsed().as_secs_f64();

    if as_json {
        let log = restored.map(|(head, readers)| {
            json!({"log": head, "readers": readers.iter().map(|reader| &reader.said).collect::<Vec<_>>()})
        });
        return terminal::json(&json!({"restored": log, "keys": keys_restored, "seconds": seconds}));
    }
    if let Some(rows) = keys_restored {
        terminal::line(format_args!("{rows} keys and credentials are restored"))?;
    }
    if let Some((head, readers)) = restored {
        terminal::line(format_args!(
            "the log {} is restored after {seconds:.1} s: it goes on in epoch {} behind position {}",
            head.log_id, head.epoch, head.position
        ))?;
        for reader in readers {
            terminal::line(format_args!("  {reader}"))?;
        }
        if without_keys {
            terminal::line(
                "warning: there are no keys: nobody can sign in, and no personal data can be read. Restore them before \
                 anything is started: `daybook restore --keys FOLDER`",
            )?;
        }
    }
    Ok(())
}

fn not_empty(error: RestoreError) -> anyhow::Error {
    match error {
        RestoreError::NotEmpty(position) => anyhow::anyhow!(
            "there is a log already, which ends at position {position}, and what is in a log stays there. Restore into an \
             empty database, or move the log away (the embedded one: `log.db` and the files beside it that begin so)"
        ),
        error => error.into(),
    }
}

/// Answers how many rows there are.
async fn restore_keys(database: &Database, backup: &Backup<KeysBackup>) -> anyhow::Result<u64> {
    if !Keys::is_new(database).await? {
        bail!("there are keys already, and they stay: leave `--keys` out, or name an empty database for them");
    }
    let Backup { folder, manifest } = backup;
    let mut loading = database.load().await?;
    let mut rows = 0;
    for (name, table) in key_tables() {
        let entry = manifest.holds.tables.get(name).with_context(|| format!("the backup lacks `{name}`"))?;
        let mut lines = folder.lines(entry)?;
        while let Some(chunk) = next_chunk(&mut lines)? {
            loading.read(&table, &chunk).await?;
            rows += chunk.len() as u64;
        }
    }
    loading.commit().await?;
    Ok(rows)
}

async fn restore_log(
    domain: &Domain,
    databases: &Databases,
    published: Option<Published>,
    backup: &Backup<LogBackup>,
    restoring: Restoring,
) -> anyhow::Result<(Head, Vec<Reader>)> {
    let LogBackup { log: end, views, relays, .. } = &backup.manifest.holds;
    let there = readers::there(databases, published).await?;
    let ids = check_log(backup, &there.positions(views, relays))?;
    let epoch = there.newest_epoch(end) + 1;
    let tables = Tables::of(domain.projections.values().map(|projection| projection.spec()))?;
    let history = History { end, epoch, ids };
    let mut readers = readers::restore(&databases.views, &tables, &backup.folder, views, &there, &history).await?;
    let mut relayed = Vec::new();
    for (reader, goes_on) in there.relays(relays, &history) {
        readers.push(reader);
        relayed.push(serde_json::to_string(&goes_on)?);
    }
    let head = write_log(backup, restoring, epoch, &readers, &relayed).await?;
    Ok((head, readers))
}

async fn write_log(
    backup: &Backup<LogBackup>,
    mut restoring: Restoring,
    epoch: u64,
    readers: &[Reader],
    published: &[String],
) -> anyhow::Result<Head> {
    let Backup { folder, manifest } = backup;
    let LogBackup { log, events, tables, .. } = &manifest.holds;
    let progress = Progress::new("restoring", "events", log.position.get());
    for segment in events {
        let mut lines = folder.lines(&segment.file)?;
        while let Some(chunk) = next_chunk(&mut lines)? {
            let events: Vec<RecordedEvent> =
                chunk.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
            restoring.events(&events).await?;
            progress.advance(events.len() as u64);
        }
    }
    progress.finish();
    for (name, table) in daybook_log::backup::TABLES {
        let entry = tables.get(name).with_context(|| format!("the backup lacks `{name}`"))?;
        write_rows(&mut restoring, folder, entry, &table).await?;
    }
    restoring.lines(&RELAYS, published).await?;
    let record = LogRestored {
        epoch,
        backup_begun_at: manifest.begun_at,
        backup_position: log.position.get(),
        readers: readers.iter().map(|reader| reader.said.clone()).collect(),
    };
    let record = NewRecord::new(RestoreEvent::stream(log.log_id), &RestoreEvent::from(record))?;
    let metadata = Request::system("cli").metadata("daybook.restore", Uuid::now_v7(), Utc::now());
    Ok(restoring.finish((log.log_id, epoch), record, &metadata).await?)
}

async fn write_rows(
    restoring: &mut Restoring,
    folder: &Folder,
    entry: &Entry,
    table: &Lines,
) -> anyhow::Result<()> {
    let mut lines = folder.lines(entry)?;
    while let Some(chunk) = next_chunk(&mut lines)? {
        restoring.lines(table, &chunk).await?;
    }
    Ok(())
}

/// The next lines; `None` when there are no more.
pub(super) fn next_chunk(
    lines: &mut impl Iterator<Item = anyhow::Result<String>>,
) -> anyhow::Result<Option<Vec<String>>> {
    let chunk = lines.take(ROWS).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
}

/// Makes sure that a backup of a log is whole, before anything is done with it; answers the ids of the events at some
/// positions.
fn check_log(backup: &Backup<LogBackup>, wanted: &[Position]) -> anyhow::Result<HashMap<Position, Uuid>> {
    let Backup { folder, manifest } = backup;
    let LogBackup { log, events, tables, views, .. } = &manifest.holds;
    let documents = views.iter().filter_map(|view| view.documents.as_ref());
    tables.values().chain(documents).try_for_each(|entry| read_through(folder, entry))?;

    let mut ids = HashMap::new();
    let mut position = Position::START;
    for segment in events {
        ensure!(segment.first == position.plus(1), "the events behind {position} are missing");
        for line in folder.lines(&segment.file)? {
            let line = line?;
            position = position.plus(1);
            if position == log.position || wanted.contains(&position) {
                ids.insert(position, serde_json::from_str::<RecordedEvent>(&line)?.id);
            }
        }
    }
    let is_end =
        position == log.position && (position == Position::START || ids.get(&position) == Some(&log.event_id));
    ensure!(is_end, "the events end at {position}, and the log at {}", log.position);
    Ok(ids)
}

fn read_through(folder: &Folder, entry: &Entry) -> anyhow::Result<()> {
    folder.lines(entry)?.try_for_each(|line| line.map(drop))
}
