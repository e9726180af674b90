//! Whether each answer was true: there once if it was acknowledged, not there if it was refused, and drawn from a state
//! that was committed while it was asked for.

use std::ops::{Range, RangeInclusive};

use daybook_core::Receipt;

use super::evidence::{Breach, Entry, Violation};
use super::history::{History, Place};
use super::report::Counts;
use super::requests::{Attempt, Request};
use super::times::Times;
use crate::domain::{Change, Changed, Claiming, Seen, TAKEN};
use crate::journal::{Answer, Intent, Micros};

/// When an answer was found out that depends on who holds a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claims {
    /// At the same time as all else that it was drawn from.
    WithTheRest,
    /// Later: a dry run looks once it has decided.
    Later,
}

/// Looks at answers in the light of what the log says.
pub(super) struct Judge<'a> {
    pub(super) log: &'a [Entry],
    pub(super) history: &'a History,
    pub(super) times: &'a Times,
    pub(super) counts: Counts,
    pub(super) violations: Vec<Violation>,
}

impl Judge<'_> {
    /// Looks at all answers that a request got.
    pub(super) fn judge(&mut self, request: &Request<'_>) {
        let intent = request.intent;
        let mut receipt: Option<&Receipt> = None;
        let (mut refused, mut unknown) = (false, false);
        for (attempt, at, answer) in request.answers() {
            let window = || self.times.between(attempt.sent, at);
            let found = match answer {
                Answer::Done(this) => {
                    let same = receipt.is_none_or(|first| first == this);
                    let first = receipt.is_none();
                    receipt.get_or_insert(this);
                    if !same {
                        self.breach(Breach::OtherReceipt, intent, &format!("{receipt:?} and {this:?}"));
                    }
                    if first { self.acknowledged(request, this, at) } else { Ok(()) }
                }
                Answer::Rejected { code, seen } => {
                    refused = true;
                    self.not_there(request, attempt, at);
                    self.rejected(intent, code, seen, window(), Claims::WithTheRest)
                }
                Answer::Precondition { actual } => {
                    refused = true;
                    self.not_there(request, attempt, at);
                    self.precondition(intent, *actual, window())
                }
                Answer::NotDone(reason) => {
                    self.counts.not_done += 1;
                    self.not_done(request, attempt, reason)
                }
                Answer::Unknown => {
                    unknown = true;
                    Ok(())
                }
                Answer::GaveUp => {
                    self.counts.gave_up += 1;
                    Ok(())
                }
                Answer::InFlight => Ok(()),
                Answer::WouldBe { .. } => Err((Breach::WrongAnswer, "it was not only tried out".into())),
                Answer::Wrong(what) => Err((Breach::WrongAnswer, what.clone())),
            };
            if let Err((breach, detail)) = found {
                self.breach(breach, intent, &detail);
            }
        }
        let answered = receipt.is_some() || refused;
        self.counts.acknowledged += u64::from(receipt.is_some());
        self.counts.refused += u64::from(refused);
        match (unknown, answered) {
            (true, true) => self.counts.unknown_resolved += 1,
            (true, false) => self.counts.unknown_for_ever += 1,
            _ => {}
        }
        let pending = intent.keyed && !request.abandoned && !answered;
        let wrong = request.answers().any(|(.., answer)| matches!(answer, Answer::Wrong(_)));
        if pending && !wrong {
            self.breach(Breach::Unresolved, intent, &format!("{:?}", request.attempts.last()));
        }
    }

    /// Looks at what was answered to somebody who only tried out what would be, over the log as it was within `window`.
    pub(super) fn judge_dry_run(&mut self, intent: &Intent, window: RangeInclusive<u64>, answer: &Answer) {
        let found = match answer {
            Answer::WouldBe { position, changes } => self.would_be(intent, *position, changes, &window),
            Answer::Rejected { code, seen } => self.rejected(intent, code, seen, window, Claims::Later),
            Answer::Precondition { actual } => self.precondition(intent, *actual, window),
            // Nothing is said of the log.
            Answer::NotDone(_) | Answer::Unknown | Answer::GaveUp => return,
            Answer::Done(_) | Answer::InFlight => {
                Err((Breach::WrongAnswer, format!("it was only tried out: {answer:?}")))
            }
            Answer::Wrong(what) => Err((Breach::WrongAnswer, what.clone())),
        };
        self.counts.tried_out += 1;
        if let Err((breach, detail)) = found {
            self.breach(breach, intent, &format!("tried out: {detail}"));
        }
    }

    fn breach(&mut self, breach: Breach, intent: &Intent, detail: &str) {
        self.violations.push(Violation::new(breach, format!("{intent:?}: {detail}")));
    }

    /// What was acknowledged is there, as acknowledged.
    fn acknowledged(&self, request: &Request<'_>, receipt: &Receipt, at: Micros) -> Result<(), (Breach, String)> {
        let intent = request.intent;
        let lost = |reason: &str| Err((Breach::Lost, format!("{reason}: {receipt:?}")));
        if receipt.events.is_empty() {
            if let Some(place) = self.history.place(&intent.token) {
                return lost(&format!("there was something to do, and it is at position {}", place.first));
            }
            let window = self.times.between(request.first_sent(), at);
            return self.nothing_to_do(intent, receipt.position.get(), &window);
        }
        let Some(place) = self.history.place(&intent.token) else { return lost("it is not there") };
        if (place.last, place.last - place.first + 1) != (receipt.position.get(), receipt.events.len() as u64) {
            return lost(&format!("it is at positions {} to {}", place.first, place.last));
        }
        for event in &receipt.events {
            let at = event.position.get();
            let entry = (at as usize).checked_sub(1).and_then(|index| self.log.get(index));
            let as_said = entry.is_some_and(|entry| {
                let token = entry.changed.as_ref().map(|changed| &changed.token);
                (&*entry.stream, entry.revision, entry.position, entry.command, token)
                    == (event.stream.as_str(), event.revision.get(), at, receipt.command_id, Some(&intent.token))
            });
            if !as_said {
                return lost(&format!("at position {at} there is {entry:?}"));
            }
        }
        Ok(())
    }

    /// There was nothing to do at a position.
    fn nothing_to_do(
        &self,
        intent: &Intent,
        position: u64,
        window: &RangeInclusive<u64>,
    ) -> Result<(), (Breach, String)> {
        let (seen, values) = self.history.read_at(intent, position);
        match intent.act.decide(&values) {
            Ok(change) if change.values.is_empty() => {
                in_time(position..position + 1, window, &format!("nothing to do over {seen:?}"))
            }
            change => {
                let detail = format!("nothing to do at position {position}, but {seen:?} comes to {change:?}");
                Err((Breach::Lost, detail))
            }
        }
    }

    /// What would be is what comes of a state that was true at some time while it was asked for.
    fn would_be(
        &self,
        intent: &Intent,
        position: u64,
        changes: &[(String, Changed)],
        window: &RangeInclusive<u64>,
    ) -> Result<(), (Breach, String)> {
        let Some((_, Changed { seen, .. })) = changes.first() else {
            return self.nothing_to_do(intent, position, window);
        };
        let together = self.together(seen)?;
        let (due, values) = self.history.read_at(intent, together.start);
        let is: Vec<_> = changes.iter().map(|(thing, changed)| (thing.as_str(), changed.value)).collect();
        let decided = intent.act.decide(&values);
        let comes_to = |change: &Change| {
            let values = change.values.iter();
            values.map(|(thing, value)| (due[*thing].thing.as_str(), *value)).collect::<Vec<_>>()
        };
        let wanted = intent.if_match.is_none_or(|revision| revision == due[0].revision);
        if due != *seen || !wanted || !decided.as_ref().is_ok_and(|change| comes_to(change) == is) {
            return Err((Breach::WrongAnswer, format!("{is:?} over {seen:?}: {decided:?} over {due:?}")));
        }
        in_time(together, window, &format!("{is:?} over {seen:?}"))?;
        match decided {
            Ok(Change { claim: Some(Claiming::Take(name)), .. }) => {
                let within = *window.start()..window.end().saturating_add(1);
                self.name_was(name, within, |holder| holder.is_none_or(|holder| holder == intent.act.target()))
            }
            _ => Ok(()),
        }
    }

    /// After which positions all of this was so.
    fn together(&self, seen: &[Seen]) -> Result<Range<u64>, (Breach, String)> {
        let mut together = 0..u64::MAX;
        for one in seen {
            let Some(when) = self.history.when(one) else {
                return Err((Breach::Uncommitted, format!("decided over {one:?}, which never was")));
            };
            together = together.start.max(when.start)..together.end.min(when.end);
        }
        if together.is_empty() {
            return Err((Breach::Mixed, format!("decided over {seen:?}, which was never so at one time")));
        }
        Ok(together)
    }

    /// What was not done is not there, unless it was done another time that it was asked for.
    fn not_done(
        &self,
        request: &Request<'_>,
        attempt: &Attempt<'_>,
        reason: &str,
    ) -> Result<(), (Breach, String)> {
        let Some(place) = self.history.place(&request.intent.token) else { return Ok(()) };
        let another = request.attempts.iter().any(|other| {
            // These say of themselves that they have not done it.
            let denies = |(_, answer): &(Micros, &Answer)| {
                matches!(
                    answer,
                    Answer::NotDone(_) | Answer::Rejected { .. } | Answer::Precondition { .. } | Answer::InFlight
                )
            };
            !other.answered.as_ref().is_some_and(denies) && self.may_have_done(other, place)
        });
        if another || !self.may_have_done(attempt, place) {
            return Ok(());
        }
        let detail = format!("{reason}; at position {}, and asked for: {:?}", place.first, request.attempts);
        Err((Breach::NotDoneYetThere, detail))
    }

    /// Whether what stands at a place may have been done as it was asked for that time: nobody knew of it before, and its
    /// command was taken on between the question and the answer.
    fn may_have_done(&self, attempt: &Attempt<'_>, place: Place) -> bool {
        let entry = (place.first as usize).checked_sub(1).and_then(|index| self.log.get(index));
        let from_ms = attempt.sent / 1_000;
        let to_ms = attempt.answered.map_or(Micros::MAX, |(at, _)| at / 1_000);
        !self.times.known_before(place.last, attempt.sent)
            && entry.and_then(Entry::begun_ms).is_none_or(|begun| (from_ms..=to_ms).contains(&begun))
    }

    /// What was refused is not there. A twin that another process was working on at that time may be, unless it was there
    /// already when this one was sent: the two processes may have come to it in this order.
    fn not_there(&mut self, request: &Request<'_>, refused: &Attempt<'_>, at: Micros) {
        let Some(place) = self.history.place(&request.intent.token) else { return };
        let twin = request.attempts.iter().any(|other| {
            let open = match other.answered {
                // Nobody waited for it: it may go on.
                None | Some((_, Answer::GaveUp)) => true,
                Some((answered, _)) => answered > refused.sent,
            };
            other.life != refused.life && open && self.may_have_done(other, place)
        });
        if twin && !self.times.known_before(place.last, refused.sent) {
            self.counts.twins_disagree += 1;
        } else {
            let detail = format!("refused at {at}, and at position {}: {:?}", place.first, request.attempts);
            self.breach(Breach::RefusedYetThere, request.intent, &detail);
        }
    }

    /// A rule said no, over a state that was true at some time while it was asked for.
    fn rejected(
        &self,
        intent: &Intent,
        code: &str,
        seen: &[Seen],
        window: RangeInclusive<u64>,
        claims: Claims,
    ) -> Result<(), (Breach, String)> {
        let together = self.together(seen)?;
        let (due, values) = self.history.read_at(intent, together.start);
        let decided = intent.act.decide(&values);
        let borne_out = match &decided {
            Err(rule) => *rule == code,
            // The rules let it through, and another one held the name.
            Ok(change) => code == TAKEN && matches!(change.claim, Some(Claiming::Take(_))),
        };
        if due != seen || !borne_out {
            return Err((
                Breach::WrongAnswer,
                format!("rejected with {code} over {seen:?}: {decided:?} over {due:?}"),
            ));
        }
        in_time(together.clone(), &window, &format!("rejected over {seen:?}"))?;
        match decided {
            Ok(Change { claim: Some(Claiming::Take(name)), .. }) => {
                let (from, to) = (*window.start(), window.end().saturating_add(1));
                let within = match claims {
                    Claims::WithTheRest => together.start.max(from)..together.end.min(to),
                    Claims::Later => from..to,
                };
                self.name_was(name, within, |holder| holder.is_some_and(|holder| holder != intent.act.target()))
            }
            _ => Ok(()),
        }
    }

    /// A name was held as it `is` to be, or not, after one of these positions.
    fn name_was(
        &self,
        name: u64,
        within: Range<u64>,
        is: impl Fn(Option<&str>) -> bool,
    ) -> Result<(), (Breach, String)> {
        let mut when = std::iter::once(within.start).chain(self.history.name_changes(name, within.clone()));
        if when.any(|at| is(self.history.holder(name, at))) {
            Ok(())
        } else {
            let detail = format!("name {name} was not held so after any of the positions {within:?}");
            Err((Breach::Uncommitted, detail))
        }
    }

    /// The target was where the answer says, and not where it had to be, at some time while it was asked for.
    fn precondition(
        &self,
        intent: &Intent,
        actual: u64,
        window: RangeInclusive<u64>,
    ) -> Result<(), (Breach, String)> {
        let target = intent.act.target();
        if intent.if_match.is_none_or(|expected| expected == actual) {
            return Err((Breach::WrongAnswer, format!("it is at {actual}, as it has to be")));
        }
        match self.history.when_at(&target, actual) {
            None => Err((Breach::Uncommitted, format!("`{target}` never was at revision {actual}"))),
            Some(when) => in_time(when, &window, &format!("`{target}` at revision {actual}")),
        }
    }
}

/// Whether something that was true after `held` was so at some time in the window.
fn in_time(held: Range<u64>, window: &RangeInclusive<u64>, what: &str) -> Result<(), (Breach, String)> {
    let detail = || format!("{what}: so after positions {held:?}, asked for within {window:?}");
    if held.end <= *window.start() {
        Err((Breach::Stale, detail()))
    } else if held.start > *window.end() {
        Err((Breach::Uncommitted, detail()))
    } else {
        Ok(())
    }
}
