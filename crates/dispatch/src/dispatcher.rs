//! The way of a command, step by step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use daybook_core::{
    Access, AnyCommand, ClaimChange, CommandSpec, Context, Decision, Loaded, Missing, Outcome, Receipt, Rejection,
    Revision, Ruling, StreamId,
};
use daybook_log::{Append, Claim, Conflict, Expected, IdempotencyKey, Log, NewRecord, Verdict};
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::in_flight::InFlight;
use crate::refusals::{Refusal, Refusals};
use crate::turns::{Turn, Turns};
use crate::{DispatchError, Request};

/// A digest that only this installation can make: keyed, so that what went in can be neither read nor guessed.
pub trait KeyedDigest: Send + Sync {
    /// The digest of `parts`, for one `purpose`. Parts are kept apart: `["ab", "c"]` and `["a", "bc"]` differ.
    fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32];
}

/// How commands are dispatched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a command may try again when others change what it decides over.
    pub deadline: Duration,
    /// Within this time, the same refusal of the same actor is counted and not written again.
    pub refusal_window: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), refusal_window: Duration::from_secs(60) }
    }
}

/// Takes commands on their way. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    log: Log,
    digests: Arc<dyn KeyedDigest>,
    in_flight: InFlight,
    turns: Turns,
    refusals: Refusals,
    settings: Settings,
}

impl Dispatcher {
    /// Dispatches to `log`.
    pub fn new(log: Log, digests: Arc<dyn KeyedDigest>, settings: Settings) -> Self {
        let refusals = Refusals::new(log.clone(), settings.refusal_window);
        Self { log, digests, in_flight: InFlight::default(), turns: Turns::default(), refusals, settings }
    }

    /// Decodes, validates and runs a command that came from outside.
    ///
    /// # Errors
    ///
    /// See [`DispatchError`].
    pub async fn dispatch(
        &self,
        spec: &CommandSpec,
        body: &[u8],
        request: &Request,
    ) -> Result<Receipt, DispatchError> {
        // The token comes first, whatever the body.
        let decoded = match spec.access.rule(&request.actor) {
            Ruling::SignIn => Err(DispatchError::SignIn),
            Ruling::Allowed | Ruling::IfOwner | Ruling::Denied => (spec.decode)(body).map_err(DispatchError::from),
        };
        match decoded {
            Ok(command) => self.run(spec.name, spec.access, &*command, request).await,
            Err(error) => counted(spec.name, Err(error)),
        }
    }

    /// Runs a command that is already decoded: authorizes, loads, decides, appends.
    ///
    /// # Errors
    ///
    /// See [`DispatchError`].
    pub async fn run(
        &self,
        name: &'static str,
        access: Access,
        command: &dyn AnyCommand,
        request: &Request,
    ) -> Result<Receipt, DispatchError> {
        let id = Uuid::now_v7();
        let context =
            Context { actor: request.actor.clone(), now: Utc::now(), command_id: id, fresh_id: Uuid::now_v7() };
        let result = self.answer(name, access, command, request, &context).await;
        counted(name, self.record_refusal(name, command, request, &context, result).await)
    }

    /// Writes down what is still being counted. To be called once no more commands come in.
    pub async fn close(&self) {
        self.refusals.flush().await;
    }

    /// Finds the receipt or the refusal, taking into account that the command may have come before.
    async fn answer(
        &self,
        name: &str,
        access: Access,
        command: &dyn AnyCommand,
        request: &Request,
        context: &Context,
    ) -> Result<Receipt, DispatchError> {
        match access.rule(&request.actor) {
            Ruling::Allowed | Ruling::IfOwner => {}
            Ruling::SignIn => return Err(DispatchError::SignIn),
            Ruling::Denied => return Err(DispatchError::Denied),
        }
        let Some(key) = self.idempotency_key(name, command, request)? else {
            return self.decide_and_append(name, command, None, request, context).await;
        };
        let _in_flight = self.in_flight.enter(key.digest).ok_or(DispatchError::InFlight)?;
        if let Some(answer) = self.repeated(&key).await? {
            return answer;
        }
        let result = self.decide_and_append(name, command, Some(key), request, context).await;
        // A refusal may have been decided over what a twin, in another process, has just committed.
        match &result {
            Err(DispatchError::Rejected(_) | DispatchError::NotTheirs | DispatchError::Precondition { .. }) => {
                self.repeated(&key).await?.unwrap_or(result)
            }
            _ => result,
        }
    }

    /// The answer to a command whose idempotency key was used before.
    async fn repeated(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<Result<Receipt, DispatchError>>, DispatchError> {
        Ok(self.log.repeated(key).await?.map(|verdict| match verdict {
            Verdict::Repeated(receipt) => Ok(receipt),
            _ => Err(DispatchError::KeyReused),
        }))
    }

    async fn decide_and_append(
        &self,
        name: &str,
        command: &dyn AnyCommand,
        key: Option<IdempotencyKey>,
        request: &Request,
        context: &Context,
    ) -> Result<Receipt, DispatchError> {
        let deadline = Instant::now() + self.settings.deadline;
        let target = command.target(context);
        let mut turn: Option<Turn> = None;
        loop {
            let mut loaded = Loaded::default();
            let outcome = loop {
                match command.decide(&loaded, context) {
                    Outcome::Missing(streams) => self.load(&mut loaded, streams).await?,
                    outcome => break outcome,
                }
            };
            if matches!(outcome, Outcome::Decided(..) | Outcome::Rejected(..)) {
                precondition(request.if_match, loaded.revision(&target))?;
            }
            let (decision, read) = match outcome {
                Outcome::Decided(decision, read) => (decision, read),
                Outcome::Rejected(rejection) => return Err(DispatchError::Rejected(rejection)),
                Outcome::Denied => return Err(DispatchError::NotTheirs),
                Outcome::Missing(_) => return Err(DispatchError::Internal("nothing left to load".into())),
            };
            let written: BTreeSet<StreamId> = decision.events.iter().map(|new| new.stream.clone()).collect();
            if turn.is_none() && self.turns.are_taken(&written) {
                turn = Some(self.wait(written, deadline).await?);
                continue;
            }
            let taken: Vec<_> = decision.claims.iter().map(when_taken).collect();
            let append = to_append(name, &target, decision, read, key, request, context)?;
            match self.log.append(append).await? {
                Verdict::Committed(receipt) | Verdict::Repeated(receipt) => return Ok(receipt),
                Verdict::KeyReused => return Err(DispatchError::KeyReused),
                Verdict::Conflict(conflict) => {
                    metrics::counter!("daybook_command_conflicts_total").increment(1);
                    if is_about_precondition(request.if_match, &target, &conflict) {
                        precondition(request.if_match, Some(conflict.actual))?;
                    }
                    if Instant::now() >= deadline {
                        return Err(DispatchError::Conflict);
                    }
                    drop(turn.take());
                    turn = Some(self.wait(written, deadline).await?);
                }
                Verdict::ClaimTaken { index, .. } => {
                    let rejection = taken.into_iter().nth(index).flatten();
                    return Err(rejection.map_or_else(
                        || DispatchError::Internal(format!("no claim with index {index} was made")),
                        DispatchError::Rejected,
                    ));
                }
                Verdict::Abandoned => {}
                Verdict::Invalid(reason) => return Err(DispatchError::Internal(reason)),
            }
        }
    }

    /// Waits to be the only one in this process that writes these streams.
    async fn wait(&self, written: BTreeSet<StreamId>, deadline: Instant) -> Result<Turn, DispatchError> {
        timeout_at(deadline.into(), self.turns.wait(written)).await.map_err(|_| DispatchError::Conflict)
    }

    async fn load(&self, loaded: &mut Loaded, streams: Vec<Missing>) -> Result<(), DispatchError> {
        for stream in self.log.load(streams).await?.0 {
            loaded.insert(stream);
        }
        Ok(())
    }

    fn idempotency_key(
        &self,
        name: &str,
        command: &dyn AnyCommand,
        request: &Request,
    ) -> Result<Option<IdempotencyKey>, DispatchError> {
        let Some(key) = &request.idempotency_key else { return Ok(None) };
        // Without an account, the address: strangers do not share their keys.
        let actor = request.actor.name().or_else(|| Some(format!("from {}", request.client_ip.as_deref()?)));
        let actor = actor.unwrap_or_default();
        let body = command.canonical().map_err(|error| DispatchError::Internal(error.to_string()))?;
        Ok(Some(IdempotencyKey {
            digest: self.digests.digest("idempotency.key", &[actor.as_bytes(), name.as_bytes(), key.as_bytes()]),
            body: self.digests.digest("idempotency.body", &[body.as_bytes()]),
            expires: true,
        }))
    }

    /// A rejection or a denial is part of the audit trail. One that cannot be written down is not answered as such.
    async fn record_refusal(
        &self,
        name: &'static str,
        command: &dyn AnyCommand,
        request: &Request,
        context: &Context,
        result: Result<Receipt, DispatchError>,
    ) -> Result<Receipt, DispatchError> {
        let refusal = match &result {
            Err(DispatchError::Rejected(rejection)) => Refusal::Rejected(rejection.clone()),
            Err(DispatchError::Denied | DispatchError::NotTheirs) => Refusal::Denied,
            _ => return result,
        };
        self.refusals.record(name, &command.target(context), refusal, request, context).await?;
        result
    }
}

fn counted(command: &'static str, result: Result<Receipt, DispatchError>) -> Result<Receipt, DispatchError> {
    let outcome = result.as_ref().err().map_or("accepted", DispatchError::outcome);
    metrics::counter!("daybook_commands_total", "command" => command, "outcome" => outcome).increment(1);
    result
}

fn precondition(expected: Option<Revision>, actual: Option<Revision>) -> Result<(), DispatchError> {
    match (expected, actual) {
        (Some(expected), Some(actual)) if expected != actual => {
            Err(DispatchError::Precondition { expected, actual })
        }
        _ => Ok(()),
    }
}

/// Whether a conflict says that the aggregate was not where `If-Match` wanted it, and never will be again.
fn is_about_precondition(if_match: Option<Revision>, target: &StreamId, conflict: &Conflict) -> bool {
    if_match.is_some() && conflict.stream == *target
}

fn when_taken(change: &ClaimChange) -> Option<Rejection> {
    match change {
        ClaimChange::Take { taken, .. } => Some(taken.clone()),
        ClaimChange::Release { .. } => None,
    }
}

fn to_append(
    name: &str,
    target: &StreamId,
    decision: Decision,
    read: Vec<(StreamId, Revision)>,
    key: Option<IdempotencyKey>,
    request: &Request,
    context: &Context,
) -> Result<Append, DispatchError> {
    let mut expected: Vec<Expected> = Vec::with_capacity(read.len() + decision.expected.len() + 1);
    let precondition = request.if_match.map(|revision| (target.clone(), revision));
    for (stream, revision) in read.into_iter().chain(decision.expected).chain(precondition) {
        let one = Expected { stream, revision, read_at: None };
        if !expected.contains(&one) {
            expected.push(one);
        }
    }
    let events = decision
        .events
        .into_iter()
        .map(|new| NewRecord::new(new.stream, &*new.event))
        .collect::<Result<_, _>>()
        .map_err(|error| DispatchError::Internal(error.to_string()))?;
    let claims = decision
        .claims
        .into_iter()
        .map(|change| match change {
            ClaimChange::Take { name, key, holder, .. } => Claim::Take { name: name.to_owned(), key, holder },
            ClaimChange::Release { name, key, holder } => Claim::Release { name: name.to_owned(), key, holder },
        })
        .collect();
    Ok(Append {
        id: target.id().to_owned(),
        command_id: context.command_id,
        events,
        metadata: request.metadata(name, context.command_id, context.now),
        expected,
        claims,
        key,
        after: Vec::new(),
    })
}
