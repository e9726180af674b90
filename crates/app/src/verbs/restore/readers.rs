//! Those who had read a log that is restored: what they had seen, and where they go on.

use std::collections::HashMap;
use std::fmt;

use daybook_core::Position;
use daybook_database::Database;
use daybook_identity::forgettings_reached;
use daybook_kafka::backup::{self as relays, Reached as Published};
use daybook_log::{Checkpoint, Head};
use daybook_views::backup::{self as views, Reached, Tables};
use uuid::Uuid;

use super::next_chunk;
use crate::backup::{Folder, RestoredReader, ViewBackup};
use crate::engine::Databases;

/// The history that readers go on in.
pub(super) struct History<'a> {
    /// Where the log ends in the backup.
    pub(super) end: &'a Head,
    /// The epoch that begins.
    pub(super) epoch: u64,
    /// The ids of the events at the positions that readers stand at.
    pub(super) ids: HashMap<Position, Uuid>,
}

impl History<'_> {
    /// Where a reader stands that has seen all up to a checkpoint which is in it.
    fn here(&self, checkpoint: &Checkpoint) -> Checkpoint {
        Checkpoint { log_id: self.end.log_id, epoch: self.epoch, ..*checkpoint }
    }

    /// Where a reader stands that has seen nothing.
    fn start(&self) -> Checkpoint {
        let log_id = self.end.log_id;
        Checkpoint { log_id, epoch: self.epoch, position: Position::START, event_id: Uuid::nil() }
    }

    /// Whether all that a reader has seen is in it.
    fn has(&self, Checkpoint { log_id, position, event_id, .. }: &Checkpoint) -> bool {
        *position == Position::START || (*log_id == self.end.log_id && self.ids.get(position) == Some(event_id))
    }

    /// What is to be said of a reader that stands at these places.
    fn said(&self, reader: String, seen: &[&Checkpoint], goes_on_after: Position) -> RestoredReader {
        let strayed = !seen.iter().all(|seen| self.has(seen));
        let seen = seen.iter().map(|seen| seen.position.get()).max().unwrap_or_default();
        let beyond = if strayed { seen.saturating_sub(self.end.position.get()) } else { 0 };
        RestoredReader { reader, seen, beyond, strayed, goes_on_after: goes_on_after.get() }
    }
}

/// A reader, and what it goes on with.
pub(super) struct Reader {
    pub(super) said: RestoredReader,
    with: With,
}

/// What a reader goes on with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    /// With what it has.
    Own,
    /// With what the backup has.
    Backup,
    /// With nothing.
    Nothing,
    /// It does not: this program does not have the projection, and so nothing to fold it with.
    Unknown,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RestoredReader { reader, seen, beyond, strayed, goes_on_after } = &self.said;
        write!(f, "{reader}: ")?;
        match (strayed, beyond) {
            (false, _) => {}
            (true, 0) => write!(f, "had read another history, up to {seen}; ")?,
            (true, beyond) => write!(f, "had seen up to {seen}, {beyond} events beyond the backup; ")?,
        }
        match self.with {
            With::Own => write!(f, "goes on behind {goes_on_after}, as it was"),
            With::Backup => write!(f, "goes on behind {goes_on_after}, from the backup"),
            With::Nothing => f.write_str("begins anew"),
            With::Unknown => f.write_str("stays where it is, since this program does not know it"),
        }
    }
}

/// The readers whose state is there.
pub(super) struct There {
    views: Vec<Reached>,
    forgettings: Option<Checkpoint>,
    relays: Vec<Published>,
    /// What lies in the topic that the settings name: it is there though the log's database is a new one.
    published: Option<Published>,
}

/// What lies in the topic of a log. Without knowing it, the epoch that begins could be one that was published in already, and
/// whoever reads the topic would take that history's messages for this one's.
pub(super) async fn published(relay: &daybook_kafka::Settings, log_id: Uuid) -> anyhow::Result<Option<Published>> {
    relays::published(relay, log_id).await.map_err(|reason| {
        anyhow::anyhow!(
            "it is not known what was published of this log: {reason}. Restore when the brokers answer; or, if nobody is going \
             to read the topic `{}` any more, `--without-kafka`",
            relay.topic
        )
    })
}

/// Looks for readers of a log, beside what was `published` of it.
pub(super) async fn there(databases: &Databases, published: Option<Published>) -> anyhow::Result<There> {
    let mut snapshot = databases.views.snapshot().await?;
    let views = views::reached(&mut snapshot).await?;
    snapshot.close().await?;
    let mut snapshot = databases.keys.snapshot().await?;
    let forgettings = forgettings_reached(&mut snapshot).await?;
    snapshot.close().await?;
    let mut snapshot = databases.log.snapshot().await?;
    let relays = relays::reached(&mut snapshot).await?;
    snapshot.close().await?;
    Ok(There { views, forgettings, relays, published })
}

impl There {
    fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        let relays = self.relays.iter().chain(&self.published).map(|relay| &relay.checkpoint);
        self.views.iter().flat_map(Reached::checkpoints).chain(&self.forgettings).chain(relays)
    }

    /// Where they stand, and those in the backup.
    pub(super) fn positions(&self, views: &[ViewBackup], relays: &[Published]) -> Vec<Position> {
        let views = views.iter().flat_map(|view| view.reached.checkpoints());
        let relays = relays.iter().map(|relay| &relay.checkpoint);
        self.checkpoints().chain(views).chain(relays).map(|checkpoint| checkpoint.position).collect()
    }

    /// Where each relay goes on: where it is, when all that it has seen is in the backup; else where it was in the backup; and
    /// when that is not known, it publishes everything again. It may always do so, but may pass nothing over.
    pub(super) fn relays(&self, backup: &[Published], history: &History<'_>) -> Vec<(Reader, Published)> {
        let is_new = |kept: &&Published| !self.relays.iter().any(|there| there.topic == kept.topic);
        let has_no_row = |lies: &&Published| is_new(lies) && !backup.iter().any(|kept| kept.topic == lies.topic);
        let all = self.relays.iter().chain(backup.iter().filter(is_new));
        let all = all.chain(self.published.iter().filter(has_no_row));
        let goes_on = |relay: &Published| {
            let there = self.relays.iter().find(|there| there.topic == relay.topic);
            let kept = backup.iter().find(|kept| kept.topic == relay.topic);
            let has = |relay: &&Published| history.has(&relay.checkpoint);
            let (with, checkpoint) = match (there.filter(has), kept.filter(has)) {
                (Some(own), _) => (With::Own, history.here(&own.checkpoint)),
                (None, Some(kept)) => (With::Backup, history.here(&kept.checkpoint)),
                (None, None) => (With::Nothing, history.start()),
            };
            let published = self.published.iter().filter(|published| published.topic == relay.topic);
            let seen: Vec<&Checkpoint> = there.into_iter().chain(published).map(|one| &one.checkpoint).collect();
            let said = history.said(format!("relay {}", relay.topic), &seen, checkpoint.position);
            (Reader { said, with }, Published { checkpoint, ..relay.clone() })
        };
        all.map(goes_on).collect()
    }

    /// The newest epoch of the log that anybody has seen.
    pub(super) fn newest_epoch(&self, end: &Head) -> u64 {
        let same = self.checkpoints().filter(|checkpoint| checkpoint.log_id == end.log_id);
        same.map(|checkpoint| checkpoint.epoch).fold(end.epoch, u64::max)
    }
}

/// Puts all views behind the log that is restored: those there, and those of the backup.
pub(super) async fn restore(
    database: &Database,
    tables: &Tables,
    folder: &Folder,
    backup: &[ViewBackup],
    there: &There,
    history: &History<'_>,
) -> anyhow::Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for view in &there.views {
        let kept = backup.iter().find(|kept| is_same(&kept.reached, view));
        readers.push(restore_view(database, tables, folder, view, true, kept, history).await?);
    }
    for kept in backup {
        let is_new = !there.views.iter().any(|view| is_same(view, &kept.reached));
        if is_new && tables.documents(&kept.reached).is_some() {
            readers.push(restore_view(database, tables, folder, &kept.reached, false, Some(kept), history).await?);
        }
    }
    // It finds out by itself that the log was restored, and carries everything out again.
    readers.extend(there.forgettings.as_ref().map(|seen| Reader {
        said: history.said("forgettings".to_owned(), &[seen], Position::START),
        with: With::Nothing,
    }));
    Ok(readers)
}

fn is_same(one: &Reached, other: &Reached) -> bool {
    one.projection == other.projection && one.version == other.version
}

/// A view that `is_there` stays as it is when all that it has seen is in the backup; else it is the one in the backup; and
/// without one, it is folded anew.
async fn restore_view(
    database: &Database,
    tables: &Tables,
    folder: &Folder,
    view: &Reached,
    is_there: bool,
    kept: Option<&ViewBackup>,
    history: &History<'_>,
) -> anyhow::Result<Reader> {
    let has = |view: &Reached| view.checkpoints().all(|checkpoint| history.has(checkpoint));
    // Without documents there is nothing to go on with.
    let kept = kept.filter(|kept| has(&kept.reached)).and_then(|kept| Some((kept, kept.documents.as_ref()?)));
    let is_known = tables.documents(view).is_some();
    let (with, goes_on) = match kept {
        _ if is_there && has(view) => (With::Own, view.with(|checkpoint| history.here(checkpoint))),
        _ if !is_known => (With::Unknown, view.clone()),
        Some((kept, _)) => (With::Backup, kept.reached.with(|checkpoint| history.here(checkpoint))),
        None => (With::Nothing, view.anew(history.start())),
    };
    let reader = format!("projection {} version {}", view.projection, view.version);
    let seen: Vec<&Checkpoint> = view.checkpoints().filter(|_| is_there).collect();
    let position = goes_on.checkpoints().map(|checkpoint| checkpoint.position).min().unwrap_or_default();
    let reader = Reader { said: history.said(reader, &seen, position), with };
    if reader.said.strayed {
        // Now: afterwards it knows no more of it, and this may be broken off.
        tracing::warn!("{reader}");
    }
    if with != With::Unknown {
        let mut restoring = tables.restore(database, view, with == With::Own).await?;
        if let Some((_, entry)) = kept.filter(|_| with == With::Backup) {
            let mut lines = folder.lines(entry)?;
            while let Some(chunk) = next_chunk(&mut lines)? {
                restoring.documents(&chunk).await?;
            }
        }
        restoring.finish(&goes_on).await?;
    }
    Ok(reader)
}
