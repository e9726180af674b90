//! The executor: decides commands one after the other in memory, and queues what they append.
//!
//! **Architecture invariant:** no answer is drawn from a state that was not committed. A refusal waits for the appends
//! that it was decided over, and then asks whether another process has written to what it read. An append fails when
//! one that it was decided over fails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use daybook_core::{
    AnyCommand, ClaimChange, Context, Decision, Judgement, Missing, Outcome, Receipt, Rejection, Revision, State,
    States, StreamId,
};
use daybook_log::{Append, Claim, Expected, IdempotencyKey, Log, NewRecord, Submitted, Ticket, Verdict};

use crate::memory::Memory;
use crate::{DispatchError, Request, Settings};

/// A command that was authorized as far as that goes without knowing what it is about.
pub(crate) struct Way<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a dyn AnyCommand,
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) request: &'a Request,
    pub(crate) context: &'a Context,
}

/// Decides commands. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    log: Log,
    memory: Arc<Mutex<Memory>>,
    settings: Settings,
}

/// What deciding over the memory came to.
enum Attempt {
    /// This has to be loaded first.
    Missing(Vec<Missing>),
    /// The append is queued.
    Queued(Queued),
    /// The answer is no, should this be what the log says.
    Refused(Refused),
}

struct Queued {
    submitted: Submitted,
    /// The command's own aggregate.
    target: StreamId,
    /// What the append names, at the revisions that it leaves behind.
    left: Vec<(StreamId, Revision)>,
    /// What to answer when a claim is taken, for each claim.
    taken: Vec<Option<Rejection>>,
}

struct Refused {
    error: DispatchError,
    read: Vec<(StreamId, Revision)>,
    /// The appends that it was decided over.
    after: Vec<Ticket>,
}

impl Executor {
    pub(crate) fn new(log: Log, settings: Settings) -> Self {
        let memory = Memory::new(settings.memory_streams_max);
        Self { log, memory: Arc::new(Mutex::new(memory)), settings }
    }

    /// Decides and appends, again and again while others change what it decides over.
    pub(crate) async fn execute(&self, way: &Way<'_>) -> Result<Receipt, DispatchError> {
        let deadline = Instant::now() + self.settings.deadline;
        loop {
            let attempt = self.attempt(way)?;
            let answer = match attempt {
                Attempt::Missing(streams) => {
                    self.load(streams).await?;
                    None
                }
                Attempt::Queued(queued) => self.finish(queued, way).await?,
                Attempt::Refused(refused) => self.confirm(refused).await?,
            };
            if let Some(receipt) = answer {
                return Ok(receipt);
            }
            if Instant::now() >= deadline {
                return Err(DispatchError::Conflict);
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, streams: Vec<Missing>) -> Result<(), DispatchError> {
        let (loaded, read_at) = self.log.load(streams).await?;
        self.memory().insert(loaded, read_at);
        Ok(())
    }

    /// Decides over the memory; if something is to be appended, queues it and applies it. All that in one breath, so
    /// that appends are queued in the order of their decisions.
    fn attempt(&self, way: &Way<'_>) -> Result<Attempt, DispatchError> {
        let mut memory = self.memory();
        let (judgement, mut read) = match way.command.decide(&*memory, way.context) {
            Outcome::Missing(streams) => return Ok(Attempt::Missing(streams)),
            Outcome::Decided(judgement, read) => (judgement, read),
        };
        let target = way.command.target(way.context);
        let actual = memory.state(&target).map(State::revision);
        let decision = match judge(judgement, way.request.if_match, actual) {
            Ok(decision) => decision,
            Err(error) => {
                if let Some(actual) = actual.filter(|_| !read.iter().any(|(stream, _)| *stream == target)) {
                    read.push((target, actual));
                }
                let after = memory.waits_for(read.iter().map(|(stream, _)| stream));
                return Ok(Attempt::Refused(Refused { error, read, after }));
            }
        };
        let append = to_append(way, &target, &decision, read, &memory)?;
        let mut left: Vec<_> =
            append.expected.iter().map(|expected| (expected.stream.clone(), expected.revision)).collect();
        let submitted = self.log.submit(append)?;
        apply(&decision, &mut left, &mut memory, submitted.ticket());
        let taken = decision.claims.into_iter().map(when_taken).collect();
        Ok(Attempt::Queued(Queued { submitted, target, left, taken }))
    }

    /// Waits for the verdict; `None` when it has to be decided again.
    async fn finish(&self, queued: Queued, way: &Way<'_>) -> Result<Option<Receipt>, DispatchError> {
        match queued.submitted.verdict().await? {
            Verdict::Committed(receipt) => {
                self.memory().seen(&queued.left, receipt.position);
                Ok(Some(receipt))
            }
            Verdict::Repeated(receipt) => Ok(Some(receipt)),
            Verdict::KeyReused => Err(DispatchError::KeyReused),
            Verdict::Abandoned => Ok(None),
            Verdict::Conflict(conflict) => {
                metrics::counter!("daybook_command_conflicts_total").increment(1);
                self.memory().forget(&conflict.stream);
                match way.request.if_match {
                    // It is not where it has to be, and never will be again.
                    Some(expected) if conflict.stream == queued.target && conflict.actual != expected => {
                        Err(DispatchError::Precondition { expected, actual: conflict.actual })
                    }
                    _ => Ok(None),
                }
            }
            Verdict::ClaimTaken { index, .. } => Err(queued.taken.into_iter().nth(index).flatten().map_or_else(
                || DispatchError::Internal(format!("no claim with index {index} was made")),
                DispatchError::Rejected,
            )),
            Verdict::Invalid(reason) => Err(DispatchError::Internal(reason)),
        }
    }

    /// Answers a refusal if it was decided over what the log says; `None` when it has to be decided again.
    async fn confirm(&self, refused: Refused) -> Result<Option<Receipt>, DispatchError> {
        for ticket in refused.after {
            if !ticket.settled().await {
                return Ok(None);
            }
        }
        let Some(states) = self.memory().copy(&refused.read) else { return Ok(None) };
        let (loaded, read_at) = self.log.load(states).await?;
        let is_newest =
            loaded.iter().zip(&refused.read).all(|(loaded, (_, revision))| loaded.revision() == *revision);
        self.memory().insert(loaded, read_at);
        if is_newest { Err(refused.error) } else { Ok(None) }
    }
}

/// Applies what was decided to the memory. `left` are the streams that the append names, and comes to hold the
/// revisions that it leaves behind.
fn apply(decision: &Decision, left: &mut [(StreamId, Revision)], memory: &mut Memory, ticket: &Ticket) {
    for new in &decision.events {
        match left.iter_mut().find(|(stream, _)| *stream == new.stream) {
            Some((stream, revision)) => {
                memory.change(stream, *revision, ticket, |state| state.apply(&*new.event));
                *revision = revision.plus(1);
            }
            None => memory.forget(&new.stream),
        }
    }
}

/// The decision, unless somebody or something says no to it. `actual` is where the command's own aggregate is.
fn judge(
    judgement: Judgement,
    if_match: Option<Revision>,
    actual: Option<Revision>,
) -> Result<Decision, DispatchError> {
    let differ = if_match.zip(actual).filter(|(expected, actual)| expected != actual);
    match (judgement, differ) {
        (Judgement::Denied, _) => Err(DispatchError::NotTheirs),
        (_, Some((expected, actual))) => Err(DispatchError::Precondition { expected, actual }),
        (Judgement::Rejected(rejection), None) => Err(DispatchError::Rejected(rejection)),
        (Judgement::Accepted(decision), None) => Ok(decision),
    }
}

fn when_taken(change: ClaimChange) -> Option<Rejection> {
    match change {
        ClaimChange::Take { taken, .. } => Some(taken),
        ClaimChange::Release { .. } => None,
    }
}

fn to_append(
    way: &Way<'_>,
    target: &StreamId,
    decision: &Decision,
    read: Vec<(StreamId, Revision)>,
    memory: &Memory,
) -> Result<Append, DispatchError> {
    let after = memory.waits_for(read.iter().map(|(stream, _)| stream));
    let mut expected: Vec<Expected> = read
        .into_iter()
        .map(|(stream, revision)| Expected { read_at: memory.read_at(&stream), stream, revision })
        .collect();
    let precondition = way.request.if_match.map(|revision| (target.clone(), revision));
    for (stream, revision) in decision.expected.iter().cloned().chain(precondition) {
        if !expected.iter().any(|one| one.stream == stream && one.revision == revision) {
            expected.push(Expected { stream, revision, read_at: None });
        }
    }
    let records = decision.events.iter().map(|new| NewRecord::new(new.stream.clone(), &*new.event));
    let claim = |change: &ClaimChange| match change.clone() {
        ClaimChange::Take { name, key, holder, .. } => Claim::Take { name: name.to_owned(), key, holder },
        ClaimChange::Release { name, key, holder } => Claim::Release { name: name.to_owned(), key, holder },
    };
    Ok(Append {
        id: target.id().to_owned(),
        command_id: way.context.command_id,
        events: records.collect::<Result<_, _>>().map_err(|error| DispatchError::Internal(error.to_string()))?,
        metadata: way.request.metadata(way.name, way.context.command_id, way.context.now),
        expected,
        claims: decision.claims.iter().map(claim).collect(),
        key: way.key,
        after,
    })
}
