//! Rejections and denials in the log.
//!
//! The first refusal of its kind (same actor, command and code) is written at once; those that follow within a
//! minute are counted, and the count is written when the minute is over. So whoever is refused a million times
//! buys at most two events a minute, and the audit trail still says how often it was. None is answered before the first
//! of its kind is written.
//!
//! Whoever is refused in very many ways within a minute is refused in few beyond that: what is not told apart any more is
//! counted under the first of it. Whose it is stays known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daybook_core::{Event, Metadata, Rejection, StreamId, event_set};
use daybook_log::{Append, Log, LogError, NewRecord, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::DispatchError;

/// Rules said no to a command.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRejected {
    /// The command's name.
    pub command: String,
    /// The stream of the aggregate that it was about; the first one's, when several were refused.
    pub stream: String,
    /// The rejection's code.
    pub code: String,
    /// The rejection in words.
    pub message: String,
    /// How many were refused.
    pub count: u64,
}

impl Event for CommandRejected {
    const TYPE: &'static str = "daybook.command.rejected";
    const VERSION: u32 = 1;
}

/// Authorization said no to a command.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandDenied {
    /// The command's name.
    pub command: String,
    /// The stream of the aggregate that it was about; the first one's, when several were refused.
    pub stream: String,
    /// How many were refused.
    pub count: u64,
}

impl Event for CommandDenied {
    const TYPE: &'static str = "daybook.command.denied";
    const VERSION: u32 = 1;
}

event_set! {
    /// What is recorded of commands that made no events of their own.
    pub enum RefusalEvent { CommandRejected, CommandDenied }
}

/// The category of the streams that refusals are recorded in, one for each actor. Never an aggregate's.
const CATEGORY: &str = "daybook.refusals";

/// How many kinds of refusals are told apart at a time, so that nobody fills the memory.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Of one actor. What is of none of these is counted as one kind.
    of_actor: usize,
    /// Of all actors. From then on, each new refusal counts among those of its actor that are not told apart.
    of_all: usize,
    /// In all. Beyond that, actors are no longer told apart.
    in_all: usize,
}

const LIMITS: Limits = Limits { of_actor: 100, of_all: 10_000, in_all: 20_000 };

/// Who said no.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Rejected(Rejection),
    Denied,
}

/// Refusals are of one kind when these are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    actor: Option<String>,
    what: What,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    /// This command, with this code when it was rejected.
    One { command: &'static str, code: Option<String> },
    /// Whatever else there is of the actor.
    Others { rejected: bool },
}

/// The first refusal of a kind that was counted and not written, and how many there are.
#[derive(Debug, Clone)]
struct Waiting {
    count: u64,
    stream: StreamId,
    refusal: Refusal,
    /// Sealed.
    metadata: Metadata,
}

/// Whether the first of a kind was written; `None` as long as nobody knows.
type Written = watch::Receiver<Option<Result<(), Arc<DispatchError>>>>;

/// How far a kind is.
enum State {
    /// Its first is being written.
    First(Written),
    /// That is done, and these are counted.
    Counted(Option<Box<Waiting>>),
}

/// The kinds that are told apart, by actor.
#[derive(Default)]
struct Kinds {
    actors: HashMap<Option<String>, HashMap<What, State>>,
    count: usize,
}

impl Kinds {
    fn get_mut(&mut self, kind: &Kind) -> Option<&mut State> {
        self.actors.get_mut(&kind.actor)?.get_mut(&kind.what)
    }

    fn insert(&mut self, kind: Kind, state: State) {
        let before = self.actors.entry(kind.actor).or_default().insert(kind.what, state);
        self.count += usize::from(before.is_none());
    }

    fn remove(&mut self, kind: &Kind) {
        let Some(kinds) = self.actors.get_mut(&kind.actor) else { return };
        self.count -= usize::from(kinds.remove(&kind.what).is_some());
        if kinds.is_empty() {
            self.actors.remove(&kind.actor);
        }
    }

    /// As which kind a refusal counts.
    fn kind(&self, actor: Option<String>, command: &'static str, code: Option<String>, limits: &Limits) -> Kind {
        let known = self.actors.get(&actor);
        let is_known = |what: &What| known.is_some_and(|kinds| kinds.contains_key(what));
        let others = What::Others { rejected: code.is_some() };
        let one = What::One { command, code };
        let is_full = self.count >= limits.of_all || known.is_some_and(|kinds| kinds.len() >= limits.of_actor);
        if is_known(&one) || !is_full {
            Kind { actor, what: one }
        } else if is_known(&others) || self.count < limits.in_all {
            Kind { actor, what: others }
        } else {
            Kind { actor: None, what: one }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Refusals {
    log: Log,
    window: Duration,
    limits: Limits,
    kinds: Arc<Mutex<Kinds>>,
}

impl Refusals {
    pub(crate) fn new(log: Log, window: Duration) -> Self {
        Self { log, window, limits: LIMITS, kinds: Arc::default() }
    }

    pub(crate) async fn record(
        &self,
        command: &'static str,
        target: &StreamId,
        refusal: Refusal,
        metadata: Metadata,
    ) -> Result<(), DispatchError> {
        let mut one = Waiting { count: 1, stream: target.clone(), refusal, metadata };
        loop {
            let (written, is_first) = {
                let mut kinds = self.kinds();
                let kind = kinds.kind(one.metadata.actor.clone(), command, one.refusal.code(), &self.limits);
                if kind.actor != one.metadata.actor {
                    metrics::counter!("daybook_refusals_without_actor_total").increment(1);
                    let metadata = one.metadata;
                    one.metadata = Metadata { actor: None, client: None, traceparent: None, ..metadata };
                }
                match kinds.get_mut(&kind) {
                    Some(State::Counted(counted)) => {
                        count(counted, one);
                        return Ok(());
                    }
                    Some(State::First(written)) => (written.clone(), false),
                    None => {
                        let (tell, written) = watch::channel(None);
                        kinds.insert(kind.clone(), State::First(written.clone()));
                        // In a task of its own, which goes on when the client goes away.
                        tokio::spawn(self.clone().keep(kind.clone(), one.clone(), tell));
                        (written, true)
                    }
                }
            };
            outcome(written).await?;
            if is_first {
                return Ok(());
            }
        }
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the first of a kind, then how many followed whenever a window is over, and forgets the kind after a quiet
    /// one.
    async fn keep(self, kind: Kind, first: Waiting, tell: watch::Sender<Option<Result<(), Arc<DispatchError>>>>) {
        let written = self.write(first).await.map_err(Arc::new);
        let failed = written.is_err();
        if failed {
            self.kinds().remove(&kind);
        } else {
            self.kinds().insert(kind.clone(), State::Counted(None));
        }
        tell.send_replace(Some(written));
        if failed {
            return;
        }
        loop {
            tokio::time::sleep(self.window).await;
            if let Some(waiting) = self.take(&kind) {
                self.write_or_keep(kind.clone(), waiting).await;
            } else if self.is_quiet(&kind) {
                return;
            }
        }
    }

    /// What is counted and not written.
    fn take(&self, kind: &Kind) -> Option<Waiting> {
        self.kinds().get_mut(kind).and_then(State::take)
    }

    /// Whether nothing is counted; then the kind is forgotten.
    fn is_quiet(&self, kind: &Kind) -> bool {
        let mut kinds = self.kinds();
        let quiet = matches!(kinds.get_mut(kind), None | Some(State::Counted(None)));
        if quiet {
            kinds.remove(kind);
        }
        quiet
    }

    /// Writes all that is counted and not written.
    pub(crate) async fn flush(&self) {
        let waiting: Vec<_> = {
            let mut kinds = self.kinds();
            let taken = kinds.actors.iter_mut().flat_map(|(actor, kinds)| {
                let kind = |what: &What| Kind { actor: actor.clone(), what: what.clone() };
                kinds.iter_mut().filter_map(move |(what, state)| Some((kind(what), state.take()?)))
            });
            taken.collect()
        };
        for (kind, waiting) in waiting {
            self.write_or_keep(kind, waiting).await;
        }
    }

    async fn write_or_keep(&self, kind: Kind, waiting: Waiting) {
        if let Err(error) = self.write(waiting.clone()).await {
            tracing::warn!(%error, command = waiting.metadata.command, count = waiting.count, "refusals are not written yet");
            if let Some(State::Counted(counted)) = self.kinds().get_mut(&kind) {
                count(counted, waiting);
            }
        }
    }

    async fn write(&self, refused: Waiting) -> Result<(), DispatchError> {
        let actor = refused.metadata.actor.as_deref().unwrap_or("anonymous");
        let record = NewRecord::new(StreamId::new(CATEGORY, actor), &refused.event())?;
        let append = Append {
            id: actor.to_owned(),
            command_id: refused.metadata.command_id,
            events: vec![record],
            metadata: refused.metadata,
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        match self.log.append(append).await? {
            Verdict::Committed(_) => Ok(()),
            verdict => Err(DispatchError::Internal(format!("a refusal was not written: {verdict:?}"))),
        }
    }
}

impl State {
    /// What is counted.
    fn take(&mut self) -> Option<Waiting> {
        match self {
            Self::First(_) => None,
            Self::Counted(counted) => counted.take().map(|counted| *counted),
        }
    }
}

fn count(counted: &mut Option<Box<Waiting>>, more: Waiting) {
    match counted {
        Some(counted) => counted.count += more.count,
        None => *counted = Some(Box::new(more)),
    }
}

/// Waits until the first of a kind was written. Everybody who waits for it gets its error.
async fn outcome(mut written: Written) -> Result<(), DispatchError> {
    let closed = |_| DispatchError::Unrecorded(Arc::new(LogError::Closed.into()));
    match &*written.wait_for(Option::is_some).await.map_err(closed)? {
        Some(Err(error)) => Err(DispatchError::Unrecorded(Arc::clone(error))),
        _ => Ok(()),
    }
}

impl Refusal {
    fn code(&self) -> Option<String> {
        match self {
            Self::Rejected(rejection) => Some(rejection.code.clone().into_owned()),
            Self::Denied => None,
        }
    }
}

impl Waiting {
    fn event(&self) -> RefusalEvent {
        let (command, stream, count) = (self.metadata.command.clone(), self.stream.to_string(), self.count);
        match &self.refusal {
            Refusal::Rejected(rejection) => {
                let (code, message) = (rejection.code.clone().into_owned(), rejection.message.clone());
                CommandRejected { command, stream, code, message, count }.into()
            }
            Refusal::Denied => CommandDenied { command, stream, count }.into(),
        }
    }
}

#[cfg(test)]
mod tests;
