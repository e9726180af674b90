//! The checker can fail: each way of breaking the word, by hand.

use chrono::DateTime;
use daybook_core::{Position, Receipt, Revision};

use super::story::{State, Story};
use super::{Breach, Sighting};
use crate::domain::{Act, Changed, Seen};
use crate::journal::{Answer, Intent, Record};

const ADD: Act = Act::Add { counter: 1, odd: false };
const ADD_TO_ODD: Act = Act::Add { counter: 1, odd: true };
const TRANSFER: Act = Act::Transfer { from: 1, to: 2, amount: 5 };
const LEAVE: Act = Act::Leave { pair: 1, second: false };
const LEAVE_SECOND: Act = Act::Leave { pair: 1, second: true };
const POINT: Act = Act::Point { pointer: 1, counter: 1 };
const PUT: Act = Act::Put { register: 1, value: 0 };

/// When the first command was sent.
const AT_ONCE: u64 = 1_001;

fn take(holder: u64) -> Act {
    Act::Take { holder, name: 1 }
}

/// A bit of everything, and nothing wrong.
fn honest() -> Story {
    let mut story = Story::new();
    for (token, act) in [("add", ADD), ("move", TRANSFER), ("leave", LEAVE), ("take", take(1)), ("put", PUT)] {
        story.tell(token, act);
    }
    story.look();
    story.send("no", ADD);
    story.reject("no", &story.state.clone());
    story.send("alone", LEAVE_SECOND);
    story.reject("alone", &story.state.clone());
    story.send("taken", take(2));
    story.reject("taken", &story.state.clone());
    story
}

#[test]
fn an_honest_log_is_found_honest() {
    let report = honest().check();
    assert_eq!(report.violations, []);
    let counts = report.counts;
    assert_eq!((counts.events, counts.acknowledged, counts.refused), (5, 5, 3));
}

#[test]
fn a_hole_is_found() {
    let mut story = honest();
    story.evidence.log.remove(1);
    assert_eq!(story.breaches(), [Breach::Hole]);
}

#[test]
fn a_revision_that_is_not_the_next_one_is_found() {
    let mut story = honest();
    story.evidence.log[0].revision = 2;
    assert_eq!(story.breaches(), [Breach::RevisionHole]);
}

#[test]
fn a_time_that_runs_backwards_is_found() {
    let mut story = honest();
    story.evidence.log[2].recorded_at = DateTime::UNIX_EPOCH;
    assert_eq!(story.breaches(), [Breach::TimeBackwards]);
}

#[test]
fn a_head_that_is_elsewhere_is_found() {
    let mut story = honest();
    story.evidence.head += 1;
    assert_eq!(story.breaches(), [Breach::HeadElsewhere]);
}

#[test]
fn an_event_that_nobody_asked_for_is_found() {
    let mut story = honest();
    let changed = Changed { token: "who".into(), part: (1, 1), value: 1, seen: Vec::new() };
    story.append("counter.9", changed);
    assert_eq!(story.breaches(), [Breach::Phantom]);
}

#[test]
fn what_is_there_twice_is_found() {
    let mut story = Story::new();
    story.tell("point", POINT);
    story.write("point");
    assert_eq!(story.breaches(), [Breach::Twice]);
}

#[test]
fn half_of_what_belongs_together_is_found() {
    let mut story = honest();
    story.evidence.log.truncate(2);
    story.evidence.head = 2;
    story.evidence.names.clear();
    story.evidence.sightings.clear();
    assert!(story.breaches().contains(&Breach::Torn));
}

#[test]
fn what_stands_between_what_belongs_together_is_found() {
    let mut story = Story::new();
    story.send("move", TRANSFER);
    story.send("point", POINT);
    story.write("move");
    story.write("point");
    let [_, second, point] = &mut story.evidence.log[..] else { panic!("three events") };
    std::mem::swap(second, point);
    (second.position, point.position) = (2, 3);
    (second.recorded_at, point.recorded_at) = (point.recorded_at, second.recorded_at);
    assert!(story.breaches().contains(&Breach::Torn));
}

#[test]
fn a_lost_update_is_found() {
    let mut story = Story::new();
    let empty = State::new();
    story.send("one", ADD);
    story.send("other", ADD);
    for token in ["one", "other"] {
        let receipt = story.write_over(token, &empty);
        story.answer(token, Answer::Done(receipt));
    }
    assert_eq!(story.breaches(), [Breach::LostUpdate]);
}

#[test]
fn write_skew_is_found() {
    let mut story = Story::new();
    let both_on_duty = State::new();
    story.send("one", LEAVE);
    story.send("other", LEAVE_SECOND);
    for token in ["one", "other"] {
        let receipt = story.write_over(token, &both_on_duty);
        story.answer(token, Answer::Done(receipt));
    }
    assert_eq!(story.breaches(), [Breach::WriteSkew]);
}

#[test]
fn what_no_decision_writes_is_found() {
    let mut story = honest();
    story.evidence.log[0].changed.as_mut().expect("a change").value = 7;
    assert!(story.breaches().contains(&Breach::NotDecided));
}

#[test]
fn what_was_not_to_be_done_at_that_revision_is_found() {
    let mut story = Story::new();
    story.intend(Intent { token: "point".into(), act: POINT, keyed: true, if_match: Some(3) });
    let receipt = story.write("point");
    story.answer("point", Answer::Done(receipt));
    assert_eq!(story.breaches(), [Breach::NotDecided]);
}

#[test]
fn a_name_that_two_hold_is_found() {
    let mut story = Story::new();
    story.tell("one", take(1));
    story.tell("other", take(2));
    story.evidence.names.remove(0);
    assert_eq!(story.breaches(), [Breach::ClaimTwice]);
}

#[test]
fn a_name_that_was_given_back_is_free() {
    let mut story = Story::new();
    story.tell("one", take(1));
    story.tell("back", Act::Drop { holder: 1 });
    story.tell("other", take(2));
    assert_eq!(story.check().violations, []);
}

#[test]
fn names_that_are_not_what_the_log_says_are_found() {
    let mut story = honest();
    story.evidence.names.clear();
    assert_eq!(story.breaches(), [Breach::ClaimsElsewhere]);
}

#[test]
fn an_acknowledgement_of_what_is_not_there_is_found() {
    let mut story = honest();
    let receipt = story.tell("lost", POINT);
    story.evidence.log.pop();
    story.evidence.head -= 1;
    assert_eq!(story.breaches(), [Breach::Lost], "{receipt:?}");
}

#[test]
fn an_acknowledgement_of_another_place_is_found() {
    let mut story = Story::new();
    story.send("point", POINT);
    let mut receipt = story.write("point");
    receipt.events[0].revision = Revision::new(2);
    story.answer("point", Answer::Done(receipt));
    assert_eq!(story.breaches(), [Breach::Lost]);
}

#[test]
fn nothing_to_do_where_there_was_something_is_found() {
    let put = Act::Put { register: 1, value: 2 };
    let mut story = Story::new();
    story.tell("put", put.clone());
    story.tell("nothing", put.clone());
    assert_eq!(story.check().violations, []);
    story.send("something", put);
    let mut receipt = story.write("something");
    receipt.position = Position::START;
    story.answer("something", Answer::Done(receipt));
    assert_eq!(story.breaches(), [Breach::Lost]);
}

#[test]
fn nothing_to_do_where_the_same_was_done_before_is_found() {
    let put = Act::Put { register: 1, value: 2 };
    let mut story = Story::new();
    story.send("put", put);
    let done = story.write("put");
    story.send_to(1, "put");
    assert_eq!(story.breaches(), [Breach::Unresolved], "nobody has heard of it yet");
    // It is so already, if one does not know the key.
    story.answer_from(1, "put", Answer::Done(Receipt { events: Vec::new(), ..done }));
    assert_eq!(story.breaches(), [Breach::Lost]);
}

#[test]
fn two_receipts_for_the_same_are_found() {
    let mut story = Story::new();
    let mut receipt = story.tell("point", POINT);
    story.send_to(1, "point");
    receipt.id = "2".into();
    story.answer_from(1, "point", Answer::Done(receipt));
    assert_eq!(story.breaches(), [Breach::OtherReceipt]);
}

#[test]
fn what_was_refused_and_is_there_is_found() {
    let mut story = Story::new();
    story.tell("add", ADD);
    story.send("no", ADD);
    story.reject("no", &story.state.clone());
    assert_eq!(story.check().violations, []);
    story.tell("odd", ADD_TO_ODD);
    story.write("no");
    assert_eq!(story.breaches(), [Breach::RefusedYetThere]);
}

#[test]
fn what_one_process_refuses_while_another_one_does_it_is_counted() {
    let mut story = Story::new();
    story.tell("add", ADD);
    story.send("no", ADD);
    let odd = story.state.clone();
    story.send_to(1, "no");
    story.reject("no", &odd);
    story.tell("odd", ADD_TO_ODD);
    let receipt = story.write("no");
    story.answer_from(1, "no", Answer::Done(receipt));
    let report = story.check();
    assert_eq!((report.violations, report.counts.twins_disagree), (vec![], 1));
}

#[test]
fn what_is_refused_though_another_process_had_done_it_before_is_found() {
    let mut story = Story::new();
    story.tell("add", ADD);
    let odd = story.state.clone();
    story.tell("odd", ADD_TO_ODD);
    story.send("twin", ADD);
    story.write("twin");
    story.look();
    story.send_to(1, "twin");
    let seen = vec![Seen { thing: "counter.1".into(), revision: 1, tip: odd["counter.1"].tip.clone() }];
    story.answer_from(1, "twin", Answer::Rejected { code: "parity".into(), seen });
    assert_eq!(story.breaches(), [Breach::RefusedYetThere, Breach::Stale]);
}

#[test]
fn what_was_said_not_to_be_done_and_is_there_is_found() {
    let mut story = Story::new();
    story.intend(Intent { token: "point".into(), act: POINT, keyed: false, if_match: None });
    story.answer("point", Answer::NotDone("away".into()));
    assert_eq!(story.check().violations, []);
    story.write("point");
    assert_eq!(story.breaches(), [Breach::NotDoneYetThere]);
}

#[test]
fn what_was_said_not_to_be_done_with_a_key_and_is_there_is_found() {
    let mut story = Story::new();
    story.send("point", POINT);
    story.answer("point", Answer::NotDone("away".into()));
    let receipt = story.write("point");
    let asked_once = story.evidence.clone();
    story.note(0, Record::Abandoned { token: "point".into() });
    assert_eq!(story.breaches(), [Breach::NotDoneYetThere], "nobody asked for it again");

    story.evidence = asked_once;
    story.send_to(1, "point");
    story.answer_from(1, "point", Answer::Done(receipt));
    assert_eq!(story.check().violations, [], "it may have been done the second time");
    story.evidence.sightings.push(Sighting { through: 1, at: AT_ONCE });
    assert_eq!(story.breaches(), [Breach::NotDoneYetThere], "it was known before");
}

#[test]
fn what_was_said_not_to_be_done_and_came_after_it_was_asked_for_again_is_found() {
    let mut story = Story::new();
    let first = story.begin();
    story.send("point", POINT);
    story.answer("point", Answer::NotDone("away".into()));
    let second = story.begin();
    story.send_to(1, "point");
    let receipt = story.write("point");
    for (command, due) in [(second, vec![]), (first, vec![Breach::NotDoneYetThere])] {
        let before = story.evidence.clone();
        story.evidence.log[0].command = command;
        story.answer_from(1, "point", Answer::Done(Receipt { command_id: command, ..receipt.clone() }));
        assert_eq!(story.breaches(), due);
        story.evidence = before;
    }
}

#[test]
fn a_receipt_of_another_command_is_found() {
    let mut story = Story::new();
    let other = story.begin();
    story.tell("point", POINT);
    story.evidence.log[0].command = other;
    assert_eq!(story.breaches(), [Breach::Lost]);
}

#[test]
fn what_is_unknown_for_ever_is_found_unless_nobody_asked_again() {
    let mut story = Story::new();
    story.send("point", POINT);
    story.answer("point", Answer::Unknown);
    assert_eq!(story.breaches(), [Breach::Unresolved]);
    story.note(0, Record::Abandoned { token: "point".into() });
    let report = story.check();
    assert_eq!((report.violations, report.counts.unknown_for_ever), (vec![], 1));
}

#[test]
fn what_stands_before_what_was_known_before_it_was_sent_is_found() {
    let mut story = Story::new();
    story.send("early", POINT);
    story.send("late", ADD);
    for token in ["late", "early"] {
        let receipt = story.write(token);
        story.answer(token, Answer::Done(receipt));
    }
    assert_eq!(story.check().violations, [], "both were asked for at the same time");
    story.evidence.sightings.push(Sighting { through: 2, at: AT_ONCE });
    assert_eq!(story.breaches(), [Breach::Reordered]);
}

#[test]
fn a_rejection_over_what_was_never_committed_is_found() {
    let mut story = Story::new();
    story.tell("add", ADD);
    story.send("no", ADD);
    let mut never = story.state.clone();
    never.get_mut("counter.1").expect("added to").tip = "gone".into();
    story.reject("no", &never);
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
}

#[test]
fn a_rejection_over_what_was_committed_only_later_is_found() {
    let mut story = Story::new();
    let mut later = Story::new();
    later.tell("add", ADD);
    story.send("no", ADD);
    story.reject("no", &later.state);
    story.tell("add", ADD);
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
}

#[test]
fn a_rejection_over_what_was_over_before_is_found() {
    let mut story = Story::new();
    story.tell("add", ADD);
    let odd = story.state.clone();
    story.tell("odd", ADD_TO_ODD);
    story.send("no", ADD);
    story.reject("no", &odd);
    assert_eq!(story.breaches(), [Breach::Stale]);
}

#[test]
fn a_rejection_over_what_was_so_while_it_was_asked_for_is_none() {
    let mut story = Story::new();
    story.tell("add", ADD);
    let odd = story.state.clone();
    story.send("no", ADD);
    story.tell("odd", ADD_TO_ODD);
    story.reject("no", &odd);
    assert_eq!(story.check().violations, []);
}

#[test]
fn a_rejection_over_states_that_were_never_together_is_found() {
    let mut story = Story::new();
    story.tell("leave", LEAVE);
    let mut mixed = story.state.clone();
    story.tell("return", Act::Return { pair: 1, second: false });
    story.tell("second", LEAVE_SECOND);
    mixed.insert("duty.1b".into(), story.state["duty.1b"].clone());
    story.send("no", LEAVE_SECOND);
    story.reject("no", &mixed);
    assert_eq!(story.breaches(), [Breach::Mixed]);
}

#[test]
fn a_rejection_that_its_reason_does_not_bear_out_is_found() {
    let mut story = Story::new();
    story.tell("add", ADD);
    story.send("odd", ADD_TO_ODD);
    let seen = vec![Seen { thing: "counter.1".into(), revision: 1, tip: "add".into() }];
    story.answer("odd", Answer::Rejected { code: "parity".into(), seen });
    assert_eq!(story.breaches(), [Breach::WrongAnswer]);
}

#[test]
fn a_name_that_is_said_to_be_taken_and_is_free_is_found() {
    let mut story = Story::new();
    story.send("take", take(1));
    story.reject("take", &State::new());
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
}

#[test]
fn a_name_that_is_said_to_be_taken_and_was_so_only_before_or_later_is_found() {
    let mut story = Story::new();
    story.tell("one", take(1));
    story.tell("back", Act::Drop { holder: 1 });
    story.send("take", take(2));
    story.reject("take", &story.state.clone());
    story.tell("again", take(1));
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
}

#[test]
fn a_name_that_was_taken_only_while_the_rest_was_otherwise_is_found() {
    let mut story = Story::new();
    let nameless = story.state.clone();
    story.send("take", take(2));
    story.tell("other", Act::Take { holder: 2, name: 2 });
    story.tell("one", take(1));
    // It was free as long as holder 2 had no name.
    story.reject("take", &nameless);
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
}

#[test]
fn a_name_that_is_said_to_be_taken_by_a_command_that_takes_none_is_found() {
    let mut story = Story::new();
    story.send("point", POINT);
    story.reject("point", &State::new());
    assert_eq!(story.breaches(), [Breach::WrongAnswer]);
}

#[test]
fn a_revision_that_never_was_is_found_in_a_precondition() {
    let mut story = Story::new();
    story.tell("point", POINT);
    story.intend(Intent { token: "other".into(), act: POINT, keyed: true, if_match: Some(0) });
    let mut right = story.evidence.clone();
    story.answer("other", Answer::Precondition { actual: 2 });
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
    std::mem::swap(&mut story.evidence, &mut right);
    story.answer("other", Answer::Precondition { actual: 1 });
    assert_eq!(story.check().violations, []);
}

#[test]
fn an_answer_that_must_never_be_given_is_found() {
    let mut story = Story::new();
    story.send("point", POINT);
    story.answer("point", Answer::Wrong("internal".into()));
    assert_eq!(story.breaches(), [Breach::WrongAnswer]);
}

/// Answers to somebody who only tried it out, over what is so.
fn tried_out(acts: &[Act]) -> Story {
    let mut story = honest();
    for act in acts {
        let answer = story.would_be(act, &story.state);
        story.try_out(act.clone(), answer);
    }
    story
}

#[test]
fn what_was_tried_out_and_is_true_is_found_honest() {
    let acts = [ADD, ADD_TO_ODD, TRANSFER, LEAVE_SECOND, PUT, Act::Take { holder: 2, name: 2 }];
    let report = tried_out(&acts).check();
    assert_eq!((report.violations, report.counts.tried_out), (vec![], acts.len() as u64));
}

#[test]
fn what_was_tried_out_over_what_is_not_so_is_found() {
    // Written over by nobody, and committed by nobody: whatever comes of it.
    for act in [ADD, ADD_TO_ODD] {
        let mut story = tried_out(&[]);
        let mut ahead = story.state.clone();
        let counter = ahead.get_mut("counter.1").expect("it was added to");
        (counter.revision, counter.value, counter.tip) = (2, 2, "lost".into());
        let answer = story.would_be(&act, &ahead);
        story.try_out(act, answer);
        assert_eq!(story.breaches(), [Breach::Uncommitted]);
    }
    // As it was before others were known to have changed it.
    for act in [ADD, ADD_TO_ODD] {
        let mut story = tried_out(&[]);
        let answer = story.would_be(&act, &State::new());
        story.try_out(act, answer);
        assert_eq!(story.breaches(), [Breach::Stale]);
    }
}

#[test]
fn what_does_not_come_of_what_was_so_is_found() {
    let mut story = tried_out(&[]);
    let Answer::WouldBe { position, mut changes } = story.would_be(&ADD_TO_ODD, &story.state) else {
        panic!("it is odd")
    };
    changes[0].1.value += 1;
    story.try_out(ADD_TO_ODD, Answer::WouldBe { position, changes });
    assert_eq!(story.breaches(), [Breach::WrongAnswer]);

    let mut story = tried_out(&[]);
    story.try_out(TRANSFER, Answer::WouldBe { position: story.evidence.head, changes: Vec::new() });
    assert_eq!(story.breaches(), [Breach::Lost]);
}

#[test]
fn a_name_that_was_tried_out_and_is_not_so_is_found() {
    // It is another's, and would be taken; and it is nobody's, and is said to be.
    let held = take(3);
    let mut story = tried_out(&[held]);
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
    story = tried_out(&[]);
    let free = Act::Take { holder: 3, name: 2 };
    let seen = vec![Seen { thing: free.target(), revision: 0, tip: String::new() }];
    story.try_out(free, Answer::Rejected { code: "taken".into(), seen });
    assert_eq!(story.breaches(), [Breach::Uncommitted]);
}
