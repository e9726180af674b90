//! The first part of a rebuild: as much of the log as fits into memory is folded before anything is written.

use std::time::{Duration, Instant};

use daybook_core::RecordedEvent;
use tokio::sync::OwnedSemaphorePermit;

use super::ahead::{Ahead, Next, Opened};
use super::{Group, Halt, Refused, Worker};
use crate::fold::{self, Failed};
use crate::slices::SLICES;
use crate::store::Commit;
use crate::store::dead_letters::NewDeadLetter;

/// How often it is said how far it is, and looked whether it is to go on.
const NOTE_EVERY: Duration = Duration::from_millis(500);

/// What was folded and not written yet.
#[derive(Default)]
struct Part {
    /// Its last event.
    last: Option<RecordedEvent>,
    letters: Vec<NewDeadLetter>,
    /// What these take in memory.
    letter_bytes: usize,
    /// Whether the log ended behind it.
    is_last: bool,
}

impl Worker {
    /// Replays the log from where the generation stands, as far as memory allows; ends the replay at the log's end. It needs
    /// no memory while it makes indexes.
    pub(super) async fn replay(&mut self, group: &Group, memory: OwnedSemaphorePermit) -> Result<(), Halt> {
        let (generation, table) = (self.generation.id, &self.table);
        match group.checkpoint.position.get() {
            // An attempt that was broken off may have left documents behind.
            0 if !self.store.empty(generation, table, &group.claims).await? => return self.share().await,
            0 => {}
            // What was written first has no key yet, and the rest needs one.
            _ => self.store.make_key(table).await?,
        }
        let is_whole = matches!(&group.claims[..], [one] if one.slices.from == 0 && one.slices.to == SLICES);
        let mut failed = Failed::new();
        let part = match is_whole {
            true => self.fold_part(group, &mut failed).await?,
            false => Some(Part::default()),
        };
        let Some(Part { last, letters, is_last, .. }) = part else {
            self.documents.clear();
            return self.share().await;
        };
        let is_empty = group.checkpoint.position.get() == 0;
        if let Some(last) = last {
            match self.write_part(group, &last, &letters, is_empty).await {
                Ok(()) => self.parked.extend(failed.into_keys()),
                Err(Refused::Halt(halt)) => return Err(halt),
                Err(Refused::Lost) => {
                    self.documents.clear();
                    return self.share().await;
                }
                // Page by page, the culprit is found; and that is not to be folded into what was written with it.
                Err(Refused::Unfit(_) | Refused::Document { .. }) => {
                    if is_empty && !self.store.empty(self.generation.id, &self.table, &group.claims).await? {
                        return self.share().await;
                    }
                    self.take_one_page(group).await?;
                }
            }
        } else if !is_last {
            self.take_one_page(group).await?;
        }
        drop(memory);
        if is_last {
            self.store.finish_replay(self.generation.id, &self.table, self.settings.shards).await?;
            self.share().await?;
        }
        Ok(())
    }

    /// Goes on like one that is not replayed: nothing else is to be done with what is met here.
    async fn take_one_page(&mut self, group: &Group) -> Result<(), Halt> {
        self.documents.clear();
        self.store.make_key(&self.table).await?;
        let events = self.reader.read(&group.checkpoint, group.limit).await?;
        if !events.is_empty() && self.take_in(group, events.into()).await?.is_none() {
            self.share().await?;
        }
        Ok(())
    }

    /// Folds as much as fits. `None` when it is not to go on.
    async fn fold_part(&mut self, group: &Group, failed: &mut Failed) -> Result<Option<Part>, Halt> {
        let mut noted = Instant::now();
        let is_first = group.checkpoint.position.get() == 0;
        let later_max = if is_first { usize::MAX } else { self.store.later_part_bytes_max() };
        let bytes_max = self.settings.rebuild_bytes_max.min(later_max);
        // Where the first document could not be folded that others stand before.
        let mut ends_at = None;
        'again: loop {
            self.documents.clear();
            let mut part = Part::default();
            let mut at = group.checkpoint;
            let scan = self.log.scan(&at, self.settings.rebuild_page_events);
            let mut ahead = Ahead::new(self.view.clone(), self.contracts.clone(), scan);
            loop {
                if part.last.is_some() && ends_at == Some(at.position) {
                    return Ok(Some(part));
                }
                let Opened { events, mut batch } = match ahead.next().await {
                    Next::Page(opened) => opened,
                    Next::End => {
                        part.is_last = true;
                        return Ok(Some(part));
                    }
                    // It is met again page by page.
                    Next::Other => return Ok(Some(part)),
                };
                self.foresee(&*batch, &events, failed);
                if !is_first {
                    let keys = batch.keys().into_iter().map(str::to_owned).collect();
                    match self.load(keys, failed).await {
                        Err(Refused::Halt(halt)) => return Err(halt),
                        Err(_) => return Ok(Some(part)),
                        Ok(()) => {}
                    }
                }
                let is_parked = |key: &str| self.parked.contains(key);
                let before = failed.clone();
                let folded = fold::fold(&mut *self.documents, &mut *batch, &events, &is_parked, failed);
                let Some(letters) = folded else {
                    // Those behind it are folded once more, and no more than once: it is the next part that parks it.
                    if part.last.is_some() {
                        *failed = before;
                        ends_at = Some(at.position);
                    }
                    continue 'again;
                };
                self.measure(events.len(), Duration::ZERO);
                part.letter_bytes += letters.iter().map(NewDeadLetter::bytes).sum::<usize>();
                part.letters.extend(letters);
                if let Some(last) = events.last() {
                    at = at.at(last);
                    part.last = Some(last.clone());
                }
                if noted.elapsed() > NOTE_EVERY {
                    noted = Instant::now();
                    if *self.stopping.borrow() || !self.store.set_replayed(self.generation.id, at.position).await?
                    {
                        return Ok(None);
                    }
                }
                if self.documents.bytes() + part.letter_bytes > bytes_max {
                    return Ok(Some(part));
                }
            }
        }
    }

    async fn write_part(
        &mut self,
        group: &Group,
        last: &RecordedEvent,
        letters: &[NewDeadLetter],
        first: bool,
    ) -> Result<(), Refused> {
        let to = group.checkpoint.at(last);
        let commit = Commit {
            generation: self.generation.id,
            table: &self.table,
            ranges: &group.claims,
            from: group.checkpoint.position,
            to,
            changed: &[],
            parked: letters,
            revived: None,
            announced: false,
            lease: self.settings.lease,
        };
        if !self.store.write_bulk(&commit, self.documents.give_away(), first).await? {
            return Err(Refused::Lost);
        }
        self.moved(group, to);
        Ok(())
    }
}
