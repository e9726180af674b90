//! What was asked and what was answered, put together from all journals.

use std::collections::{BTreeMap, HashMap};

use crate::journal::{Answer, Intent, Micros, Record};

/// One time that something was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    /// The journal that it is in: one life of one writer.
    pub(super) life: &'a str,
    /// When it was sent.
    pub(super) sent: Micros,
    /// When the answer came, and what it was; `None` when the writer was killed before.
    pub(super) answered: Option<(Micros, &'a Answer)>,
}

/// All that is known of one intent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) intent: &'a Intent,
    /// By when they were sent.
    pub(super) attempts: Vec<Attempt<'a>>,
    pub(super) abandoned: bool,
}

impl<'a> Request<'a> {
    /// Its answers, with the time when it was sent that time, and when they came.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&Attempt<'a>, Micros, &'a Answer)> {
        self.attempts.iter().filter_map(|attempt| {
            let (at, answer) = attempt.answered?;
            Some((attempt, at, answer))
        })
    }

    /// When it was sent first.
    pub(super) fn first_sent(&self) -> Micros {
        self.attempts.first().map_or(Micros::MAX, |attempt| attempt.sent)
    }
}

/// Puts the journals together, by token.
pub(super) fn gather(journals: &[(String, Vec<Record>)]) -> BTreeMap<&str, Request<'_>> {
    let mut requests = BTreeMap::new();
    for intent in journals.iter().flat_map(|(_, records)| records).filter_map(|record| match record {
        Record::Intent(intent) => Some(intent),
        _ => None,
    }) {
        let request = Request { intent, attempts: Vec::new(), abandoned: false };
        requests.entry(intent.token.as_str()).or_insert(request);
    }
    for (life, records) in journals {
        let mut open: HashMap<(&str, u32), Attempt<'_>> = HashMap::new();
        for record in records {
            match record {
                Record::Intent(_) | Record::TriedOut { .. } => {}
                Record::Sent { token, attempt, at } => {
                    let sent = Attempt { life, sent: *at, answered: None };
                    // The same that was done is asked for again, from the first time on.
                    let before = open.insert((token, *attempt), sent);
                    keep(&mut requests, token, before);
                }
                Record::Answered { token, attempt, at, answer } => {
                    let sent = open.remove(&(token.as_str(), *attempt));
                    let answered = sent.map(|sent| Attempt { answered: Some((*at, answer)), ..sent });
                    keep(&mut requests, token, answered);
                }
                Record::Abandoned { token } => {
                    if let Some(request) = requests.get_mut(token.as_str()) {
                        request.abandoned = true;
                    }
                }
            }
        }
        for ((token, _), attempt) in open {
            keep(&mut requests, token, Some(attempt));
        }
    }
    for request in requests.values_mut() {
        request.attempts.sort_by_key(|attempt| attempt.sent);
    }
    requests
}

fn keep<'a>(requests: &mut BTreeMap<&str, Request<'a>>, token: &str, attempt: Option<Attempt<'a>>) {
    if let (Some(request), Some(attempt)) = (requests.get_mut(token), attempt) {
        request.attempts.push(attempt);
    }
}
