//! Hand-made evidence, for the checker's tests: a log that is written as told, whether that is right or not.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

use chrono::DateTime;
use daybook_core::{Position, Receipt, ReceiptEvent, Revision, StreamId};
use uuid::{NoContext, Timestamp, Uuid};

use super::{Breach, Entry, Evidence, Report, Sighting, check};
use crate::domain::{Act, CATEGORY, Changed, Claiming, Seen, TAKEN, Thing};
use crate::journal::{Answer, Intent, Micros, Record};

/// The things at some time.
pub(super) type State = HashMap<String, Thing>;

/// Evidence in the making. Every step takes one microsecond.
pub(super) struct Story {
    pub(super) evidence: Evidence,
    pub(super) state: State,
    now: Micros,
    intents: HashMap<String, Intent>,
}

impl Story {
    pub(super) fn new() -> Self {
        let journals = ["1.1", "2.1"].map(|life| (life.to_owned(), Vec::new())).into();
        let evidence = Evidence { journals, ..Evidence::default() };
        Self { evidence, state: State::new(), now: 1_000, intents: HashMap::new() }
    }

    /// Somebody asks for something with a key, at the first writer.
    pub(super) fn send(&mut self, token: &str, act: Act) {
        self.intend(Intent { token: token.into(), act, keyed: true, if_match: None });
    }

    /// Somebody asks for something, at the first writer.
    pub(super) fn intend(&mut self, intent: Intent) {
        self.note(0, Record::Intent(intent.clone()));
        self.intents.insert(intent.token.clone(), intent.clone());
        self.send_to(0, &intent.token);
    }

    /// It is sent to a writer.
    pub(super) fn send_to(&mut self, writer: usize, token: &str) {
        let at = self.tick();
        self.note(writer, Record::Sent { token: token.into(), attempt: 1, at });
    }

    /// The first writer answers.
    pub(super) fn answer(&mut self, token: &str, answer: Answer) {
        self.answer_from(0, token, answer);
    }

    /// A writer answers.
    pub(super) fn answer_from(&mut self, writer: usize, token: &str, answer: Answer) {
        let at = self.tick();
        self.note(writer, Record::Answered { token: token.into(), attempt: 1, at, answer });
    }

    pub(super) fn note(&mut self, writer: usize, record: Record) {
        self.evidence.journals[writer].1.push(record);
    }

    /// The reader sees all that there is.
    pub(super) fn look(&mut self) {
        let at = self.tick();
        self.evidence.sightings.push(Sighting { through: self.evidence.log.len() as u64, at });
    }

    /// What was asked for is decided over `state`, and written wherever the log ends.
    pub(super) fn write_over(&mut self, token: &str, state: &State) -> Receipt {
        let act = self.intents[token].act.clone();
        let (seen, values) = read(&act, state);
        let change = act.decide(&values).expect("it is not refused");
        let parts = change.values.len();
        let mut events = Vec::new();
        for (part, (thing, value)) in (1..).zip(change.values) {
            let changed = Changed { token: token.into(), part: (part, parts), value, seen: seen.clone() };
            events.push(self.append(&seen[thing].thing, changed));
        }
        let holder = act.target();
        match change.claim {
            Some(Claiming::Take(name)) => self.evidence.names.push((name.to_string(), holder)),
            Some(Claiming::Release(name)) => self.evidence.names.retain(|(held, _)| *held != name.to_string()),
            None => {}
        }
        let position = Position::new(self.evidence.head);
        Receipt { id: "1".into(), command_id: Uuid::nil(), position, events }
    }

    /// What was asked for is decided over what is so, and written.
    pub(super) fn write(&mut self, token: &str) -> Receipt {
        let state = self.state.clone();
        self.write_over(token, &state)
    }

    /// An event is written.
    pub(super) fn append(&mut self, name: &str, changed: Changed) -> ReceiptEvent {
        self.evidence.head += 1;
        let thing = self.state.entry(name.to_owned()).or_default();
        *thing = Thing { revision: thing.revision + 1, value: changed.value, tip: changed.token.clone() };
        let (position, revision) = (self.evidence.head, thing.revision);
        let stream = StreamId::new(CATEGORY, name);
        self.evidence.log.push(Entry {
            position,
            stream: stream.to_string(),
            revision,
            recorded_at: DateTime::from_timestamp(self.evidence.head as i64, 0).expect("a time"),
            command: Uuid::nil(),
            changed: Some(changed),
        });
        let (position, revision) = (Position::new(position), Revision::new(revision));
        ReceiptEvent { event_type: "campaign.changed".into(), stream, revision, position }
    }

    /// Asked for, written and acknowledged.
    pub(super) fn tell(&mut self, token: &str, act: Act) -> Receipt {
        self.send(token, act);
        let receipt = self.write(token);
        self.answer(token, Answer::Done(receipt.clone()));
        receipt
    }

    /// Asked for, and rejected over `state`.
    pub(super) fn reject(&mut self, token: &str, state: &State) {
        let (seen, values) = read(&self.intents[token].act, state);
        // What the rules let through is refused when a name is another's.
        let code = self.intents[token].act.decide(&values).map_or_else(|code| code, |_| TAKEN).to_owned();
        self.answer(token, Answer::Rejected { code, seen });
    }

    /// Somebody tries out what would be, and is answered.
    pub(super) fn try_out(&mut self, act: Act, answer: Answer) {
        let intent = Intent { token: "dry".into(), act, keyed: false, if_match: None };
        let (sent, at) = (self.tick(), self.tick());
        self.note(0, Record::TriedOut { intent, sent, at, answer });
    }

    /// What is answered to somebody who tries an act out over `state`.
    pub(super) fn would_be(&self, act: &Act, state: &State) -> Answer {
        let (seen, values) = read(act, state);
        match act.decide(&values) {
            Err(code) => Answer::Rejected { code: code.into(), seen },
            Ok(change) => {
                let parts = change.values.len();
                let changed = |(part, (thing, value)): (usize, (usize, i64))| {
                    let (token, seen) = ("dry".into(), seen.clone());
                    (seen[thing].thing.clone(), Changed { token, part: (part, parts), value, seen })
                };
                let changes = (1..).zip(change.values).map(changed).collect();
                Answer::WouldBe { position: self.evidence.head, changes }
            }
        }
    }

    pub(super) fn check(&self) -> Report {
        check(&self.evidence)
    }

    /// What the checker finds, each kind once.
    pub(super) fn breaches(&self) -> Vec<Breach> {
        let kinds: BTreeSet<_> = self.check().violations.iter().map(|violation| violation.breach).collect();
        kinds.into_iter().collect()
    }

    /// A millisecond passes, and the id of a command that is taken on then.
    pub(super) fn begin(&mut self) -> Uuid {
        self.now += 1_000;
        let time = Timestamp::from_unix(NoContext, 0, u32::try_from(self.now * 1_000).expect("it is early"));
        Uuid::new_v7(time)
    }

    fn tick(&mut self) -> Micros {
        self.now += 1;
        self.now
    }
}

fn read(act: &Act, state: &State) -> (Vec<Seen>, Vec<i64>) {
    let look = |name: &str| Ok::<_, Infallible>((name.to_owned(), state.get(name).cloned().unwrap_or_default()));
    let Ok(things) = act.read(|(_, thing): &(String, Thing)| thing.value, look);
    let seen = |(name, thing): &(String, Thing)| Seen {
        thing: name.clone(),
        revision: thing.revision,
        tip: thing.tip.clone(),
    };
    (things.iter().map(seen).collect(), things.iter().map(|(_, thing)| thing.value).collect())
}
