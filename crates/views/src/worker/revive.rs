//! Carrying out what operators did about dead letters.

use std::sync::Arc;

use daybook_core::{Batch, Changed, Position, RecordedEvent, Revision};
use daybook_database::{Fault, fault};

use super::{Group, Halt, Refused, Worker};
use crate::acts::DeadLetterAct;
use crate::fold::{self, Failed};
use crate::status::Stopped;
use crate::store::dead_letters::{NewDeadLetter, Revived, Which};

/// How many dead letters are read and applied at a time.
const PAGE: u32 = 1_000;

/// A document, as it is stored or would be.
type Document = Option<(String, Revision)>;

/// How far the dead letters of a document could be applied.
#[derive(Default)]
struct Applied {
    /// The last one that was, or was passed over.
    through: Option<Position>,
    /// What became of the document.
    changed: Option<Changed>,
    /// The next one, and why it still cannot be. Without it, none is left.
    stuck: Option<NewDeadLetter>,
}

/// Why events cannot be applied to a document.
struct Refusal {
    reason: String,
    /// Which of them cannot be, when that is known.
    culprit: Option<usize>,
}

impl Worker {
    /// Parks what operators passed over later, be it that it could be applied now: it waits for that act as it did before,
    /// so a view comes to the same however often it is built anew.
    pub(super) fn foresee(&self, batch: &dyn Batch, events: &[RecordedEvent], failed: &mut Failed) {
        let ([first, ..], [.., last]) = (events, events) else { return };
        if self.passed_over.is_empty() {
            return;
        }
        for key in batch.keys().into_iter().filter(|key| !self.parked.contains(*key)) {
            let within = self.passed_over.get(key).and_then(|of| of.range(first.position..=last.position).next());
            if let Some((position, recorded)) = within
                && !failed.contains_key(key)
            {
                failed.insert(key.to_owned(), (*position, foreseen(*recorded)));
            }
        }
    }

    /// Carries an act out: applies a document's dead letters, one after the other, up to the first that still cannot be.
    /// Its event is a page of its own.
    pub(super) async fn carry_out(
        &mut self,
        group: &Group,
        event: &RecordedEvent,
        act: &DeadLetterAct,
    ) -> Result<(), Refused> {
        let (key, skip) = act.parts();
        let mut applied = Applied::default();
        if group.has(key) && self.parked.contains(key) {
            applied = self.apply_letters(group, key, skip, event.position).await.map_err(Refused::Halt)?;
        }
        let revived = applied.through.map(|through| Revived { key: key.to_owned(), through });
        let (changed, stuck) = (applied.changed.as_slice(), applied.stuck.as_slice());
        self.write(group, event, changed, stuck, revived.as_ref()).await?;
        if revived.is_some() && stuck.is_empty() {
            self.parked.remove(key);
        }
        Ok(())
    }

    /// Applies a document's dead letters, as of an act, a page at a time, behind the one that is passed over. Nothing is
    /// written, nor remembered.
    async fn apply_letters(
        &mut self,
        group: &Group,
        key: &str,
        skip: Option<Position>,
        act: Position,
    ) -> Result<Applied, Halt> {
        let mut applied = Applied::default();
        let mut document = self.store.stored(&self.table, &[key.to_owned()]).await?.remove(key);
        while applied.stuck.is_none() {
            if *self.stopping.borrow() {
                return Err(Halt::Asked);
            }
            let after = applied.through.map(|through| (key.to_owned(), through));
            let which = Which { key: Some(key.to_owned()), after, limit: PAGE };
            let stored = self.store.dead_letters(self.generation.id, &which).await?;
            let mut letters: Vec<_> = stored.into_iter().map(|stored| stored.letter).collect();
            let Some(first) = letters.first().map(|letter| letter.position) else { break };
            if let Some(skip) = skip.filter(|_| applied.through.is_none()) {
                // Only the first one can be passed over; whoever meant another one saw an older state.
                if first != skip {
                    break;
                }
                applied.through = Some(first);
                letters.remove(0);
            }
            let passed_over = self.passed_over.get(key);
            let later = |letter: &NewDeadLetter| {
                passed_over.and_then(|of| of.get(&letter.position)).copied().filter(|recorded| *recorded > act)
            };
            let foreseen =
                letters.iter().enumerate().find_map(|(at, letter)| Some((at, foreseen(later(letter)?))));
            let end = foreseen.as_ref().map_or(letters.len(), |(at, _)| *at);
            let (count, changed, reason) = self.apply_page(group, key, &document, &letters[..end]).await?;
            let reason = reason.or(foreseen.map(|(_, reason)| reason));
            if let Some(last) = count.checked_sub(1) {
                applied.through = Some(letters[last].position);
            }
            if let Some(changed) = changed {
                document = changed.body.clone().map(|body| (body, changed.revision));
                applied.changed = Some(changed);
            }
            applied.stuck =
                reason.map(|reason| NewDeadLetter { error: Some(reason), ..letters.swap_remove(count) });
        }
        self.documents.clear();
        Ok(applied)
    }

    /// Applies some dead letters to their document: how many could be, what became of it, and why the next one could not.
    /// Where it is not known which of them the database does not take, that is found by halving.
    async fn apply_page(
        &mut self,
        group: &Group,
        key: &str,
        document: &Document,
        letters: &[NewDeadLetter],
    ) -> Result<(usize, Option<Changed>, Option<String>), Halt> {
        let events = self.events_of(letters).await?;
        let (mut taken, mut refused, mut next) = (0, events.len() + 1, events.len());
        let (mut changed, mut reason) = (None, None);
        while taken + 1 < refused {
            next = match self.apply_events(group, key, document, &events[..next]).await? {
                Ok(now) => {
                    (taken, changed) = (next, now);
                    taken.midpoint(refused)
                }
                Err(refusal) => {
                    reason = Some(refusal.reason);
                    refused = refusal.culprit.map_or(next, |culprit| culprit + 1);
                    refusal.culprit.unwrap_or(taken.midpoint(refused))
                }
            };
        }
        Ok((taken, changed, reason))
    }

    /// The events of dead letters.
    async fn events_of(&mut self, letters: &[NewDeadLetter]) -> Result<Vec<RecordedEvent>, Halt> {
        let positions: Vec<Position> = letters.iter().map(|letter| letter.position).collect();
        let events = self.log.events_at(&positions).await?;
        let found = |letter: &&NewDeadLetter| {
            let at = events.binary_search_by_key(&letter.position, |event| event.position);
            at.is_ok_and(|at| events[at].id == letter.event_id)
        };
        match letters.iter().find(|letter| !found(letter)) {
            Some(missing) => {
                Err(stopped(missing.position, "the log does not hold a dead letter's event".to_owned()))
            }
            None => Ok(events),
        }
    }

    /// Applies events to a document, and makes sure that the database takes what becomes of it.
    async fn apply_events(
        &mut self,
        group: &Group,
        key: &str,
        document: &Document,
        events: &[RecordedEvent],
    ) -> Result<Result<Option<Changed>, Refusal>, Halt> {
        let events: Arc<[RecordedEvent]> = events.into();
        let wanted = |other: &str| other == key && group.has(other);
        let opened = fold::open(self.view.projection.as_ref(), &self.contracts, events.clone(), &wanted);
        let mut batch = match opened {
            Ok(batch) => batch,
            Err(unfit) => return Err(stopped(unfit.position.unwrap_or(events[0].position), unfit.reason)),
        };
        self.documents.clear();
        let document = document.as_ref().map(|(body, revision)| (body.as_str(), *revision));
        if let Err(error) = self.documents.load(key, document) {
            let reason = format!("the stored document does not have the view's shape: {error}");
            return Ok(Err(Refusal { reason, culprit: Some(0) }));
        }
        let mut failed = Failed::new();
        let folded = fold::fold(&mut *self.documents, &mut *batch, &events, &|_| false, &mut failed);
        if let (None, Some((_, (position, reason)))) = (folded, failed.into_iter().next()) {
            let culprit = Some(events.partition_point(|event| event.position < position));
            return Ok(Err(Refusal { reason, culprit }));
        }
        let changed = match self.documents.changed() {
            Ok(mut changed) => changed.pop(),
            Err(error) => return Ok(Err(Refusal { reason: error.to_string(), culprit: None })),
        };
        if let Some(document) = &changed
            && let Err(error) = self.store.probe(&self.table, document).await
        {
            let reason = format!("the document cannot be stored: {error}");
            return match fault(&error) {
                Fault::Data => Ok(Err(Refusal { reason, culprit: None })),
                Fault::Unavailable | Fault::Duplicate | Fault::Other => Err(error.into()),
            };
        }
        Ok(Ok(changed))
    }
}

fn foreseen(recorded: Position) -> String {
    format!("it is passed over later, as is recorded at position {recorded}")
}

fn stopped(position: Position, reason: String) -> Halt {
    Halt::Stopped(Stopped { position, reason })
}
