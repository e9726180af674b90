//! Carrying out what operators did about dead letters.

use std::sync::Arc;

use daybook_core::{Changed, Position, RecordedEvent};
use daybook_database::{Fault, fault};

use super::{Group, Halt, Refused, Worker};
use crate::ViewError;
use crate::acts::DeadLetterAct;
use crate::fold::{self, Failed};
use crate::status::Stopped;
use crate::store::dead_letters::{NewDeadLetter, Revived, Which};

/// The most dead letters of a key that one act applies. Those behind them wait for the next.
const LETTERS_MAX: u32 = 100_000;

impl Worker {
    /// Carries an act out: applies a document's dead letters, one after the other, up to the first that still cannot be.
    /// Its event is a page of its own.
    pub(super) async fn carry_out(
        &mut self,
        group: &Group,
        event: &RecordedEvent,
        act: &DeadLetterAct,
    ) -> Result<Option<usize>, Halt> {
        let (key, skip) = act.parts();
        let mut letters = Vec::new();
        if group.has(key) && self.parked.contains(key) {
            let which = Which { key: Some(key.to_owned()), after: None, limit: LETTERS_MAX };
            let stored = self.store.dead_letters(self.generation.id, &which).await?;
            letters = stored.into_iter().map(|stored| stored.letter).collect();
        }
        // Only the first one can be passed over; whoever meant another one saw an older state.
        let skipped = usize::from(skip.is_some());
        if skip.is_some() && letters.first().map(|letter| letter.position) != skip {
            letters.clear();
        }
        let behind = letters.get(skipped..).unwrap_or_default();
        let (applied, changed, error) = self.apply_letters(group, key, behind).await?;
        let gone = if letters.is_empty() { 0 } else { skipped + applied };
        let revived =
            gone.checked_sub(1).map(|last| Revived { key: key.to_owned(), through: letters[last].position });
        let parked: Vec<NewDeadLetter> = letters
            .get(gone)
            .zip(error)
            .map(|(letter, error)| NewDeadLetter { error: Some(error), ..letter.clone() })
            .into_iter()
            .collect();
        match self.write(group, event, &changed, &parked, revived.as_ref()).await {
            Ok(()) => {
                if gone > 0 && gone == letters.len() {
                    self.parked.remove(key);
                } else if !letters.is_empty() {
                    // What was folded up to here is stored, and the document is parked.
                    self.forget();
                }
                Ok(Some(1))
            }
            Err(refused) => {
                self.forget();
                match refused {
                    Refused::Lost => Ok(None),
                    Refused::Halt(halt) => Err(halt),
                    Refused::Unfit(unfit) => Err(stopped(event.position, unfit.reason)),
                    Refused::Document { reason, .. } => Err(Halt::Failed(ViewError::Unavailable(reason))),
                }
            }
        }
    }

    /// Applies dead letters to their document: how many could be, what became of it, and why the next one could not.
    async fn apply_letters(
        &mut self,
        group: &Group,
        key: &str,
        letters: &[NewDeadLetter],
    ) -> Result<(usize, Vec<Changed>, Option<String>), Halt> {
        let mut events = Vec::with_capacity(letters.len());
        for letter in letters {
            let found = self.log.event(letter.position).await?.filter(|event| event.id == letter.event_id);
            let missing = || stopped(letter.position, "the log does not hold a dead letter's event".to_owned());
            events.push(found.ok_or_else(missing)?);
        }
        let (mut count, mut error) = (events.len(), None);
        while count > 0 {
            self.forget();
            let (reason, fewer) = match self.apply_events(group, key, &events[..count]).await? {
                Ok(changed) => match self.is_taken(&changed).await? {
                    Ok(()) => return Ok((count, changed, error)),
                    Err(reason) => (reason, count / 2),
                },
                Err((reason, position)) => {
                    (reason, events.partition_point(|event| event.position < position).min(count - 1))
                }
            };
            (error, count) = (Some(reason), fewer);
        }
        self.forget();
        Ok((0, Vec::new(), error))
    }

    /// Applies events to a document; else why, and which one could not be.
    async fn apply_events(
        &mut self,
        group: &Group,
        key: &str,
        events: &[RecordedEvent],
    ) -> Result<Result<Vec<Changed>, (String, Position)>, Halt> {
        let events: Arc<[RecordedEvent]> = events.into();
        let wanted = |other: &str| other == key && group.has(other);
        let opened = fold::open(self.view.projection.as_ref(), &self.contracts, events.clone(), &wanted);
        let mut batch = match opened {
            Ok(batch) => batch,
            Err(unfit) => return Err(stopped(unfit.position.unwrap_or(events[0].position), unfit.reason)),
        };
        let stored = self.store.stored(&self.table, &[key.to_owned()]).await?;
        let document = stored.get(key).map(|(body, revision)| (body.as_str(), *revision));
        if let Err(error) = self.documents.load(key, document) {
            let reason = format!("the stored document does not have the view's shape: {error}");
            return Ok(Err((reason, Position::START)));
        }
        let mut failed = Failed::new();
        let folded = fold::fold(&mut *self.documents, &mut *batch, &events, &|_| false, &mut failed);
        if let (None, Some((_, (position, reason)))) = (folded, failed.into_iter().next()) {
            return Ok(Err((reason, position)));
        }
        let last = events[events.len() - 1].position;
        Ok(self.documents.changed().map_err(|error| (error.to_string(), last)))
    }

    /// Whether the database takes these documents; else why not.
    async fn is_taken(&mut self, changed: &[Changed]) -> Result<Result<(), String>, Halt> {
        for document in changed {
            if let Err(error) = self.store.probe(&self.table, document).await {
                return match fault(&error) {
                    Fault::Data => Ok(Err(format!("the document cannot be stored: {error}"))),
                    Fault::Unavailable | Fault::Duplicate | Fault::Other => Err(error.into()),
                };
            }
        }
        Ok(Ok(()))
    }
}

fn stopped(position: Position, reason: String) -> Halt {
    Halt::Stopped(Stopped { position, reason })
}
