//! The checker: proves from what a campaign leaves behind that the log kept its word, or says where it did not.
//!
//! Pure functions. Every command in the log is decided again over the state before it, which finds lost updates, write
//! skew and names taken twice; then every answer is held against that history. An answer has to be drawn from a state
//! that the log had at some time between the question and the answer; when that was is known from when commands were
//! sent, and from when somebody first knew of a position.

mod answers;
mod evidence;
mod history;
mod order;
mod report;
mod requests;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod times;

use std::collections::{BTreeSet, HashMap};

pub use evidence::{Breach, Entry, Evidence, Sighting, Violation};
pub use order::Order;
pub use report::{Counts, Report};

use answers::Judge;
use history::History;
use times::Times;

use crate::journal::{Answer, Record};

/// Checks all that a campaign leaves behind.
pub fn check(evidence: &Evidence) -> Report {
    let log = &evidence.log;
    let mut violations = Vec::new();
    let mut order = Order::default();
    for entry in log {
        order.take(entry, &mut violations);
    }
    if evidence.head != order.position() {
        let detail = format!("the head says {}, and the log ends at {}", evidence.head, order.position());
        violations.push(Violation::new(Breach::HeadElsewhere, detail));
    }
    if violations.iter().any(|violation| matches!(violation.breach, Breach::Hole | Breach::RevisionHole)) {
        // What follows relies on every position and revision.
        return Report { violations, ..Report::default() };
    }

    let requests = requests::gather(&evidence.journals);
    let intents = requests.iter().map(|(token, request)| (*token, request.intent)).collect();
    let history = History::read(log, &intents, &mut violations);
    check_names(evidence, &history, &mut violations);

    let sent: HashMap<_, _> = requests.iter().map(|(token, request)| (*token, request.first_sent())).collect();
    let acknowledged: Vec<_> = requests
        .values()
        .flat_map(|request| request.answers())
        .filter_map(|(_, at, answer)| match answer {
            Answer::Done(receipt) => Some((receipt.position.get(), at)),
            _ => None,
        })
        .collect();
    let times = Times::new(log, &sent, &acknowledged, &evidence.sightings, &mut violations);

    let counts = Counts { events: log.len() as u64, ..Counts::default() };
    let mut judge = Judge { log, history: &history, times: &times, counts, violations };
    for request in requests.values() {
        judge.judge(request);
    }
    for record in evidence.journals.iter().flat_map(|(_, records)| records) {
        if let Record::TriedOut { intent, sent, at, answer } = record {
            judge.judge_dry_run(intent, times.between(*sent, *at), answer);
        }
    }
    Report { violations: judge.violations, counts: judge.counts }
}

/// The names that are taken in the end are those that the log says.
fn check_names(evidence: &Evidence, history: &History, violations: &mut Vec<Violation>) {
    let due: BTreeSet<_> = history.names().map(|(name, holder)| (name.to_string(), holder.to_owned())).collect();
    let is: BTreeSet<_> = evidence.names.iter().cloned().collect();
    if due != is {
        let detail = format!(
            "not there: {:?}; too many: {:?}",
            due.difference(&is).collect::<Vec<_>>(),
            is.difference(&due).collect::<Vec<_>>()
        );
        violations.push(Violation::new(Breach::ClaimsElsewhere, detail));
    }
}
