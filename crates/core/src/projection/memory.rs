//! Documents in memory.

use std::any::Any;
use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::Projection;
use super::caught::caught;
use super::fold::{Batch, Changed, Documents, GivenAway, Misshapen, NotApplied, Opened};
use super::weight::weight;
use crate::{Envelope, Position, Revision};

/// One of so many documents is weighed whenever it changes: the others are taken to be like those.
const SAMPLE_EVERY: usize = 64;

/// A document is weighed when the events that were applied to it since take more bytes than this and so many times as much
/// as it weighed before: so weighing takes little time, and one that grows is never taken for one like the others.
const GROWN_BYTES: usize = 4 << 10;
const GROWN_TIMES: usize = 2;

pub(super) struct Memory<P: Projection> {
    category: &'static str,
    /// In the order in which they were met. Of those that are not known any more, the places stay.
    known: IndexMap<String, Option<Known<P::View>>>,
    /// Where those stand that say of themselves that they changed, and maybe some that are not known any more.
    changed: Vec<usize>,
    /// How long all keys are.
    key_bytes: usize,
    /// Those that were weighed.
    weighed: Weighed,
    /// Those of them that stand for others.
    samples: Weighed,
}

struct Known<V> {
    view: Option<V>,
    position: Position,
    revision: Revision,
    /// Whether there is one in the database.
    is_stored: bool,
    /// Whether it was changed since that was asked last.
    is_changed: bool,
    /// What it weighed, once it was weighed.
    weight: Option<usize>,
    /// How many bytes of JSON went into it since.
    grown: usize,
}

/// How many documents, and how many bytes they take.
#[derive(Debug, Clone, Copy, Default)]
struct Weighed {
    count: usize,
    bytes: usize,
}

impl Weighed {
    fn replace(&mut self, before: Option<usize>, now: Option<usize>) {
        self.count = self.count + usize::from(now.is_some()) - usize::from(before.is_some());
        self.bytes = self.bytes + now.unwrap_or(0) - before.unwrap_or(0);
    }
}

impl<V> Known<V> {
    fn none() -> Self {
        let (position, revision) = (Position::START, Revision::NONE);
        Self { view: None, position, revision, is_stored: false, is_changed: false, weight: None, grown: 0 }
    }
}

impl<V: serde::Serialize> Known<V> {
    /// What others are told of it; nothing, when nobody has to remove what never was there.
    fn encoded(&self, key: String) -> Result<Option<Changed>, Misshapen> {
        let body = match self.view.as_ref().map(|view| converted(|| serde_json::to_string(view))).transpose() {
            Ok(body) => body,
            Err(source) => return Err(Misshapen { key, source }),
        };
        let is_told = body.is_some() || self.is_stored;
        Ok(is_told.then_some(Changed { key, body, position: self.position, revision: self.revision }))
    }
}

impl<P: Projection> Memory<P> {
    /// What holds a document, beside its key and what is in it: its place, which is twice there while more room is made,
    /// and the key's allocation.
    const HOLDING_BYTES: usize = 2 * size_of::<(usize, String, Option<Known<P::View>>, usize)>() + 32;

    pub(super) fn new(category: &'static str) -> Self {
        let (weighed, samples) = (Weighed::default(), Weighed::default());
        Self { category, known: IndexMap::new(), changed: Vec::new(), key_bytes: 0, weighed, samples }
    }

    /// Where a document stands, or is to stand from now on.
    fn place(&mut self, key: &str) -> usize {
        self.known.get_index_of(key).unwrap_or_else(|| {
            self.key_bytes += key.len();
            self.known.insert_full(key.to_owned(), None).0
        })
    }

    /// Puts what is known of a document in the place of what was.
    fn put(&mut self, place: usize, known: Option<Known<P::View>>) {
        let weight = |known: &Option<Known<P::View>>| known.as_ref().and_then(|known| known.weight);
        let before = std::mem::replace(&mut self.known[place], known);
        self.note_weight(place, weight(&before), weight(&self.known[place]));
    }

    fn note_weight(&mut self, place: usize, before: Option<usize>, now: Option<usize>) {
        self.weighed.replace(before, now);
        if place.is_multiple_of(SAMPLE_EVERY) {
            self.samples.replace(before, now);
        }
    }

    /// Takes note that so many bytes of JSON went into a document.
    fn grow(&mut self, place: usize, by: usize) {
        let Some(document) = &mut self.known[place] else { return };
        document.grown += by;
        let before = document.weight;
        if place.is_multiple_of(SAMPLE_EVERY)
            || document.grown > GROWN_BYTES.max(GROWN_TIMES * before.unwrap_or_default())
        {
            // One that has no JSON form is met when it is to be written.
            let weighed = document.view.as_ref().map_or(Ok(0), |view| converted(|| weight(view)));
            document.weight = Some(weighed.unwrap_or(before.unwrap_or_default() + document.grown));
            document.grown = 0;
            let now = document.weight;
            self.note_weight(place, before, now);
        }
    }

    fn forget(&mut self, key: &str) {
        if let Some(place) = self.known.get_index_of(key) {
            self.put(place, None);
        }
    }

    /// Applies an event to a document; whether it could be.
    fn apply(&mut self, key: &str, event: &Envelope<'_, P::Event>) -> Result<(), String> {
        let place = self.place(key);
        let document = self.known[place].get_or_insert_with(Known::none);
        caught(|| P::apply(key, &mut document.view, event))?;
        document.position = event.record.position;
        if document.view.is_none() {
            // Nothing is stored of it, so that nothing of it may be known in memory either.
            document.revision = Revision::NONE;
        } else if event.record.stream.category() == self.category && event.record.stream.id() == key {
            document.revision = event.record.revision;
        }
        if !std::mem::replace(&mut document.is_changed, true) {
            self.changed.push(place);
        }
        self.grow(place, event.record.payload.get().len());
        Ok(())
    }
}

impl<P: Projection> Documents for Memory<P> {
    fn knows(&self, key: &str) -> bool {
        self.known.get(key).is_some_and(Option::is_some)
    }

    fn load(&mut self, key: &str, stored: Option<(&str, Revision)>) -> Result<(), serde_json::Error> {
        let mut known = Known::none();
        if let Some((body, revision)) = stored {
            known.view = Some(converted(|| serde_json::from_str(body))?);
            (known.revision, known.is_stored) = (revision, true);
        }
        let place = self.place(key);
        self.put(place, Some(known));
        self.grow(place, stored.map_or(0, |(body, _)| body.len()));
        Ok(())
    }

    fn fold(&mut self, batch: &mut dyn Batch, until: &dyn Fn(&str) -> Option<Position>) -> Vec<NotApplied> {
        let mut not_applied: Vec<NotApplied> = Vec::new();
        // Whoever mixes two projections up has made a mistake in the program.
        let Some(batch) = (batch as &mut dyn Any).downcast_mut::<Opened<P>>() else { return not_applied };
        let mut failed: BTreeSet<String> = BTreeSet::new();
        for touching in &mut batch.touching {
            let Some(event) = touching.event.take() else { continue };
            let (index, record) = (touching.index, &batch.events[touching.index]);
            let event = Envelope { event, record };
            for key in &touching.keys {
                let is_behind = failed.contains(key) || until(key).is_some_and(|until| record.position >= until);
                let error = match is_behind {
                    true => None,
                    false => match self.apply(key, &event) {
                        Ok(()) => continue,
                        Err(error) => Some(error),
                    },
                };
                if error.is_some() {
                    self.forget(key);
                    failed.insert(key.clone());
                }
                not_applied.push(NotApplied { key: key.clone(), index, error });
            }
            touching.event = Some(event.event);
        }
        not_applied
    }

    fn changed(&mut self) -> Result<Vec<Changed>, Misshapen> {
        let mut all = Vec::with_capacity(self.changed.len());
        for place in std::mem::take(&mut self.changed) {
            let Some((key, Some(document))) = self.known.get_index_mut(place) else { continue };
            if !std::mem::take(&mut document.is_changed) {
                continue;
            }
            if let Some(changed) = document.encoded(key.clone())? {
                document.is_stored = changed.body.is_some();
                all.push(changed);
            }
        }
        all.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(all)
    }

    fn give_away(&mut self) -> GivenAway {
        let known = std::mem::take(&mut self.known);
        self.clear();
        Box::new(known.into_iter().filter_map(|(key, document)| {
            let document = document.filter(|document| document.is_changed)?;
            document.encoded(key).transpose()
        }))
    }

    fn bytes(&self) -> usize {
        let like_samples = (self.known.len() - self.weighed.count) * self.samples.bytes;
        let others = like_samples.checked_div(self.samples.count).unwrap_or(0);
        self.known.len() * Self::HOLDING_BYTES + self.key_bytes + self.weighed.bytes + others
    }

    fn clear(&mut self) {
        self.known.clear();
        self.changed.clear();
        (self.key_bytes, self.weighed, self.samples) = (0, Weighed::default(), Weighed::default());
    }
}

/// Runs a view's own conversion from or into JSON.
fn converted<T>(code: impl FnOnce() -> serde_json::Result<T>) -> serde_json::Result<T> {
    caught(code).unwrap_or_else(|panic| Err(serde::de::Error::custom(panic)))
}
