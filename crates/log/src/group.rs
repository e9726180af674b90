//! The verdicts: what becomes of each append of a group, given what is so in the log.
//!
//! A pure function, the same on every database. A store locks the head, *then* reads what a [`Group`] asks for, and
//! writes what its [`Plan`] says. Each append sees what those before it in the group have written, and one that
//! fails leaves nothing behind.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use daybook_core::{Position, Receipt, ReceiptEvent, Revision, StreamId};

use crate::prepare::Prepared;
use crate::{Claim, Conflict, IdempotencyKey, NewRecord, Verdict};

/// Appends that are decided and written together, and what has to be known for that. Each question is asked once.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    appends: &'a [&'a Prepared],
    /// The streams whose revisions are needed.
    pub(crate) streams: Vec<&'a StreamId>,
    /// The claims whose holders are needed: name and key.
    pub(crate) claims: Vec<(&'a str, &'a str)>,
    /// The digests of the idempotency keys whose receipts are needed.
    pub(crate) keys: Vec<&'a [u8; 32]>,
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
    /// Where the log ends then.
    pub(crate) head: Position,
    /// The events.
    pub(crate) events: Vec<PlannedEvent<'a>>,
    /// The claims that get a new holder: name, key, holder.
    pub(crate) taken: Vec<(&'a str, &'a str, &'a StreamId)>,
    /// The claims that nobody holds any more: name and key.
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
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.taken.is_empty() && self.released.is_empty() && self.keys.is_empty()
    }
}

impl<'a> Group<'a> {
    /// Asks what has to be known to decide over `appends`.
    pub(crate) fn new(appends: &'a [&'a Prepared]) -> Self {
        let appended = || appends.iter().map(|prepared| &prepared.append);
        let named = |append: &'a crate::Append| {
            let expected = append.expected.iter().map(|expected| &expected.stream);
            expected.chain(append.events.iter().map(|event| &event.stream))
        };
        Self {
            appends,
            streams: each_once(appended().flat_map(named)),
            claims: each_once(appended().flat_map(|append| &append.claims).map(|claim| parts(claim).0)),
            keys: each_once(appended().filter_map(|append| append.key.as_ref()).map(|key| &key.digest)),
        }
    }

    /// Decides over the appends in their order, in a log that ends at `head`.
    pub(crate) fn decide(&self, head: Position, answers: &'a Answers) -> Plan<'a> {
        let mut walk = Walk {
            head,
            revisions: self.streams.iter().copied().zip(answers.revisions.iter().copied()).collect(),
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
        let verdicts =
            self.appends.iter().map(|prepared| walk.take(prepared).unwrap_or_else(|verdict| verdict)).collect();
        let (mut taken, mut released) = (Vec::new(), Vec::new());
        for (claim, before) in self.claims.iter().zip(&answers.holders) {
            match walk.holders.get(claim).copied().flatten() {
                now if now == before.as_ref() => {}
                Some(holder) => taken.push((claim.0, claim.1, holder)),
                None => released.push(*claim),
            }
        }
        Plan { verdicts, head: walk.head, events: walk.events, taken, released, keys: walk.keys }
    }
}

/// What is so after the appends that were walked over so far.
struct Walk<'a> {
    head: Position,
    revisions: HashMap<&'a StreamId, Revision>,
    holders: HashMap<(&'a str, &'a str), Option<&'a StreamId>>,
    kept: HashMap<&'a [u8; 32], Kept>,
    events: Vec<PlannedEvent<'a>>,
    keys: Vec<(&'a IdempotencyKey, String)>,
}

impl<'a> Walk<'a> {
    /// Takes one append in, or leaves everything as it was and says why. The error is a verdict too.
    fn take(&mut self, prepared: &'a Prepared) -> Result<Verdict, Verdict> {
        let append = &prepared.append;
        if let Some(key) = &append.key
            && let Some(kept) = self.kept.get(&key.digest)
        {
            return Err(kept.verdict(key));
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
