use std::collections::BTreeMap;

use daybook_core::Revision;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

const KEYS: u64 = 6;
const RANGES: usize = 3;

/// Which document an event changes, if any.
fn key_at(position: u64) -> Option<u64> {
    let drawn = position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
    Some(drawn % 8).filter(|key| *key < KEYS)
}

fn range_of(key: u64) -> usize {
    key as usize % RANGES
}

/// The last event up to `position` that changes a document.
fn last_change(key: u64, position: u64) -> u64 {
    (1..=position).rev().find(|at| key_at(*at) == Some(key)).unwrap_or(0)
}

/// A view as its database has it: a document is the generation and the last event that changed it.
#[derive(Default)]
struct Model {
    generation: i64,
    ranges: [u64; RANGES],
    commits: BTreeMap<(u64, usize), Vec<u64>>,
}

impl Model {
    fn lowest(&self) -> u64 {
        self.ranges.into_iter().min().unwrap_or(0)
    }

    fn commit(&mut self, range: usize, count: u64) {
        let (from, to) = (self.ranges[range], self.ranges[range] + count);
        self.ranges[range] = to;
        let touched = (from + 1..=to).filter_map(key_at).filter(|key| range_of(*key) == range);
        let keys: Vec<_> = touched.collect();
        if !keys.is_empty() {
            self.commits.insert((to, range), keys);
        }
    }

    /// A look tells nothing where it would not tell all.
    fn look(&self, after: Option<Mark>) -> Look {
        let oldest = self.commits.keys().next().map(|(to, _)| Position::new(*to));
        let is_known = |after: &Mark| after.generation == self.generation && oldest <= Some(after.position);
        let from = after.filter(is_known).map_or(u64::MAX, |after| after.position.get() + 1);
        let behind = self.commits.range((from, 0)..);
        Look {
            mark: Mark { generation: self.generation, position: Position::new(self.lowest()) },
            oldest,
            keys: behind.flat_map(|(_, keys)| keys).map(u64::to_string).collect(),
            is_cut: false,
        }
    }

    /// Keeps the newest commit of those up to the `nth`.
    fn prune(&mut self, nth: usize) {
        let kept = self.commits.keys().nth(nth).map(|(to, _)| *to);
        self.commits.retain(|(to, _), _| kept.is_none_or(|kept| *to >= kept));
    }

    /// Another generation, which is in each range as far as this one at least, and whose commits are known from somewhere on.
    fn cut_over(&mut self, ahead: u64) {
        let ranges = self.ranges.map(|position| position + ahead);
        *self = Self { generation: self.generation + 1, ranges, commits: BTreeMap::new() };
    }

    fn document(&self, key: u64) -> Document {
        let at = last_change(key, self.ranges[range_of(key)]);
        let body = RawValue::from_string(format!("[{},{at}]", self.generation)).expect("JSON");
        Document { key: key.to_string(), body, position: Position::new(at), revision: Revision::new(1) }
    }

    fn read(&self, key: u64) -> Read {
        let answer = Answer { data: Some(self.document(key)), position: Position::new(self.lowest()) };
        Read::One(self.generation, answer)
    }

    fn read_page(&self) -> Read {
        let documents = (0..KEYS).map(|key| self.document(key)).collect();
        let answer = Answer { data: Page { documents, next: None }, position: Position::new(self.lowest()) };
        Read::Page(self.generation, answer)
    }
}

/// What was read of the database, and is not yet given to the cache.
enum Read {
    One(i64, Answer<Option<Document>>),
    Page(i64, Answer<Page>),
}

#[derive(Debug, Clone)]
enum Step {
    Commit(usize, u64),
    Prune(usize),
    CutOver(u64),
    Look,
    LookArrives,
    LookFails,
    Read(u64),
    ReadPage,
    /// The nth of those that were read arrives.
    ReadArrives(usize),
    Ask(u64, u64),
    AskPage(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..RANGES, 1..6_u64).prop_map(|(range, count)| Step::Commit(range, count)),
        1 => (0..8_usize).prop_map(Step::Prune),
        1 => (0..4_u64).prop_map(Step::CutOver),
        4 => Just(Step::Look),
        4 => Just(Step::LookArrives),
        1 => Just(Step::LookFails),
        6 => (0..KEYS).prop_map(Step::Read),
        2 => Just(Step::ReadPage),
        8 => (0..4_usize).prop_map(Step::ReadArrives),
        6 => (0..KEYS, 0..40_u64).prop_map(|(key, wanted)| Step::Ask(key, wanted)),
        3 => (0..40_u64).prop_map(Step::AskPage),
    ]
}

/// A document has in it everything up to the position that is answered with it, and is of the generation that the feed
/// knows.
fn check(document: &Document, generation: Option<i64>, position: Position, wanted: u64) {
    assert!(position >= Position::new(wanted), "less than what was asked for");
    let (of, at): (i64, u64) = serde_json::from_str(document.body.get()).expect("a document");
    assert_eq!(Some(of), generation, "of another generation");
    let key = document.key.parse().expect("a number");
    assert!(at >= last_change(key, position.get()), "{key} was answered as of {at} at {position}");
}

fn run(steps: Vec<Step>) -> usize {
    let (mut model, mut cache, mut hits) = (Model::default(), Cache::new(), 0);
    // What this process has answered last.
    let mut newest = Position::START;
    let mut answered = |position: Position, from_cache: bool| {
        assert!(!from_cache || position >= newest, "back from {newest} to {position}");
        newest = newest.max(position);
    };
    let mut look = None;
    let mut reads = Vec::new();
    for step in steps {
        match step {
            Step::Commit(range, count) => model.commit(range, count),
            Step::Prune(nth) => model.prune(nth),
            Step::CutOver(ahead) => model.cut_over(ahead),
            Step::Look => look = Some(model.look(cache.looks_from())),
            Step::LookArrives => {
                if let Some(look) = look.take() {
                    cache.advance(look, Instant::now());
                }
            }
            Step::LookFails => {
                look = None;
                cache.lose();
                assert!(cache.document("0", Position::START).is_none(), "it is not known what changed");
            }
            Step::Read(key) => reads.push(model.read(key)),
            Step::ReadPage => reads.push(model.read_page()),
            Step::ReadArrives(nth) if nth < reads.len() => match reads.swap_remove(nth) {
                Read::One(generation, answer) => {
                    cache.keep_document(generation, &answer);
                    answered(answer.position, false);
                }
                Read::Page(generation, answer) => {
                    cache.keep_page("all".into(), generation, &answer);
                    answered(answer.position, false);
                }
            },
            Step::ReadArrives(_) => {}
            Step::Ask(key, wanted) => {
                let generation = cache.at.map(|at| at.generation);
                if let Some(found) = cache.document(&key.to_string(), Position::new(wanted)) {
                    hits += 1;
                    answered(found.position, true);
                    check(&found.data, generation, found.position, wanted);
                }
            }
            Step::AskPage(wanted) => {
                let generation = cache.at.map(|at| at.generation);
                if let Some(found) = cache.page("all", Position::new(wanted)) {
                    hits += 1;
                    answered(found.position, true);
                    found.data.documents.iter().for_each(|one| check(one, generation, found.position, wanted));
                }
            }
        }
    }
    hits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_answered_has_all_up_to_its_position(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps);
    }
}

#[test]
fn what_nobody_changes_is_answered_again() {
    let steps = [Step::Commit(0, 9), Step::Commit(1, 9), Step::Commit(2, 9), Step::Look, Step::LookArrives];
    let read = [Step::Read(1), Step::ReadArrives(0), Step::ReadPage, Step::ReadArrives(0)];
    let asked = [Step::Ask(1, 9), Step::Ask(1, 10), Step::AskPage(9)];
    assert_eq!(run(steps.into_iter().chain(read).chain(asked).collect()), 2);
}

#[test]
fn entries_are_bounded_in_number_and_bytes() {
    let mut entries = Entries::new(4, 10_000);
    let keys = |entries: &mut Entries<u32>, all: &[&str]| {
        all.iter().filter(|key| entries.get(key, Position::START, Position::START).is_some()).count()
    };
    for key in ["a", "b", "c", "d", "e"] {
        entries.put(key.into(), 0, 100, Position::START);
    }
    assert_eq!(keys(&mut entries, &["a", "b", "c", "d", "e"]), 4);
    assert!(entries.get("a", Position::START, Position::START).is_none(), "the oldest goes first");
    entries.put("big".into(), 0, 2_000, Position::START);
    assert_eq!(keys(&mut entries, &["big"]), 0, "one does not push out all others");

    let mut entries = Entries::new(1_000, 10_000);
    for key in 0..100 {
        entries.put(key.to_string(), key, 700, Position::START);
        assert!(entries.bytes.load(Ordering::Relaxed) <= 10_000);
    }
    assert!(entries.entries.cache_size() >= 9);
    entries.put("99".into(), 0, 700, Position::START);
    entries.remove("99");
    entries.clear();
    assert_eq!(entries.bytes.load(Ordering::Relaxed), 0);
}
