//! The verdicts: what becomes of each append of a group, given what is so in the log.
//!
//! A pure function, the same on every database. A store locks the head, *then* reads what a [`Group`] asks for, and
//! writes what its [`Plan`] says. Each append sees what those before it in the group have written, and one that
//! fails leaves nothing behind.

use std::hash::Hash;

use ahash::{HashMap, HashMapExt, HashSet, HashSetExt};
use chrono::{DateTime, Utc};
use daybook_core::{Position, Receipt, ReceiptEvent, Revision, StreamId};
use uuid::Uuid;

use crate::known::{Change, Tip};
use crate::prepare::Prepared;
use crate::{Claim, Conflict, IdempotencyKey, NewRecord, Verdict};

/// Appends that are decided and written together, and what has to be known for that. Each question is asked once.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    appends: &'a [&'a Prepared],
    /// The streams whose revisions are needed.
    pub(crate) streams: Vec<AskedStream<'a>>,
    /// The claims whose holders are needed: name and key.
    pub(crate) claims: Vec<(&'a str, &'a str)>,
    /// The digests of the idempotency keys whose receipts are needed.
    pub(crate) keys: Vec<&'a [u8; 32]>,
    /// Whether a claim is given back.
    pub(crate) releases: bool,
}

/// A stream whose revision is needed, and what is known of it.
#[derive(Debug)]
pub(crate) struct AskedStream<'a> {
    /// The stream.
    pub(crate) stream: &'a StreamId,
    /// The revision at which it was read, and where the log was then.
    pub(crate) read: Option<(Revision, Position)>,
    /// Whether it is written to and has to be new.
    pub(crate) begins: bool,
}

/// What is so in the log, in the order of the questions.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The revision of each stream.
    pub(crate) revisions: Vec<Revision>,
    /// Who holds each claim.
    pub(crate) holders: Vec<Option<StreamId>>,
    /// What was kept under each idempotency key that has not expired.
    pub(crate) kept: Vec<Option<Kept>>,
}

/// What is kept under an idempotency key.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Digest of the command's body.
    pub(crate) body: [u8; 32],
    /// What the command got.
    pub(crate) receipt: Receipt,
}

impl Kept {
    /// The verdict on another command with the same key.
    pub(crate) fn verdict(&self, key: &IdempotencyKey) -> Verdict {
        if self.body == key.body { Verdict::Repeated(self.receipt.clone()) } else { Verdict::KeyReused }
    }
}

/// What is to be written, and the verdicts that hold once it is.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The verdict on each append.
    pub(crate) verdicts: Vec<Verdict>,
    /// The events.
    pub(crate) events: Vec<PlannedEvent<'a>>,
    /// The claims that get a holder: name, key, holder.
    pub(crate) taken: Vec<(&'a str, &'a str, &'a StreamId)>,
    /// The claims that lose theirs: name and key. They come before those that are taken.
    pub(crate) released: Vec<(&'a str, &'a str)>,
    /// The idempotency keys, with the JSON of the receipts.
    pub(crate) keys: Vec<(&'a IdempotencyKey, String)>,
}

/// An event and where it comes to stand.
#[derive(Debug)]
pub(crate) struct PlannedEvent<'a> {
    /// Its place in the log.
    pub(crate) position: Position,
    /// Its place in its stream.
    pub(crate) revision: Revision,
    /// The event.
    pub(crate) record: &'a NewRecord,
    /// The JSON of its metadata.
    pub(crate) metadata: &'a str,
}

impl Plan<'_> {
    /// The streams that it writes to, and where they are then.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let change =
            |event: &PlannedEvent<'_>| Change { stream: event.record.stream.clone(), revision: event.revision };
        self.events.iter().map(change).collect()
    }

    /// The first event that it writes.
    pub(crate) fn first(&self) -> Option<(Position, Uuid)> {
        self.events.first().map(|event| (event.position, event.record.id))
    }

    /// What is known of it while nobody knows whether it was committed: its first event tells. The verdicts of one that
    /// writes nothing hold either way, since they were read with all others kept out.
    pub(crate) fn uncommitted(&self) -> Result<(), Option<(Position, Uuid)>> {
        if self.is_empty() { Ok(()) } else { Err(self.first()) }
    }

    /// The log's end once it is written.
    pub(crate) fn tip(&self, before: &Tip, recorded_at: DateTime<Utc>) -> Tip {
        match self.events.last() {
            Some(last) => Tip { position: last.position, id: Some(last.record.id), recorded_at },
            None => *before,
        }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.taken.is_empty() && self.released.is_empty() && self.keys.is_empty()
    }
}

impl<'a> Group<'a> {
    /// Whether something was to be written, and others had changed what it was decided over.
    pub(crate) fn lost(&self, plan: &Plan<'_>) -> bool {
        let lost = |(prepared, verdict): (&&Prepared, &Verdict)| {
            matches!(verdict, Verdict::Conflict(_)) && !prepared.append.events.is_empty()
        };
        self.appends.iter().zip(&plan.verdicts).any(lost)
    }

    /// Asks what has to be known to decide over `appends`.
    pub(crate) fn new(appends: &'a [&'a Prepared]) -> Self {
        let appended = || appends.iter().map(|prepared| &prepared.append);
        let claims = || appended().flat_map(|append| &append.claims);
        Self {
            appends,
            streams: asked_streams(appends),
            claims: each_once(claims().map(|claim| parts(claim).0)),
            keys: each_once(appended().filter_map(|append| append.key.as_ref()).map(|key| &key.digest)),
            releases: claims().any(|claim| matches!(claim, Claim::Release { .. })),
        }
    }

    /// Whether the verdicts of a plan that was made on assumptions hold once the database has taken it at the tip that
    /// they were made for. What is written proves them; an append that failed proves nothing, nor do claims and keys
    /// alone: they take no position that somebody else may have taken meanwhile.
    pub(crate) fn is_proven_by(&self, plan: &Plan<'_>) -> bool {
        if plan.events.is_empty() && !plan.is_empty() {
            return false;
        }
        let committed = |verdict: &Verdict| matches!(verdict, Verdict::Committed(_));
        let assumes_nothing = || {
            let keys = self
                .appends
                .iter()
                .zip(&plan.verdicts)
                .any(|(prepared, verdict)| !committed(verdict) && prepared.append.key.is_some());
            !keys && !self.streams.iter().any(|asked| asked.begins)
        };
        plan.verdicts.iter().all(committed) || assumes_nothing()
    }

    /// Decides over the appends in their order, in a log that ends at `head`.
    pub(crate) fn decide(&self, head: Position, answers: &'a Answers) -> Plan<'a> {
        let mut walk = Walk {
            head,
            revisions: self
                .streams
                .iter()
                .map(|asked| asked.stream)
                .zip(answers.revisions.iter().copied())
                .collect(),
            failed: HashSet::new(),
            holders: self.claims.iter().copied().zip(answers.holders.iter().map(Option::as_ref)).collect(),
            kept: HashMap::new(),
            events: Vec::new(),
            keys: Vec::new(),
        };
        for (digest, kept) in self.keys.iter().zip(&answers.kept) {
            if let Some(kept) = kept {
                walk.kept.insert(digest, kept.clone());
            }
        }
        let verdicts = self.appends.iter().map(|prepared| walk.step(prepared)).collect();
        let (mut taken, mut released) = (Vec::new(), Vec::new());
        for (claim, before) in self.claims.iter().zip(&answers.holders) {
            let now = walk.holders.get(claim).copied().flatten();
            if now == before.as_ref() {
                continue;
            }
            if before.is_some() {
                released.push(*claim);
            }
            if let Some(holder) = now {
                taken.push((claim.0, claim.1, holder));
            }
        }
        Plan { verdicts, events: walk.events, taken, released, keys: walk.keys }
    }
}

/// What is so after the appends that were walked over so far.
struct Walk<'a> {
    head: Position,
    revisions: HashMap<&'a StreamId, Revision>,
    /// The tickets of those that were not taken in.
    failed: HashSet<usize>,
    holders: HashMap<(&'a str, &'a str), Option<&'a StreamId>>,
    kept: HashMap<&'a [u8; 32], Kept>,
    events: Vec<PlannedEvent<'a>>,
    keys: Vec<(&'a IdempotencyKey, String)>,
}

impl<'a> Walk<'a> {
    /// The verdict on the next append.
    fn step(&mut self, prepared: &'a Prepared) -> Verdict {
        self.take(prepared).unwrap_or_else(|verdict| {
            self.failed.insert(prepared.ticket.id());
            verdict
        })
    }

    /// Takes one append in, or leaves everything as it was and says why. The error is a verdict too.
    fn take(&mut self, prepared: &'a Prepared) -> Result<Verdict, Verdict> {
        let append = &prepared.append;
        if let Some(key) = &append.key
            && let Some(kept) = self.kept.get(&key.digest)
        {
            return Err(kept.verdict(key));
        }
        if append.after.iter().any(|ticket| self.failed.contains(&ticket.id()) || ticket.outcome() == Some(false))
        {
            return Err(Verdict::Abandoned);
        }
        for expected in &append.expected {
            let actual = self.revision(&expected.stream);
            if actual != expected.revision {
                let (stream, expected) = (expected.stream.clone(), expected.revision);
                return Err(Verdict::Conflict(Conflict { stream, expected, actual }));
            }
        }
        let holders = self.claim(&append.claims)?;

        let receipt = self.receipt(prepared);
        let key = match &append.key {
            Some(key) => {
                let json = serde_json::to_string(&receipt).map_err(|error| Verdict::Invalid(error.to_string()))?;
                Some((key, json))
            }
            None => None,
        };
        // Nothing can fail any more.
        self.holders.extend(holders);
        for (record, place) in append.events.iter().zip(&receipt.events) {
            let (position, revision) = (place.position, place.revision);
            self.events.push(PlannedEvent { position, revision, record, metadata: &prepared.metadata });
            self.revisions.insert(&record.stream, revision);
            self.head = position;
        }
        if let Some((key, json)) = key {
            self.kept.insert(&key.digest, Kept { body: key.body, receipt: receipt.clone() });
            self.keys.push((key, json));
        }
        Ok(Verdict::Committed(receipt))
    }

    fn revision(&self, stream: &StreamId) -> Revision {
        self.revisions.get(stream).copied().unwrap_or_default()
    }

    /// The holders that change when `claims` are worked off in their order.
    fn claim(&self, claims: &'a [Claim]) -> Result<HashMap<(&'a str, &'a str), Option<&'a StreamId>>, Verdict> {
        let mut changed = HashMap::new();
        for (index, claim) in claims.iter().enumerate() {
            let (claimed, wanted) = parts(claim);
            let holder =
                changed.get(&claimed).copied().or_else(|| self.holders.get(&claimed).copied()).unwrap_or_default();
            match (claim, holder) {
                (Claim::Take { .. }, Some(holder)) if holder != wanted => {
                    return Err(Verdict::ClaimTaken { index, holder: holder.clone() });
                }
                (Claim::Take { .. }, _) => {
                    changed.insert(claimed, Some(wanted));
                }
                (Claim::Release { .. }, Some(holder)) if holder == wanted => {
                    changed.insert(claimed, None);
                }
                (Claim::Release { .. }, _) => {}
            }
        }
        Ok(changed)
    }

    /// The receipt of an append that holds: where each of its events comes to stand.
    fn receipt(&self, prepared: &Prepared) -> Receipt {
        let append = &prepared.append;
        let mut revisions: HashMap<&StreamId, Revision> = HashMap::new();
        let mut position = self.head;
        let mut events = Vec::with_capacity(append.events.len());
        for event in &append.events {
            position = position.plus(1);
            let revision = revisions.entry(&event.stream).or_insert_with(|| self.revision(&event.stream));
            *revision = revision.plus(1);
            events.push(ReceiptEvent {
                event_type: event.event_type.clone(),
                stream: event.stream.clone(),
                revision: *revision,
                position,
            });
        }
        Receipt { id: append.id.clone(), command_id: append.command_id, position, events }
    }
}

/// The streams that appends name, each once, with what the appends tell of them.
fn asked_streams<'a>(appends: &[&'a Prepared]) -> Vec<AskedStream<'a>> {
    let mut asked: Vec<AskedStream<'a>> = Vec::new();
    let mut places: HashMap<&StreamId, usize> = HashMap::new();
    for append in appends.iter().map(|prepared| &prepared.append) {
        let mut place_of = |stream: &'a StreamId, asked: &mut Vec<AskedStream<'a>>| {
            *places.entry(stream).or_insert_with(|| {
                asked.push(AskedStream { stream, read: None, begins: false });
                asked.len() - 1
            })
        };
        for expected in &append.expected {
            let place = place_of(&expected.stream, &mut asked);
            let known = &mut asked[place];
            known.read = known.read.or(expected.read_at.map(|at| (expected.revision, at)));
            known.begins |= expected.revision == Revision::NONE
                && append.events.iter().any(|event| event.stream == expected.stream);
        }
        for event in &append.events {
            place_of(&event.stream, &mut asked);
        }
    }
    asked
}

/// What a claim is about (name and key), and the stream that takes or releases it.
fn parts(claim: &Claim) -> ((&str, &str), &StreamId) {
    let (Claim::Take { name, key, holder } | Claim::Release { name, key, holder }) = claim;
    ((name, key), holder)
}

fn each_once<T: Copy + Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(*item)).collect()
}

#[cfg(test)]
mod tests;
