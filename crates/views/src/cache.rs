//! Documents and pages that were read before. Pure: what changed is told to it by its [feed](crate::feed).
//!
//! **Architecture invariant:** an entry that was read at position *c* is put in only if *c* is not behind the feed's position
//! *F*, under the same lock. Whatever changed the document behind *c* was then committed behind *F* too, so the feed has it
//! still before it, or meets it again: changes up to *F* are what it has passed for good. So an entry that is there is true
//! up to the later one of *c* and *F*, and says so; and nothing that lies behind a position that was asked for is taken for
//! the answer (P5). Nor does a reader ever go back: what was answered of the database, ahead of the feed, is a position
//! that everybody is answered from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cached::{Cached, LruCache};
use daybook_core::Position;
use tokio::time::Instant;

use crate::mark::Mark;
use crate::store::changes::Look;
use crate::{Answer, Document, Page};

/// The most that is kept of a view's documents, and of its pages.
const ENTRIES_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 << 20;

/// What an entry takes beside its texts, about.
const ENTRY_BYTES: usize = 256;

/// For how long after its last look a feed counts as knowing what has changed.
const SOUND_FOR: Duration = Duration::from_secs(2);

/// What a look has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The view has come this far, and these documents have changed.
    Changed(Mark, Arc<[String]>),
    /// It has come this far, and any of its documents may have changed.
    Anew(Mark),
}

pub(crate) struct Cache {
    /// How far what changed is known, of which generation.
    at: Option<Mark>,
    /// When the last look began; `None` when it failed.
    looked: Option<Instant>,
    /// The furthest position that was answered of the database.
    answered: Position,
    documents: Entries<Document>,
    pages: Entries<Page>,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let (documents, pages) = (Entries::new(ENTRIES_MAX, BYTES_MAX), Entries::new(ENTRIES_MAX, BYTES_MAX));
        Self { at: None, looked: None, answered: Position::START, documents, pages }
    }

    /// How far what changed is known, if the feed is sound.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let is_sound = self.looked.is_some_and(|looked| looked.elapsed() < SOUND_FOR);
        self.at.filter(|_| is_sound)
    }

    /// From where on a look has to tell changes; from its own state on, when none was before.
    pub(crate) fn looks_from(&self) -> Option<Mark> {
        self.at
    }

    /// Takes in a look that `began` then.
    pub(crate) fn advance(&mut self, look: Look, began: Instant) -> Told {
        self.looked = Some(began);
        let before = self.at.replace(look.mark);
        if !before.is_some_and(|at| look.has_all_since(at)) {
            self.documents.clear();
            self.pages.clear();
            return Told::Anew(look.mark);
        }
        if !look.keys.is_empty() {
            look.keys.iter().for_each(|key| self.documents.remove(key));
            // Whether a document comes into a page, or leaves it, is not looked at.
            self.pages.clear();
        }
        Told::Changed(look.mark, look.keys.into())
    }

    /// It is not known what changes, until the next look. What is there stays: that look tells all since the last one.
    pub(crate) fn lose(&mut self) {
        self.looked = None;
    }

    /// Forgets everything: nobody looks any more.
    pub(crate) fn end(&mut self) {
        *self = Self::new();
    }

    /// The document with this key, if it is there and true up to `position` at least.
    pub(crate) fn document(&mut self, key: &str, position: Position) -> Option<Answer<Document>> {
        let reached = self.mark()?.position;
        self.documents.get(key, reached, position.max(self.answered))
    }

    /// Keeps a document that was read of a generation.
    pub(crate) fn keep_document(&mut self, generation: i64, read: &Answer<Option<Document>>) {
        let is_new = self.takes(generation, read.position);
        if let Some(document) = read.data.as_ref().filter(|_| is_new) {
            self.documents.put(document.key.clone(), document.clone(), document.bytes(), read.position);
        }
    }

    /// The page that a query has, if it is there and true up to `position` at least.
    pub(crate) fn page(&mut self, query: &str, position: Position) -> Option<Answer<Page>> {
        let reached = self.mark()?.position;
        self.pages.get(query, reached, position.max(self.answered))
    }

    /// Keeps a page that was read of a generation.
    pub(crate) fn keep_page(&mut self, query: String, generation: i64, read: &Answer<Page>) {
        if self.takes(generation, read.position) {
            let bytes = read.data.documents.iter().map(Document::bytes).sum();
            self.pages.put(query, read.data.clone(), bytes, read.position);
        }
    }

    /// Whether what was read of a generation at a position misses no change that the feed has passed. Its reader knows
    /// of that position, and is to be answered nothing older.
    fn takes(&mut self, generation: i64, position: Position) -> bool {
        self.answered = self.answered.max(position);
        self.at.is_some_and(|at| at.generation == generation && at.position <= position)
    }
}

/// Entries by their keys; those that were asked for longest ago go first. Bounded in number and bytes.
struct Entries<T> {
    entries: LruCache<String, Entry<T>>,
    entries_max: usize,
    /// What all entries take.
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

struct Entry<T> {
    data: T,
    /// Where it was read.
    position: Position,
    _weight: Weight,
}

/// Counts for as long as its entry is there, however that goes.
struct Weight {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Weight {
    fn new(bytes: usize, all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, all: all.clone() }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<T: Clone> Entries<T> {
    fn new(entries_max: usize, bytes_max: usize) -> Self {
        // Room is made as it is needed, not at once.
        let mut entries = LruCache::new(1);
        entries.set_max_size(entries_max);
        Self { entries, entries_max, bytes: Arc::default(), bytes_max }
    }

    /// What is there with this key, if it is true up to `wanted` at least, when what changed is known up to `reached`.
    fn get(&mut self, key: &str, reached: Position, wanted: Position) -> Option<Answer<T>> {
        let entry = self.entries.cache_get(key)?;
        let position = reached.max(entry.position);
        (position >= wanted).then(|| Answer { data: entry.data.clone(), position })
    }

    fn put(&mut self, key: String, data: T, bytes: usize, position: Position) {
        let bytes = bytes + key.len() + ENTRY_BYTES;
        // One alone is not to push out all others.
        if bytes > self.bytes_max / 8 {
            return;
        }
        let entry = Entry { data, position, _weight: Weight::new(bytes, &self.bytes) };
        self.entries.cache_set(key, entry);
        while self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            self.entries.set_max_size((self.entries.cache_size() - 1).max(1));
        }
        self.entries.set_max_size(self.entries_max);
    }

    fn remove(&mut self, key: &str) {
        drop(self.entries.cache_remove(key));
    }

    fn clear(&mut self) {
        self.entries.cache_clear();
    }
}

#[cfg(test)]
mod tests;
