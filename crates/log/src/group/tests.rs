use std::collections::BTreeMap;

use daybook_core::Metadata;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{Append, Expected};

fn stream(number: u8) -> StreamId {
    StreamId::new("order", number)
}

fn nothing() -> Append {
    let metadata = Metadata {
        actor: None,
        client: None,
        command: "order.place".into(),
        command_id: Uuid::nil(),
        causation_id: None,
        correlation_id: "c".into(),
        traceparent: None,
    };
    Append {
        id: "1".into(),
        command_id: Uuid::nil(),
        events: Vec::new(),
        metadata,
        expected: Vec::new(),
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    }
}

fn event(number: u8) -> NewRecord {
    NewRecord {
        stream: stream(number),
        id: Uuid::nil(),
        event_type: "order.placed".into(),
        schema_version: 1,
        payload: "{}".into(),
    }
}

fn at(number: u8, revision: u64) -> Expected {
    Expected { stream: stream(number), revision: Revision::new(revision), read_at: None }
}

fn take(key: &str, holder: u8) -> Claim {
    Claim::Take { name: "sku".into(), key: key.into(), holder: stream(holder) }
}

fn release(key: &str, holder: u8) -> Claim {
    Claim::Release { name: "sku".into(), key: key.into(), holder: stream(holder) }
}

fn key(digest: u8, body: u8) -> IdempotencyKey {
    IdempotencyKey { digest: [digest; 32], body: [body; 32], expires: true }
}

/// A log in memory, without its events' contents.
#[derive(Debug, Default)]
struct Memory {
    head: Position,
    places: Vec<(Position, StreamId, Revision)>,
    revisions: BTreeMap<StreamId, Revision>,
    holders: BTreeMap<(String, String), StreamId>,
    kept: BTreeMap<[u8; 32], Kept>,
}

impl Memory {
    fn commit(&mut self, appends: &[Append]) -> Vec<Verdict> {
        let prepared: Vec<_> =
            appends.iter().map(|append| Prepared::new(append.clone()).expect("valid appends")).collect();
        let prepared: Vec<_> = prepared.iter().collect();
        let group = Group::new(&prepared);
        let holder = |(name, key): &(&str, &str)| self.holders.get(&((*name).into(), (*key).into())).cloned();
        let answers = Answers {
            revisions: group
                .streams
                .iter()
                .map(|s| self.revisions.get(s.stream).copied().unwrap_or_default())
                .collect(),
            holders: group.claims.iter().map(holder).collect(),
            kept: group.keys.iter().map(|digest| self.kept.get(*digest).cloned()).collect(),
        };
        let plan = group.decide(self.head, &answers);
        for event in &plan.events {
            self.head = event.position;
            let stream = event.record.stream.clone();
            self.places.push((event.position, stream.clone(), event.revision));
            self.revisions.insert(stream, event.revision);
        }
        for (name, key) in &plan.released {
            self.holders.remove(&((*name).to_owned(), (*key).to_owned()));
        }
        for (name, key, holder) in &plan.taken {
            let before = self.holders.insert(((*name).into(), (*key).into()), (*holder).clone());
            assert!(before.is_none(), "a claim that is held is released first");
        }
        for (key, receipt) in &plan.keys {
            let receipt = serde_json::from_str(receipt).expect("a receipt");
            self.kept.insert(key.digest, Kept { body: key.body, receipt });
        }
        plan.verdicts
    }
}

#[test]
fn neighbours_in_a_group_see_each_other() {
    let first = Append { events: vec![event(1)], expected: vec![at(1, 0)], ..nothing() };
    let built_on_it = Append { events: vec![event(1), event(2)], expected: vec![at(1, 1)], ..nothing() };
    let too_late = Append { events: vec![event(3)], expected: vec![at(1, 1)], ..nothing() };
    let after_it = Append { events: vec![event(3)], expected: vec![at(3, 0)], ..nothing() };
    let verdicts = Memory::default().commit(&[first, built_on_it, too_late, after_it]);
    let conflict = Conflict { stream: stream(1), expected: Revision::new(1), actual: Revision::new(2) };
    assert_eq!(verdicts[2], Verdict::Conflict(conflict));
    let Verdict::Committed(receipt) = &verdicts[3] else { panic!("{:?}", verdicts[3]) };
    assert_eq!(receipt.position, Position::new(4));
}

#[test]
fn an_append_without_events_gets_the_head_as_its_position() {
    let mut memory = Memory::default();
    memory.commit(&[Append { events: vec![event(1)], ..nothing() }]);
    let Verdict::Committed(receipt) = &memory.commit(&[nothing()])[0] else { panic!("not committed") };
    assert_eq!((receipt.position, receipt.events.len()), (Position::new(1), 0));
}

#[test]
fn a_claim_passes_on_within_one_append_but_only_from_its_holder() {
    let mut memory = Memory::default();
    let claims = |claims: Vec<Claim>| Append { claims, ..nothing() };
    let verdicts = memory.commit(&[
        claims(vec![take("a", 1), take("a", 1)]),
        claims(vec![release("a", 2), take("a", 2)]),
        claims(vec![release("a", 1), take("a", 2)]),
    ]);
    assert!(matches!(verdicts[0], Verdict::Committed(_)));
    assert_eq!(verdicts[1], Verdict::ClaimTaken { index: 1, holder: stream(1) });
    assert!(matches!(verdicts[2], Verdict::Committed(_)));
    assert_eq!(memory.holders.values().collect::<Vec<_>>(), [&stream(2)]);
}

#[test]
fn an_idempotency_key_is_looked_at_before_everything_else() {
    let mut memory = Memory::default();
    let place = |body| Append {
        events: vec![event(1)],
        expected: vec![at(1, 0)],
        claims: vec![take("a", 1)],
        key: Some(key(1, body)),
        ..nothing()
    };
    let verdicts = memory.commit(&[place(1), place(1), place(2)]);
    let Verdict::Committed(receipt) = &verdicts[0] else { panic!("{verdicts:?}") };
    assert_eq!(verdicts[1..], [Verdict::Repeated(receipt.clone()), Verdict::KeyReused]);
    assert_eq!(memory.commit(&[place(1)]), [Verdict::Repeated(receipt.clone())]);
}

#[test]
fn expected_revisions_are_looked_at_before_claims() {
    let mut memory = Memory::default();
    memory.commit(&[Append { claims: vec![take("a", 1)], ..nothing() }]);
    let verdicts = memory.commit(&[Append { expected: vec![at(1, 5)], claims: vec![take("a", 2)], ..nothing() }]);
    assert!(matches!(verdicts[0], Verdict::Conflict(_)));
}

/// What becomes of a plan when nobody knows whether it was committed.
fn uncommitted(append: Append) -> Result<(), Option<(Position, Uuid)>> {
    let prepared = Prepared::new(append).expect("it can be written");
    let appends = [&prepared];
    let group = Group::new(&appends);
    let answers = Answers {
        revisions: vec![Revision::NONE; group.streams.len()],
        holders: vec![None; group.claims.len()],
        kept: vec![None; group.keys.len()],
    };
    group.decide(Position::START, &answers).uncommitted()
}

#[test]
fn only_what_was_to_be_written_can_be_lost() {
    let conflict = Append { events: vec![event(1)], expected: vec![at(1, 5)], ..nothing() };
    assert_eq!(uncommitted(conflict), Ok(()));
    assert_eq!(uncommitted(nothing()), Ok(()));
    assert_eq!(uncommitted(Append { claims: vec![take("a", 1)], ..nothing() }), Err(None));
    assert_eq!(uncommitted(Append { key: Some(key(1, 1)), ..nothing() }), Err(None));
    let written = Append { events: vec![event(1)], ..nothing() };
    assert_eq!(uncommitted(written), Err(Some((Position::new(1), Uuid::nil()))));
}

fn appends() -> impl Strategy<Value = Vec<Append>> {
    let claim = (prop::sample::select(vec!["a", "b"]), 0..3_u8, any::<bool>())
        .prop_map(|(key, holder, taken)| if taken { take(key, holder) } else { release(key, holder) });
    let append = (
        prop::collection::vec(0..4_u8, 0..3),
        prop::collection::vec((0..4_u8, 0..4_u64), 0..2),
        prop::collection::vec(claim, 0..3),
        prop::option::weighted(0.3, (0..3_u8, 0..2_u8)),
    )
        .prop_map(|(events, expected, claims, idempotency)| Append {
            events: events.into_iter().map(event).collect(),
            expected: expected.into_iter().map(|(stream, revision)| at(stream, revision)).collect(),
            claims,
            key: idempotency.map(|(digest, body)| key(digest, body)),
            ..nothing()
        });
    prop::collection::vec(append, 1..24)
}

proptest! {
    #[test]
    fn a_group_comes_out_as_its_appends_one_after_the_other(before in appends(), appends in appends()) {
        let (mut together, mut alone) = (Memory::default(), Memory::default());
        together.commit(&before);
        alone.commit(&before);
        let verdicts = together.commit(&appends);
        let one_by_one: Vec<_> =
            appends.iter().flat_map(|append| alone.commit(std::slice::from_ref(append))).collect();
        prop_assert_eq!(verdicts, one_by_one);
        prop_assert_eq!(format!("{together:?}"), format!("{alone:?}"));
    }

    #[test]
    fn positions_and_revisions_are_dense_and_receipts_true(appends in appends()) {
        let mut memory = Memory::default();
        let verdicts = memory.commit(&appends);
        let mut revisions: BTreeMap<&StreamId, Revision> = BTreeMap::new();
        for (index, (position, stream, revision)) in memory.places.iter().enumerate() {
            prop_assert_eq!(*position, Position::new(index as u64 + 1));
            let last = revisions.entry(stream).or_default();
            prop_assert_eq!(*revision, last.plus(1));
            *last = *revision;
        }
        let mut places = memory.places.iter();
        for verdict in &verdicts {
            if let Verdict::Committed(receipt) = verdict {
                for event in &receipt.events {
                    let place = (event.position, event.stream.clone(), event.revision);
                    prop_assert_eq!(places.next(), Some(&place));
                }
            }
        }
        prop_assert_eq!(places.next(), None);
    }
}

/// Decides over appends as an appender does that has assumed claims to be free and keys to be new.
fn is_proven(appends: &[Append], revisions: &[u64]) -> bool {
    let prepared: Vec<_> =
        appends.iter().map(|append| Prepared::new(append.clone()).expect("valid appends")).collect();
    let prepared: Vec<_> = prepared.iter().collect();
    let group = Group::new(&prepared);
    let answers = Answers {
        revisions: revisions.iter().map(|revision| Revision::new(*revision)).collect(),
        holders: vec![None; group.claims.len()],
        kept: vec![None; group.keys.len()],
    };
    assert_eq!(group.streams.len(), revisions.len());
    let plan = group.decide(Position::new(7), &answers);
    group.is_proven_by(&plan)
}

#[test]
fn a_verdict_holds_only_if_what_is_written_proves_it() {
    let written = Append { events: vec![event(1)], expected: vec![at(1, 3)], ..nothing() };
    let conflicting = Append { events: vec![event(2)], expected: vec![at(2, 1)], ..nothing() };
    assert!(is_proven(std::slice::from_ref(&written), &[3]));
    assert!(is_proven(&[written.clone(), conflicting.clone()], &[3, 2]), "what it read is known, not assumed");
    assert!(is_proven(&[Append { expected: vec![at(1, 3)], ..nothing() }], &[3]), "there is nothing to write");
    // It takes no position, so somebody else may have written meanwhile.
    let keys_only = Append { expected: vec![at(1, 3)], key: Some(key(1, 1)), ..nothing() };
    let claims_only = Append { claims: vec![take("a", 1)], ..nothing() };
    assert!(!is_proven(&[keys_only], &[3]));
    assert!(!is_proven(&[claims_only], &[]));
    // Its key may have been used: then it is a repetition, and no conflict.
    let keyed = Append { key: Some(key(1, 1)), ..conflicting.clone() };
    assert!(!is_proven(&[written.clone(), keyed], &[3, 2]));
    // That a stream is new is only assumed: the other one may be the conflict.
    let begun = Append { events: vec![event(3)], expected: vec![at(3, 0)], ..nothing() };
    assert!(!is_proven(&[begun.clone(), conflicting], &[0, 2]));
    assert!(is_proven(&[begun, written], &[0, 3]), "the database refuses it when it is not");
}
