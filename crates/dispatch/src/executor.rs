//! The executor: decides commands one after the other in memory, and queues what they append.
//!
//! **Architecture invariant:** no answer is drawn from a state that was not committed. An append fails when one that it
//! was decided over fails; and a refusal or a dry run is queued like any append, though it writes nothing, to find out
//! whether what it was decided over is what the log says at its turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use daybook_core::{
    AnyCommand, ClaimChange, Context, Decision, Judgement, Metadata, Missing, Outcome, Position, Receipt,
    Rejection, Revision, Sealing, State, States, StreamId,
};
use daybook_keys::Keys;
use daybook_log::{Append, Claim, Expected, IdempotencyKey, Log, Submitted, Ticket, Verdict};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::sleep;
use uuid::Uuid;

use crate::memory::Memory;
use crate::sealing::sealed_records;
use crate::{DispatchError, Request, Settings};

/// A command that was authorized as far as that goes without knowing what it is about.
pub(crate) struct Way<'a> {
    pub(crate) name: &'static str,
    pub(crate) command: &'a dyn AnyCommand,
    /// Sealed.
    pub(crate) metadata: &'a Metadata,
    pub(crate) request: &'a Request,
    pub(crate) context: &'a Context,
    /// Only to find out what it would do.
    pub(crate) dry_run: bool,
}

/// Decides commands. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    log: Log,
    keys: Keys,
    memory: Arc<Mutex<Memory>>,
    settings: Settings,
}

/// What deciding over the memory came to.
enum Attempt {
    /// This has to be loaded first, and that others are loading already has to be waited for.
    Missing(Vec<Missing>, Vec<OwnedNotified>),
    /// The keys of these subjects have to be fetched first.
    KeysMissing(Vec<String>),
    /// It was decided, and the append is queued. That of a refusal or of a dry run writes nothing: it finds out whether
    /// what was read is what the log says.
    Queued(Queued),
}

struct Queued {
    submitted: Submitted,
    /// The command's own aggregate.
    target: StreamId,
    /// What the append names, at the revisions that it leaves behind.
    left: Vec<(StreamId, Revision)>,
    /// The states that it changed, with the load that each goes back to.
    changed: Vec<(StreamId, u64)>,
    /// What was decided, or why the command is refused.
    decided: Result<Decided, DispatchError>,
}

enum Decided {
    /// It is being appended. What to answer when a claim is taken, for each claim.
    Appending(Vec<Option<Rejection>>),
    /// It would have been.
    Previewed(Decision),
}

/// What a command came to.
pub(crate) enum Done {
    /// It happened, now or before.
    Receipt(Receipt),
    /// This would happen, in the log as it was at this position.
    Preview(Position, Decision),
}

/// Streams that are being loaded. However that ends, those who wait for them are told.
struct Loading<'a> {
    executor: &'a Executor,
    streams: Vec<StreamId>,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.executor.memory().end_loading(&self.streams);
    }
}

impl Executor {
    pub(crate) fn new(log: Log, keys: Keys, settings: Settings) -> Self {
        let memory = Memory::new(settings.memory_streams_max, settings.memory_bytes_max);
        let memory = Arc::new(Mutex::new(memory));
        tokio::spawn(grow_old(Arc::downgrade(&memory), settings.memory_unused_max));
        Self { log, keys, memory, settings }
    }

    /// Decides and appends, again and again while others change what it decides over.
    pub(crate) async fn execute(&self, way: &Way<'_>, key: Option<IdempotencyKey>) -> Result<Done, DispatchError> {
        let deadline = Instant::now() + self.settings.deadline;
        loop {
            let attempt = self.attempt(way, key)?;
            let answer = match attempt {
                Attempt::Missing(streams, others) => {
                    self.load(streams).await?;
                    for other in others {
                        other.await;
                    }
                    None
                }
                Attempt::KeysMissing(subjects) => {
                    self.keys.fetch(&subjects).await?;
                    None
                }
                Attempt::Queued(queued) => self.finish(queued, way).await?,
            };
            if let Some(done) = answer {
                return Ok(done);
            }
            if Instant::now() >= deadline {
                return Err(DispatchError::Conflict);
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        locked(&self.memory)
    }

    async fn load(&self, streams: Vec<Missing>) -> Result<(), DispatchError> {
        if streams.is_empty() {
            return Ok(());
        }
        let loading =
            Loading { executor: self, streams: streams.iter().map(|missing| missing.stream().clone()).collect() };
        let (loaded, read_at) = self.log.load(streams).await?;
        self.memory().insert(loaded, read_at);
        drop(loading);
        Ok(())
    }

    /// Decides over the memory; if something is to be appended, applies it and queues it. All that in one breath, so
    /// that appends are queued in the order of their decisions.
    fn attempt(&self, way: &Way<'_>, key: Option<IdempotencyKey>) -> Result<Attempt, DispatchError> {
        let mut memory = self.memory();
        let (judgement, mut read) = match way.command.decide(&*memory, way.context) {
            Outcome::Missing(streams) => {
                let (own, others) = memory.begin_loading(streams);
                let others = others.into_iter().map(Notify::notified_owned).collect();
                return Ok(Attempt::Missing(own, others));
            }
            Outcome::Decided(judgement, read) => (judgement, read),
        };
        let target = way.command.target(way.context);
        let actual = memory.state(&target).map(State::revision);
        if let (Some(_), Some(actual)) = (way.request.if_match, actual)
            && !read.iter().any(|(stream, _)| *stream == target)
        {
            read.push((target.clone(), actual));
        }
        let mut decided = judge(judgement, way.request.if_match, actual);
        let mut append = to_append(way, &target, decided.as_ref().ok(), read, &memory);
        if let Some(decision) = decided.as_mut().ok().filter(|_| !way.dry_run) {
            append.claims = decision.claims.iter().map(claim).collect();
            append.key = key;
            append.events = match sealed_records(&self.keys, decision)? {
                Sealing::Sealed(records) => records,
                Sealing::Missing(_, subjects) => return Ok(Attempt::KeysMissing(subjects)),
            };
        }
        let mut left: Vec<_> =
            append.expected.iter().map(|expected| (expected.stream.clone(), expected.revision)).collect();
        let ids: Vec<Uuid> = append.events.iter().map(|record| record.id).collect();
        let reserved = self.log.reserve(append)?;
        let mut changed = Vec::new();
        if let Some(decision) = decided.as_ref().ok().filter(|_| !way.dry_run) {
            // Before it is queued: what an aggregate panics over is not appended, and what it left here counts as not there.
            self.apply(decision, &ids, &mut left, &mut memory, reserved.ticket());
            let streams = decision.events.iter().map(|new| &new.stream);
            changed.extend(streams.filter_map(|stream| Some((stream.clone(), memory.load(stream)?))));
        }
        let submitted = reserved.submit();
        let decided = decided.map(|decision| match way.dry_run {
            true => Decided::Previewed(decision),
            false => Decided::Appending(decision.claims.into_iter().map(when_taken).collect()),
        });
        Ok(Attempt::Queued(Queued { submitted, target, left, changed, decided }))
    }

    /// Waits for the verdict; `None` when it has to be decided again.
    async fn finish(&self, queued: Queued, way: &Way<'_>) -> Result<Option<Done>, DispatchError> {
        let verdict = queued.submitted.verdict().await;
        if !matches!(verdict, Ok(Verdict::Committed(_))) {
            self.memory().undo(&queued.changed);
        }
        match verdict? {
            Verdict::Committed(receipt) => {
                self.memory().seen(&queued.left, receipt.position);
                Ok(Some(match queued.decided? {
                    Decided::Appending(_) => Done::Receipt(receipt),
                    Decided::Previewed(decision) => Done::Preview(receipt.position, decision),
                }))
            }
            Verdict::Repeated(receipt) => Ok(Some(Done::Receipt(receipt))),
            Verdict::KeyReused => Err(DispatchError::KeyReused),
            Verdict::Abandoned => Ok(None),
            Verdict::Conflict(conflict) => {
                metrics::counter!("daybook_command_conflicts_total").increment(1);
                self.memory().outdated(&conflict.stream, conflict.actual);
                match way.request.if_match {
                    // It is not where it has to be, and never will be again.
                    Some(expected) if conflict.stream == queued.target && conflict.actual != expected => {
                        Err(DispatchError::Precondition { expected, actual: conflict.actual })
                    }
                    _ => Ok(None),
                }
            }
            Verdict::ClaimTaken { index, .. } => {
                let rejection = match queued.decided? {
                    Decided::Appending(taken) => taken.into_iter().nth(index).flatten(),
                    Decided::Previewed(_) => None,
                };
                Err(rejection.map_or_else(
                    || DispatchError::Internal(format!("no claim with index {index} was made")),
                    DispatchError::Rejected,
                ))
            }
            Verdict::Invalid(reason) => Err(DispatchError::Internal(reason)),
        }
    }

    /// Applies what was decided to the memory; `ids` are those of its events. `left` are the streams that the append
    /// names, and comes to hold the revisions that it leaves behind.
    fn apply(
        &self,
        decision: &Decision,
        ids: &[Uuid],
        left: &mut [(StreamId, Revision)],
        memory: &mut Memory,
        ticket: &Ticket,
    ) {
        for (new, id) in decision.events.iter().zip(ids) {
            match left.iter_mut().find(|(stream, _)| *stream == new.stream) {
                Some((stream, revision)) => {
                    let due = memory.change(stream, *revision, ticket, |state| state.apply(&*new.event));
                    if let Some(snapshot) = due {
                        self.log.keep(stream, snapshot, *id, ticket);
                    }
                    *revision = revision.plus(1);
                }
                None => memory.forget(&new.stream),
            }
        }
    }
}

fn locked(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets what is not used any more go, as long as there is a memory.
async fn grow_old(memory: Weak<Mutex<Memory>>, interval: Duration) {
    loop {
        sleep(interval).await;
        let Some(memory) = memory.upgrade() else { return };
        locked(&memory).grow_old();
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

/// The append of a decision, its events and claims still to come; of none, when it was refused.
fn to_append(
    way: &Way<'_>,
    target: &StreamId,
    decision: Option<&Decision>,
    read: Vec<(StreamId, Revision)>,
    memory: &Memory,
) -> Append {
    let after = memory.built_on(read.iter().map(|(stream, _)| stream));
    let expected = read.into_iter().map(|(stream, revision)| {
        let read_at = memory.read_at(&stream);
        Expected { stream, revision, read_at }
    });
    let mut append = Append {
        id: target.id().to_owned(),
        command_id: way.context.command_id,
        events: Vec::new(),
        metadata: way.metadata.clone(),
        expected: expected.collect(),
        claims: Vec::new(),
        key: None,
        after,
    };
    let Some(decision) = decision else { return append };
    let precondition = way.request.if_match.map(|revision| (target.clone(), revision));
    for (stream, revision) in decision.expected.iter().cloned().chain(precondition) {
        if !append.expected.iter().any(|one| one.stream == stream && one.revision == revision) {
            append.expected.push(Expected { stream, revision, read_at: None });
        }
    }
    append
}

fn claim(change: &ClaimChange) -> Claim {
    match change.clone() {
        ClaimChange::Take { name, key, holder, .. } => Claim::Take { name: name.to_owned(), key, holder },
        ClaimChange::Release { name, key, holder } => Claim::Release { name: name.to_owned(), key, holder },
    }
}
