//! Backups: a folder of files with a line of JSON for each row, and a manifest that says which of them belong together.
//!
//! The lines are the same whatever database they come from, and go back into either. The events' are the events' lines:
//! what was appended since is added by the next run into the same folder.
//!
//! What is sealed stays sealed, and what is wrapped stays wrapped. Keys go into a folder of their own, so that whoever
//! gets hold of a backup of the log has nothing to open it with, and so that forgetting somebody reaches the backups.

mod folder;
mod restored;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use daybook_core::Position;
use daybook_database::Lines;
use daybook_kafka::backup::Reached as Published;
use daybook_log::Head;
use daybook_views::backup::Reached;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use folder::{Entry, Folder};
pub(crate) use restored::{LogRestored, RestoreEvent, RestoredReader};

/// The format of the folders that this program writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// What a folder is a backup of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) struct Manifest<T> {
    format: u32,
    /// How many times it was backed up into this folder.
    pub(crate) run: u32,
    /// The version of the program that did it last.
    daybook: String,
    /// When it last began to.
    pub(crate) begun_at: DateTime<Utc>,
    /// What is there.
    pub(crate) holds: T,
}

/// The log, and the views that were posted from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogBackup {
    /// Where the log ended.
    pub(crate) log: Head,
    /// The events, in order.
    pub(crate) events: Vec<Segment>,
    /// What else is in the log: [`daybook_log::backup::TABLES`].
    pub(crate) tables: BTreeMap<String, Entry>,
    /// The views. They were read before the log, so none of them is ahead of it.
    pub(crate) views: Vec<ViewBackup>,
    /// How far it was published. Backups from before there was anything to publish have nothing of it.
    #[serde(default)]
    pub(crate) relays: Vec<Published>,
}

/// Some of the events, one behind the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    /// The first event's position.
    pub(crate) first: Position,
    /// The file, which has a line for each.
    pub(crate) file: Entry,
}

/// A view.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewBackup {
    /// How far it was.
    pub(crate) reached: Reached,
    /// Its documents; `None` when the program that backed it up did not know the view.
    pub(crate) documents: Option<Entry>,
}

/// Keys and credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysBackup {
    /// The log that they belong to.
    pub(crate) log_id: Uuid,
    /// What is there: [`key_tables`].
    pub(crate) tables: BTreeMap<String, Entry>,
}

impl<T> Manifest<T> {
    /// The manifest of the next run, behind `before`.
    pub(crate) fn next(before: Option<u32>, begun_at: DateTime<Utc>, holds: T) -> Self {
        let run = before.unwrap_or_default() + 1;
        Self { format: FORMAT, run, daybook: env!("CARGO_PKG_VERSION").to_owned(), begun_at, holds }
    }
}

/// The tables of keys and credentials.
pub(crate) fn key_tables() -> impl Iterator<Item = (&'static str, Lines)> {
    daybook_keys::TABLES.into_iter().chain(daybook_identity::TABLES)
}
