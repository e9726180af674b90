//! Taking a page in: folded, and committed as a whole, as often as it takes.

use std::sync::Arc;

use daybook_core::{Changed, Position, RecordedEvent};
use daybook_database::{Fault, fault};
use daybook_log::Checkpoint;

use super::{Folded, Group, Halt, Refused, Worker};
use crate::ViewError;
use crate::acts::DeadLetterAct;
use crate::fold::{self, Failed, Unfit};
use crate::generation::Phase;
use crate::status::Stopped;
use crate::store::Commit;
use crate::store::dead_letters::{NewDeadLetter, Revived};
use crate::table::Table;

impl Worker {
    /// Commits a page, or as much of its beginning as can be taken in; says how many events that were: none when what came
    /// from beside the log has to be read from the log. `None` when it is not known any more which ranges are held.
    pub(super) async fn take_in(
        &mut self,
        group: &Group,
        mut events: Arc<[RecordedEvent]>,
    ) -> Result<Option<usize>, Halt> {
        loop {
            let refused = match self.commit_beginning(group, &events).await {
                Ok(count) => return Ok(Some(count)),
                Err(refused) => refused,
            };
            self.forget();
            let fewer = match refused {
                Refused::Lost => return Ok(None),
                Refused::Halt(halt) => return Err(halt),
                // The log alone says what is there.
                Refused::Unfit(unfit) if self.reader.turns_to_log(&group.checkpoint, &unfit) => {
                    return Ok(Some(0));
                }
                Refused::Unfit(unfit) => match fold::fewer(&events, &unfit) {
                    0 => {
                        let position = events[0].position;
                        return Err(Halt::Stopped(Stopped { position, reason: unfit.reason }));
                    }
                    fewer => fewer,
                },
                Refused::Document { reason, .. } => match events.len() {
                    // Each of its documents could be stored by itself.
                    1 => return Err(Halt::Failed(ViewError::Unavailable(reason))),
                    count => count / 2,
                },
            };
            events = events[..fewer].into();
        }
    }

    /// Commits what comes before an act of operators about dead letters, or that one: it is carried out in the log's order,
    /// and by itself. Says how many events that were.
    async fn commit_beginning(&mut self, group: &Group, events: &Arc<[RecordedEvent]>) -> Result<usize, Refused> {
        let of = |event| DeadLetterAct::of(event, self.table.projection);
        let act_at = events.iter().position(|event| !matches!(of(event), Ok(None)));
        if act_at == Some(0)
            && let Some(act) = of(&events[0]).map_err(Unfit::from)?
        {
            self.carry_out(group, &events[0], &act).await?;
            return Ok(1);
        }
        // It is met again, at the beginning of a page.
        let events = act_at.map_or_else(|| events.clone(), |at| events[..at].into());
        match self.commit(group, &events, Failed::new()).await {
            Err(Refused::Document { .. }) if events.len() == 1 => self.commit_without(group, &events).await?,
            committed => committed?,
        }
        Ok(events.len())
    }

    /// Commits a page that was folded ahead; as [`Self::take_in`] does.
    pub(super) async fn take_in_folded(&mut self, folded: Folded) -> Result<Option<usize>, Halt> {
        let (group, events) = (folded.group.clone(), folded.events.clone());
        match self.commit_folded(folded).await {
            Ok(()) => Ok(Some(events.len())),
            Err(Refused::Lost) => {
                self.forget();
                Ok(None)
            }
            Err(Refused::Halt(halt)) => Err(halt),
            Err(Refused::Unfit(_) | Refused::Document { .. }) => {
                self.forget();
                self.take_in(&group, events).await
            }
        }
    }

    /// Commits a page of one event without the documents that the database does not take.
    async fn commit_without(&mut self, group: &Group, events: &Arc<[RecordedEvent]>) -> Result<(), Refused> {
        self.documents.clear();
        let (mut failed, mut letters) = (Failed::new(), Vec::new());
        let position = events[0].position;
        loop {
            let count = failed.len();
            let changed = match self.fold_page(group, events, &mut failed, &mut letters).await {
                Ok(changed) => changed,
                Err(Refused::Document { key: Some(key), reason }) => {
                    self.documents.clear();
                    failed.insert(key, (position, reason));
                    continue;
                }
                Err(refused) => return Err(refused),
            };
            for document in &changed {
                if let Err(error) = self.store.probe(&self.table, document).await {
                    match fault(&error) {
                        Fault::Data => {
                            let reason = format!("the document cannot be stored: {error}");
                            failed.insert(document.key.clone(), (position, reason));
                        }
                        _ => return Err(Refused::Halt(error.into())),
                    }
                }
            }
            self.documents.clear();
            if failed.len() == count {
                return self.commit(group, events, failed).await;
            }
        }
    }

    /// Commits a page: all of it or nothing.
    async fn commit(
        &mut self,
        group: &Group,
        events: &Arc<[RecordedEvent]>,
        mut failed: Failed,
    ) -> Result<(), Refused> {
        let mut letters = Vec::new();
        let changed = self.fold_page(group, events, &mut failed, &mut letters).await?;
        let (group, events) = (group.clone(), events.clone());
        self.commit_folded(Folded { group, events, changed, letters, failed }).await
    }

    /// Commits what was folded, and folds the page behind it meanwhile.
    async fn commit_folded(&mut self, page: Folded) -> Result<(), Refused> {
        let Folded { group, events, changed, letters, failed } = page;
        let last = &events[events.len() - 1];
        let to = group.checkpoint.at(last);
        let (store, table) = (self.store.clone(), self.table.clone());
        let commit = self.commit_of(&table, &group, to, &changed, &letters);
        let next = Group { checkpoint: to, claims: group.claims.clone(), limit: self.settings.page_events_max };
        // Who follows closely does better to wait: more of what is appended meanwhile goes into one page.
        let is_behind = events.len() >= group.limit && failed.is_empty();
        let ahead = async {
            // The commit is on its way before anything else is done.
            tokio::task::yield_now().await;
            if is_behind { self.fold_ahead(next).await } else { None }
        };
        let (committed, folded) = tokio::join!(store.commit(&commit), ahead);
        if !committed? {
            return Err(Refused::Lost);
        }
        self.folded = folded;
        self.parked.extend(failed.into_keys());
        self.moved(&group, to);
        Ok(())
    }

    /// Folds a page over documents that are still being committed. It is none of those where anything is out of the
    /// ordinary: they are met again, with nothing under way.
    async fn fold_ahead(&mut self, group: Group) -> Option<Folded> {
        let has_all = group.claims.len() == self.held.len();
        let has_time = !self.has_news() && !*self.stopping.borrow();
        if !has_all || !has_time || self.documents.bytes() > self.settings.memory_bytes_max {
            return None;
        }
        let events: Arc<[RecordedEvent]> = self.reader.read(&group.checkpoint, group.limit).await.ok()?.into();
        let is_act = |event| !matches!(DeadLetterAct::of(event, self.table.projection), Ok(None));
        if events.is_empty() || events.iter().any(is_act) {
            return None;
        }
        let wanted = |key: &str| group.has(key);
        let projection = self.view.projection.as_ref();
        let opened = fold::open(projection, &self.contracts, events.clone(), &wanted);
        let mut batch = opened.map_err(|unfit| self.reader.turns_to_log(&group.checkpoint, &unfit)).ok()?;
        let mut failed = Failed::new();
        self.foresee(&*batch, &events, &mut failed);
        if !failed.is_empty() {
            return None;
        }
        let keys = batch.keys().into_iter().map(str::to_owned).collect();
        self.load(keys, &mut failed).await.ok()?;
        let is_parked = |key: &str| self.parked.contains(key);
        let letters = fold::fold(&mut *self.documents, &mut *batch, &events, &is_parked, &mut failed)?;
        match self.documents.changed() {
            Ok(changed) => Some(Folded { group, events, changed, letters, failed }),
            Err(_) => {
                self.documents.clear();
                None
            }
        }
    }

    /// Commits what became of the events up to `last`.
    pub(super) async fn write(
        &mut self,
        group: &Group,
        last: &RecordedEvent,
        changed: &[Changed],
        parked: &[NewDeadLetter],
        revived: Option<&Revived>,
    ) -> Result<(), Refused> {
        let to = group.checkpoint.at(last);
        let commit = Commit { revived, ..self.commit_of(&self.table, group, to, changed, parked) };
        if !self.store.commit(&commit).await? {
            return Err(Refused::Lost);
        }
        self.moved(group, to);
        Ok(())
    }

    /// A commit of a group's ranges.
    fn commit_of<'a>(
        &self,
        table: &'a Table,
        group: &'a Group,
        to: Checkpoint,
        changed: &'a [Changed],
        parked: &'a [NewDeadLetter],
    ) -> Commit<'a> {
        Commit {
            generation: self.generation.id,
            table,
            ranges: &group.claims,
            from: group.checkpoint.position,
            to,
            changed,
            parked,
            revived: None,
            announced: self.generation.phase != Phase::Replay,
            lease: self.settings.lease,
        }
    }

    /// Folds a page into the documents of a group. What could not be applied goes into `failed` and `letters`.
    async fn fold_page(
        &mut self,
        group: &Group,
        events: &Arc<[RecordedEvent]>,
        failed: &mut Failed,
        letters: &mut Vec<NewDeadLetter>,
    ) -> Result<Vec<Changed>, Refused> {
        let wanted = |key: &str| group.has(key);
        let mut batch = fold::open(self.view.projection.as_ref(), &self.contracts, events.clone(), &wanted)?;
        self.foresee(&*batch, events, failed);
        loop {
            let keys = batch.keys().into_iter().map(str::to_owned).collect();
            self.load(keys, failed).await?;
            let is_parked = |key: &str| self.parked.contains(key);
            if let Some(found) = fold::fold(&mut *self.documents, &mut *batch, events, &is_parked, failed) {
                *letters = found;
                break;
            }
        }
        self.documents
            .changed()
            .map_err(|error| Refused::Document { reason: error.to_string(), key: Some(error.key) })
    }

    /// Reads the documents that a page touches and that are not known yet. It is done outside of the transaction that
    /// writes: only the holder of their ranges changes them.
    pub(super) async fn load(&mut self, mut keys: Vec<String>, failed: &mut Failed) -> Result<(), Refused> {
        keys.retain(|key| {
            let is_lost = self.parked.contains(key)
                || failed.get(key).is_some_and(|(position, _)| *position == Position::START);
            !is_lost && !self.documents.knows(key)
        });
        if keys.is_empty() {
            return Ok(());
        }
        let stored = self.store.stored(&self.table, &keys).await?;
        for key in keys {
            let document = stored.get(&key).map(|(body, revision)| (body.as_str(), *revision));
            if let Err(error) = self.documents.load(&key, document) {
                let reason = format!("the stored document does not have the view's shape: {error}");
                failed.insert(key, (Position::START, reason));
            }
        }
        Ok(())
    }
}
