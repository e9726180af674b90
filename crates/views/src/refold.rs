//! Folding the log once more, in memory and from its beginning, for whoever asks what documents have to be.
//!
//! It comes to what a rebuild comes to: what an event cannot be applied to stays as it was before, and what operators
//! passed over is left out. It needs no turns of the projector for that. A fold is pure, so an event that fails once fails
//! each time it is tried again; so a document is the fold of its events without those that were passed over, up to the
//! first that fails.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use daybook_core::{Changed, Contracts, Documents, Position, RecordedEvent, StreamId};
use daybook_log::{Checkpoint, EventFilter, Log};

use crate::acts::{DeadLetterAct, acts_stream};
use crate::views::View;
use crate::{ViewError, Views, fold};

/// How many events are read at a time.
const PAGE: usize = 2_000;

/// Which documents are folded.
pub(crate) type Wanted<'a> = &'a (dyn Fn(&str) -> bool + Sync);
/// The last event that is in a document, whether it touches it or not.
pub(crate) type Last<'a> = &'a (dyn Fn(&str) -> Position + Sync);

pub(crate) struct Refold<'a> {
    view: &'a View,
    contracts: &'a Contracts,
    log: &'a Log,
    left_out: LeftOut,
    /// The positions of all events that operators passed over.
    cuts: BTreeSet<Position>,
    documents: Box<dyn Documents>,
    /// The documents that are to be folded again, since nothing is left of one when an event cannot be applied to it; with
    /// the reason.
    lost: BTreeMap<String, String>,
    start: Checkpoint,
    reached: Checkpoint,
}

/// What operators passed over: for each document the events' positions, and where it is recorded.
pub(crate) type PassedOver = HashMap<String, BTreeMap<Position, Position>>;

/// What is not applied to documents.
struct LeftOut {
    passed_over: PassedOver,
    /// From which event on nothing is applied to a document.
    parked: HashMap<String, Position>,
}

impl LeftOut {
    /// Whether an event is passed over for a document, as of `last`.
    fn is_passed_over(&self, key: &str, position: Position, last: Position) -> bool {
        let recorded = self.passed_over.get(key).and_then(|of| of.get(&position));
        recorded.is_some_and(|recorded| *recorded <= last)
    }

    /// From which event on nothing is applied to a document: from what is parked on, or is only passed over later.
    fn end(&self, key: &str, last: Position) -> Position {
        let later = self.passed_over.get(key).and_then(|of| {
            of.iter().filter(|(_, recorded)| **recorded > last).map(|(position, _)| *position).min()
        });
        let parked = self.parked.get(key).copied();
        [later, parked].into_iter().flatten().fold(last.plus(1), Position::min)
    }
}

impl<'a> Refold<'a> {
    /// Begins before the first event. `parked` are documents with dead letters, and the first of these: the log does not
    /// tell what a database refused.
    pub(crate) async fn new(
        views: &'a Views,
        view: &'a View,
        parked: HashMap<String, Position>,
    ) -> Result<Self, ViewError> {
        let log = views.log();
        let start = log.checkpoint(&log.head().await?, None);
        let passed_over = passed_over(log, view.table.projection).await?;
        let cuts = cuts(&passed_over);
        let (contracts, documents) = (&**views.contracts(), view.projection.documents());
        let lost = BTreeMap::new();
        let left_out = LeftOut { passed_over, parked };
        Ok(Self { view, contracts, log, left_out, cuts, documents, lost, start, reached: start })
    }

    /// Goes on through the log up to a position. `false` when the documents take more than this many bytes.
    pub(crate) async fn go_on(
        &mut self,
        through: Position,
        wanted: Wanted<'_>,
        last: Last<'_>,
        bytes_max: usize,
    ) -> Result<bool, ViewError> {
        let mut scan = self.log.scan(&self.reached, PAGE);
        while self.reached.position < through {
            let Some(mut events) = scan.next().await? else { break };
            events.truncate(events.partition_point(|event| event.position <= through));
            if let Some(event) = events.last() {
                self.reached = self.after(event);
            }
            self.take_in(events, wanted, last)?;
            if self.documents.bytes() > bytes_max {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Folds the events of some streams up to a position, of which a document is made.
    pub(crate) async fn take_in_streams(
        &mut self,
        key: &str,
        streams: &[StreamId],
        through: Position,
    ) -> Result<(), ViewError> {
        let (wanted, last) = (|other: &str| other == key, |_: &str| through);
        // Where one of them cannot be applied, those before it are all that is in the document.
        loop {
            let mut pages = Streams::new(self.log, streams.to_vec(), through);
            while let Some(events) = pages.next().await?.filter(|_| !self.lost.contains_key(key)) {
                self.take_in(events, &wanted, &last)?;
            }
            if self.lost.remove(key).is_none() {
                return Ok(());
            }
            self.restore(key, None)?;
        }
    }

    /// Where it stands behind an event.
    fn after(&self, event: &RecordedEvent) -> Checkpoint {
        Checkpoint { position: event.position, event_id: event.id, ..self.start }
    }

    /// Folds events, which come behind all that were folded before.
    pub(crate) fn take_in(
        &mut self,
        events: Vec<RecordedEvent>,
        wanted: Wanted<'_>,
        last: Last<'_>,
    ) -> Result<(), ViewError> {
        let (mut piece, mut rest) = (Vec::with_capacity(events.len()), events.into_iter().peekable());
        while let Some(event) = rest.next() {
            // One that was passed over for some document is a piece of its own.
            let is_cut = self.cuts.contains(&event.position);
            piece.push(event);
            if is_cut || rest.peek().is_none_or(|next| self.cuts.contains(&next.position)) {
                self.fold(std::mem::take(&mut piece), wanted, last)?;
            }
        }
        Ok(())
    }

    fn fold(&mut self, events: Vec<RecordedEvent>, wanted: Wanted<'_>, last: Last<'_>) -> Result<(), ViewError> {
        let events: Arc<[RecordedEvent]> = events.into();
        let only = match &*events {
            [event] => Some(event.position),
            _ => None,
        };
        let is_left_out = |key: &str| only.is_some_and(|position| self.is_passed_over(key, position, last(key)));
        let taken = |key: &str| wanted(key) && !self.lost.contains_key(key) && !is_left_out(key);
        let opened = fold::open(self.view.projection.as_ref(), self.contracts, events.clone(), &taken);
        let mut batch = opened.map_err(|unfit| {
            let at = unfit.position.or(events.first().map(|event| event.position)).unwrap_or_default();
            ViewError::Refused(format!("the event at {at} cannot be taken in: {}", unfit.reason))
        })?;
        let left_out = &self.left_out;
        let until = |key: &str| Some(left_out.end(key, last(key)));
        let not_applied = self.documents.fold(&mut *batch, &until);
        for one in not_applied {
            if let Some(error) = one.error {
                self.left_out.parked.insert(one.key.clone(), events[one.index].position);
                self.lost.insert(one.key, error);
            }
        }
        Ok(())
    }

    /// Whether an event is passed over for a document, as of `last`.
    pub(crate) fn is_passed_over(&self, key: &str, position: Position, last: Position) -> bool {
        self.left_out.is_passed_over(key, position, last)
    }

    /// Whether an event stands behind one that could not be applied to a document, or is that one.
    pub(crate) fn is_parked(&self, key: &str, position: Position) -> bool {
        self.left_out.parked.get(key).is_some_and(|parked| *parked <= position)
    }

    /// Folds those from the beginning that are to be folded again, now that it is known where they end.
    pub(crate) async fn mend(&mut self, last: Last<'_>) -> Result<(), ViewError> {
        while !self.lost.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            lost.keys().try_for_each(|key| self.restore(key, None))?;
            let reached = std::mem::replace(&mut self.reached, self.start);
            self.go_on(reached.position, &|key| lost.contains_key(key), last, usize::MAX).await?;
        }
        Ok(())
    }

    /// Learns what is parked by now and since which event, and what was passed over for it. Documents of which that changed
    /// are to be [mended](Self::mend).
    pub(crate) async fn renew(&mut self, parked: HashMap<String, Position>) -> Result<(), ViewError> {
        let passed_over = passed_over(self.log, self.view.table.projection).await?;
        self.cuts = cuts(&passed_over);
        let before = std::mem::replace(&mut self.left_out, LeftOut { passed_over, parked });
        let now = &self.left_out.parked;
        let keys = before.parked.keys().chain(now.keys());
        let changed = keys.filter(|key| before.parked.get(*key) != now.get(*key));
        self.lost.extend(changed.map(|key| (key.clone(), String::new())));
        Ok(())
    }

    /// Puts a document back to what it was.
    pub(crate) fn restore(&mut self, key: &str, document: Option<&Changed>) -> Result<(), ViewError> {
        let stored = document.and_then(|document| Some((document.body.as_deref()?, document.revision)));
        self.documents.load(key, stored).map_err(|source| ViewError::Damaged { key: key.to_owned(), source })
    }

    /// Why an event could not be applied to a document, unless that was asked before.
    pub(crate) fn take_failure(&mut self, key: &str) -> Option<String> {
        self.lost.remove(key)
    }

    /// The documents that were changed since this was asked last.
    pub(crate) fn changed(&mut self) -> Result<Vec<Changed>, ViewError> {
        self.documents.changed().map_err(|error| ViewError::Refused(error.to_string()))
    }
}

fn cuts(passed_over: &PassedOver) -> BTreeSet<Position> {
    passed_over.values().flat_map(BTreeMap::keys).copied().collect()
}

/// What operators passed over of a projection: it stands in one stream.
pub(crate) async fn passed_over(log: &Log, projection: &str) -> Result<PassedOver, ViewError> {
    let mut all = PassedOver::new();
    let mut acts = Streams::new(log, vec![acts_stream(projection)], Position::new(u64::MAX));
    while let Some(events) = acts.next().await? {
        for event in events {
            let act =
                DeadLetterAct::of(&event, projection).map_err(|error| ViewError::Refused(error.to_string()))?;
            if let Some((key, Some(position))) = act.as_ref().map(DeadLetterAct::parts) {
                all.entry(key.to_owned()).or_default().entry(position).or_insert(event.position);
            }
        }
    }
    Ok(all)
}

/// The events of some streams up to a position, in the order of the log, a page at a time.
struct Streams<'a> {
    log: &'a Log,
    through: Position,
    streams: Vec<OneStream>,
    /// How many events of each are read at a time.
    page: usize,
}

struct OneStream {
    /// What is read next; `None` behind the last one.
    filter: Option<EventFilter>,
    /// What was read, and stands behind what was read of others.
    read: VecDeque<RecordedEvent>,
}

impl<'a> Streams<'a> {
    fn new(log: &'a Log, streams: Vec<StreamId>, through: Position) -> Self {
        let page = (PAGE / streams.len().max(1)).max(1);
        let one = |stream| OneStream {
            filter: Some(EventFilter { stream: Some(stream), ..EventFilter::default() }),
            read: VecDeque::new(),
        };
        Self { log, through, streams: streams.into_iter().map(one).collect(), page }
    }

    /// The next events, of which there may be none; `None` behind the last ones.
    async fn next(&mut self) -> Result<Option<Vec<RecordedEvent>>, ViewError> {
        // Up to where all streams are read.
        let mut level = self.through;
        for OneStream { filter, read } in &mut self.streams {
            let Some(further) = filter else { continue };
            if read.is_empty() {
                let page = self.log.find(further, self.page).await?;
                read.extend(page.events);
                match page.next {
                    Some(next) if next < self.through => further.after = next,
                    _ => *filter = None,
                }
            }
            if let Some(further) = filter {
                level = level.min(further.after);
            }
        }
        let mut events = Vec::new();
        for OneStream { read, .. } in &mut self.streams {
            let behind = read.partition_point(|event| event.position <= level);
            events.extend(read.drain(..behind));
        }
        let is_over = events.is_empty() && self.streams.iter().all(|one| one.filter.is_none());
        events.sort_unstable_by_key(|event| event.position);
        Ok((!is_over).then_some(events))
    }
}
