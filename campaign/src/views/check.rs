//! What a reader may be shown, and what has to be there in the end. Pure: what is looked at is given.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use daybook_core::Position;

use super::domain::Tally;

/// What a line of a process's notes begins with when somebody was shown what is wrong.
const BREACH: &str = "breach: ";
/// The line of a read that was right.
const READ: &str = "read";
/// What a line begins with that says where projectors read.
const FED: &str = "fed from ";

/// What a process notes down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A read was right.
    Right,
    /// It was not, and why.
    Breach(String),
    /// Its projectors have read so many events there.
    Fed {
        /// Where they were read.
        source: String,
        /// How many.
        events: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str(READ),
            Self::Breach(what) => write!(f, "{BREACH}{what}"),
            Self::Fed { source, events } => write!(f, "{FED}{source}: {events}"),
        }
    }
}

/// The notes of a process. A line that it was killed over says nothing.
pub fn notes(text: &str) -> impl Iterator<Item = Note> {
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.filter_map(|line| {
        if let Some(what) = line.strip_prefix(BREACH) {
            return Some(Note::Breach(what.to_owned()));
        }
        if let Some((source, events)) = line.strip_prefix(FED).and_then(|fed| fed.split_once(": ")) {
            return Some(Note::Fed { source: source.to_owned(), events: events.parse().ok()? });
        }
        (line == READ).then_some(Note::Right)
    })
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answered<'a> {
    /// Which document was asked for.
    pub key: &'a str,
    /// Where it was changed, if whoever asks knows of that, and has to be shown it.
    pub wanted: Option<Position>,
    /// What the whole answer corresponds to.
    pub position: Position,
    /// The document, and where it was changed last.
    pub found: Option<(Tally, Position)>,
}

/// What a client was shown so far.
#[derive(Debug, Default)]
pub struct Shown {
    position: Position,
    /// How many events were in each document.
    tallies: HashMap<String, u64>,
}

impl Shown {
    /// Whether an answer shows what it has to, and nothing older than what was shown before.
    pub fn judge(&mut self, answered: &Answered<'_>) -> Note {
        let Answered { key, wanted, position, found } = answered;
        let (events, at) = found.as_ref().map_or((0, Position::START), |(tally, at)| (tally.events, *at));
        let before = self.tallies.get(*key).copied().unwrap_or_default();
        let breach = match wanted {
            Some(wanted) if position < wanted => Some(format!("{wanted} was wanted")),
            Some(wanted) if at < *wanted => Some(format!("it was changed at {wanted}, and is of {at}")),
            _ if *position < self.position => Some(format!("{} was shown before", self.position)),
            _ if events < before => Some(format!("{events} events are in it, where {before} were")),
            _ => None,
        };
        self.position = self.position.max(*position);
        self.tallies.insert((*key).to_owned(), events.max(before));
        match breach {
            None => Note::Right,
            Some(breach) => Note::Breach(format!("`{key}` at {position}: {breach}")),
        }
    }
}

/// In what the documents of a view, as they were listed, are not what they have to be according to `whom`.
pub fn compare<T: PartialEq + fmt::Debug>(
    listed: impl IntoIterator<Item = (String, T)>,
    expected: &BTreeMap<String, T>,
    whom: &str,
) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut found = BTreeMap::new();
    for (key, document) in listed {
        if found.insert(key.clone(), document).is_some() {
            breaches.push(format!("`{key}` is there twice"));
        }
    }
    for key in expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key))) {
        if expected.get(key) != found.get(key) {
            let (expected, found) = (expected.get(key), found.get(key));
            breaches.push(format!("`{key}` is {found:?}, and {expected:?} according to {whom}"));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(events: u64) -> Tally {
        Tally { events, sum: 10 * events, digest: 7 * events }
    }

    fn answered(wanted: Option<u64>, position: u64, found: Option<(u64, u64)>) -> Answered<'static> {
        let found = found.map(|(events, at)| (tally(events), Position::new(at)));
        Answered { key: "a", wanted: wanted.map(Position::new), position: Position::new(position), found }
    }

    /// What is read of the notes that a process makes about these answers.
    fn breaches(answers: &[Answered<'_>]) -> Vec<String> {
        let mut shown = Shown::default();
        let written: String = answers.iter().map(|answered| format!("{}\n", shown.judge(answered))).collect();
        let read: Vec<Note> = notes(&(written + "brea")).collect();
        assert_eq!(read.len(), answers.len());
        let breach = |note| if let Note::Breach(what) = note { Some(what) } else { None };
        read.into_iter().filter_map(breach).collect()
    }

    #[test]
    fn honest_answers_are_found_honest() {
        let none: [&str; 0] = [];
        assert_eq!(
            breaches(&[
                answered(None, 0, None),
                answered(Some(3), 3, Some((1, 3))),
                answered(Some(3), 9, Some((2, 8))),
                answered(None, 9, Some((2, 8))),
            ]),
            none
        );
    }

    #[test]
    fn a_stale_answer_is_found() {
        let first = answered(Some(5), 5, Some((2, 5)));
        assert_eq!(breaches(&[answered(Some(5), 4, Some((1, 3)))]), ["`a` at 4: 5 was wanted"]);
        let older = answered(Some(5), 6, Some((1, 3)));
        assert_eq!(breaches(&[older]), ["`a` at 6: it was changed at 5, and is of 3"]);
        assert_eq!(breaches(&[answered(Some(5), 6, None)]), ["`a` at 6: it was changed at 5, and is of 0"]);
        let back = answered(None, 4, Some((2, 3)));
        assert_eq!(breaches(&[first.clone(), back]), ["`a` at 4: 5 was shown before"]);
        let fewer = answered(None, 6, Some((1, 6)));
        assert_eq!(breaches(&[first, fewer]), ["`a` at 6: 1 events are in it, where 2 were"]);
    }

    #[test]
    fn where_projectors_read_is_read_from_what_they_noted() {
        let fed = |source: &str, events| Note::Fed { source: source.into(), events };
        let written = format!("{}\n{}\n{}", fed("log", 3), fed("kafka", 20), fed("kafka", 11));
        assert_eq!(notes(&written[..written.len() - 1]).collect::<Vec<_>>(), [fed("log", 3), fed("kafka", 20)]);
    }

    #[test]
    fn documents_that_are_lost_doubled_or_wrong_are_found() {
        let expected: BTreeMap<_, _> =
            [("a", tally(1)), ("b", tally(2))].map(|(key, of)| (key.to_owned(), of)).into();
        let found = |listed: &[(&str, Tally)]| {
            let listed = listed.iter().map(|(key, tally)| ((*key).to_owned(), tally.clone()));
            compare(listed, &expected, "the log")
        };
        let [a, b] = [("a", tally(1)), ("b", tally(2))];
        assert!(found(&[a.clone(), b.clone()]).is_empty());
        assert!(found(std::slice::from_ref(&a))[0].starts_with("`b` is None, and Some("));
        assert_eq!(found(&[a.clone(), b.clone(), a.clone()]), ["`a` is there twice"]);
        assert!(found(&[a.clone(), b.clone(), ("c", tally(1))])[0].starts_with("`c` is Some("));
        // An event that was folded twice, or not at all, or in another order.
        for wrong in [tally(3), tally(1), Tally { digest: 1, ..tally(2) }] {
            assert_eq!(found(&[a.clone(), ("b", wrong)]).len(), 1);
        }
    }
}
