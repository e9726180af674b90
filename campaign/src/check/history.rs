//! The history that the log tells: what became of every thing and every name, and whether each command was decided over
//! the very state that it was written on.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::evidence::{Breach, Entry, Violation};
use crate::domain::{Changed, Claiming, Seen, Thing};
use crate::journal::Intent;

/// Where a command's events stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// A state of a thing, from a position on.
#[derive(Debug)]
struct Version {
    from: u64,
    value: i64,
    tip: String,
}

/// What the log says.
#[derive(Debug, Default)]
pub(super) struct History {
    things: HashMap<String, Vec<Version>>,
    /// Who held a name, from a position on.
    names: BTreeMap<u64, Vec<(u64, Option<String>)>>,
    places: HashMap<String, Place>,
}

impl History {
    /// Reads the log, and decides every command in it again.
    pub(super) fn read(log: &[Entry], intents: &HashMap<&str, &Intent>, violations: &mut Vec<Violation>) -> Self {
        let mut history = Self::default();
        let changes = log.iter().filter_map(|entry| Some((entry, entry.changed.as_ref()?, entry.thing()?)));
        let changes: Vec<_> = changes.collect();
        let mut rest = changes.as_slice();
        while let Some((entry, changed, _)) = rest.first() {
            let parts = whole(rest).unwrap_or_else(|| {
                let detail = format!("`{}` at position {} is not whole", changed.token, entry.position);
                violations.push(Violation::new(Breach::Torn, detail));
                1
            });
            let (group, later) = rest.split_at(parts);
            match intents.get(changed.token.as_str()) {
                Some(intent) => violations.extend(history.decide_again(intent, group).err()),
                None => {
                    let detail = format!("`{}` at position {}", changed.token, entry.position);
                    violations.push(Violation::new(Breach::Phantom, detail));
                }
            }
            history.take(group, intents, violations);
            rest = later;
        }
        history
    }

    fn take(
        &mut self,
        group: &[(&Entry, &Changed, &str)],
        intents: &HashMap<&str, &Intent>,
        violations: &mut Vec<Violation>,
    ) {
        let (first, last) = (group[0].0.position, group[group.len() - 1].0.position);
        let token = &group[0].1.token;
        let before = intents.get(token.as_str()).and_then(|intent| self.claim(intent, first - 1));
        for (entry, changed, thing) in group {
            let version = Version { from: entry.position, value: changed.value, tip: changed.token.clone() };
            self.things.entry((*thing).to_owned()).or_default().push(version);
        }
        if let Some((name, taker)) = before {
            let held = self.holder(name, last);
            if let (Some(taker), Some(held)) = (&taker, held)
                && taker != held
            {
                let detail =
                    format!("`{token}` at position {first}: `{taker}` takes name {name}, which `{held}` holds");
                violations.push(Violation::new(Breach::ClaimTwice, detail));
            }
            self.names.entry(name).or_default().push((last, taker));
        }
        let earlier = self.places.entry(token.clone()).or_insert(Place { first, last }).first;
        if earlier != first {
            let detail = format!("`{token}` is there at positions {earlier} and {first}");
            violations.push(Violation::new(Breach::Twice, detail));
        }
    }

    /// The name that an intent, done after a position, takes or gives back, and who holds it then.
    fn claim(&self, intent: &Intent, after: u64) -> Option<(u64, Option<String>)> {
        let (_, values) = self.read_at(intent, after);
        match intent.act.decide(&values).ok()?.claim? {
            Claiming::Take(name) => Some((name, Some(intent.act.target()))),
            Claiming::Release(name) => Some((name, None)),
        }
    }

    /// Decides a command over the state before it, and compares.
    fn decide_again(&self, intent: &Intent, group: &[(&Entry, &Changed, &str)]) -> Result<(), Violation> {
        let (entry, changed, _) = group[0];
        let (seen, values) = self.read_at(intent, entry.position - 1);
        let at = format!("`{}` at position {}", intent.token, entry.position);
        if changed.seen != seen {
            let written = |seen: &&Seen| group.iter().any(|(.., thing)| *thing == seen.thing);
            let skewed = changed.seen.iter().find(|one| !seen.contains(one));
            let breach = match skewed.or(changed.seen.first()).filter(written) {
                Some(_) => Breach::LostUpdate,
                None => Breach::WriteSkew,
            };
            let detail = format!("{at} was decided over {:?}, and written on {seen:?}", changed.seen);
            return Err(Violation::new(breach, detail));
        }
        if intent.if_match.is_some_and(|revision| revision != seen[0].revision) {
            let detail = format!("{at} was to be done at revision {:?} of {:?}", intent.if_match, seen[0]);
            return Err(Violation::new(Breach::NotDecided, detail));
        }
        let due = intent.act.decide(&values).map(|change| {
            change.values.iter().map(|(thing, value)| (seen[*thing].thing.clone(), *value)).collect::<Vec<_>>()
        });
        let is: Vec<_> = group.iter().map(|(_, changed, thing)| ((*thing).to_owned(), changed.value)).collect();
        if due.as_ref() != Ok(&is) {
            let detail = format!("{at} wrote {is:?}; {:?} over {seen:?} comes to {due:?}", intent.act);
            return Err(Violation::new(Breach::NotDecided, detail));
        }
        Ok(())
    }

    /// What an intent reads after a position: how it would be shown, and the values.
    pub(super) fn read_at(&self, intent: &Intent, after: u64) -> (Vec<Seen>, Vec<i64>) {
        let look = |name: &str| Ok::<_, std::convert::Infallible>((name.to_owned(), self.thing(name, after)));
        let Ok(things) = intent.act.read(|(_, thing): &(String, Thing)| thing.value, look);
        let seen = |(name, thing): &(String, Thing)| Seen {
            thing: name.clone(),
            revision: thing.revision,
            tip: thing.tip.clone(),
        };
        (things.iter().map(seen).collect(), things.iter().map(|(_, thing)| thing.value).collect())
    }

    /// A thing as it was after a position.
    fn thing(&self, name: &str, after: u64) -> Thing {
        let versions = self.things.get(name).map_or(&[][..], Vec::as_slice);
        let revision = versions.partition_point(|version| version.from <= after);
        match revision.checked_sub(1).map(|last| &versions[last]) {
            None => Thing::default(),
            Some(last) => Thing { revision: revision as u64, value: last.value, tip: last.tip.clone() },
        }
    }

    /// After which positions a thing was as it was seen; `None` when it never was so.
    pub(super) fn when(&self, seen: &Seen) -> Option<Range<u64>> {
        let versions = self.things.get(&seen.thing).map_or(&[][..], Vec::as_slice);
        let revision = seen.revision as usize;
        let from = match revision.checked_sub(1) {
            None if seen.tip.is_empty() => 0,
            None => return None,
            Some(last) => versions.get(last).filter(|version| version.tip == seen.tip)?.from,
        };
        Some(from..versions.get(revision).map_or(u64::MAX, |next| next.from))
    }

    /// After which positions a thing was at a revision; `None` when it never was.
    pub(super) fn when_at(&self, thing: &str, revision: u64) -> Option<Range<u64>> {
        let versions = self.things.get(thing).map_or(&[][..], Vec::as_slice);
        let tip = match (revision as usize).checked_sub(1) {
            None => String::new(),
            Some(last) => versions.get(last)?.tip.clone(),
        };
        self.when(&Seen { thing: thing.to_owned(), revision, tip })
    }

    /// Who holds a name after a position.
    pub(super) fn holder(&self, name: u64, after: u64) -> Option<&str> {
        let changes = self.names.get(&name)?;
        let count = changes.partition_point(|(from, _)| *from <= after);
        changes[..count].last()?.1.as_deref()
    }

    /// The positions in a range after which a name changes hands.
    pub(super) fn name_changes(&self, name: u64, within: Range<u64>) -> impl Iterator<Item = u64> {
        let changes = self.names.get(&name).map_or(&[][..], Vec::as_slice);
        changes.iter().map(|(from, _)| *from).filter(move |from| within.contains(from))
    }

    /// The names that are held in the end, and who holds them.
    pub(super) fn names(&self) -> impl Iterator<Item = (u64, &str)> {
        self.names.iter().filter_map(|(name, changes)| Some((*name, changes.last()?.1.as_deref()?)))
    }

    /// Where a command's events are.
    pub(super) fn place(&self, token: &str) -> Option<Place> {
        self.places.get(token).copied()
    }
}

/// How many events the first command has, when they are all there and follow each other.
fn whole(rest: &[(&Entry, &Changed, &str)]) -> Option<usize> {
    let (entry, changed, _) = rest.first()?;
    let parts = changed.part.1;
    let follow = (0..parts).all(|index| {
        rest.get(index).is_some_and(|(other, part, _)| {
            (other.position, &part.token, part.part)
                == (entry.position + index as u64, &changed.token, (index + 1, parts))
        })
    });
    (parts > 0 && follow).then_some(parts)
}
