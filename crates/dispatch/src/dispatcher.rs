//! The way of a command, step by step.

use std::collections::HashMap;
use std::time::Duration;

use chrono::Utc;
use daybook_core::{
    Access, AnyCommand, ClaimChange, CommandSpec, Context, DecodedCommand, Metadata, Receipt, Ruling, StreamId,
};
use daybook_keys::Keys;
use daybook_log::{IdempotencyKey, Log, LogError, Verdict};
use uuid::Uuid;

use crate::executor::{Done, Executor, Way};
use crate::in_flight::InFlight;
use crate::refusals::{Refusal, Refusals};
use crate::{DispatchError, Preview, Request};

/// How commands are dispatched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a command may try again when others change what it decides over.
    pub deadline: Duration,
    /// Within this time, the same refusal of the same actor is counted and not written again.
    pub refusal_window: Duration,
    /// The most aggregates that are held in memory between commands.
    pub memory_streams_max: usize,
    /// The most bytes of them, more or less.
    pub memory_bytes_max: usize,
    /// Aggregates that were not used for this long, or twice as long, are not held any more.
    pub memory_unused_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            refusal_window: Duration::from_secs(60),
            memory_streams_max: 20_000,
            memory_bytes_max: 32 << 20,
            memory_unused_max: Duration::from_secs(60),
        }
    }
}

/// Takes commands on their way. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    pub(crate) log: Log,
    pub(crate) keys: Keys,
    in_flight: InFlight,
    executor: Executor,
    pub(crate) refusals: Refusals,
}

impl Dispatcher {
    /// Dispatches to `log`; what is personal is sealed with `keys`.
    pub fn new(log: Log, keys: Keys, settings: Settings) -> Self {
        let refusals = Refusals::new(log.clone(), settings.refusal_window);
        let executor = Executor::new(log.clone(), keys.clone(), settings);
        Self { log, keys, in_flight: InFlight::default(), executor, refusals }
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
        match decoded(spec, body, request) {
            Ok(command) => self.run(spec.name, spec.access, &*command, request).await,
            Err(error) => counted(spec.name, Err(error)),
        }
    }

    /// What a command from outside would do, had it come in earnest: decided over what is committed, and nothing is
    /// written. Its idempotency key is not looked at. A rejection is answered and not recorded; what somebody is not
    /// allowed is recorded all the same.
    ///
    /// # Errors
    ///
    /// See [`DispatchError`].
    pub async fn preview(
        &self,
        spec: &CommandSpec,
        body: &[u8],
        request: &Request,
    ) -> Result<Preview, DispatchError> {
        let (decoded, context) = (decoded(spec, body, request)?, context(request));
        let metadata = |request: &Request| request.metadata(spec.name, context.command_id, context.now);
        let nothing_personal = metadata(&Request { client_ip: None, user_agent: None, ..request.clone() });
        let way = Way {
            name: spec.name,
            command: &*decoded,
            metadata: &nothing_personal,
            request,
            context: &context,
            dry_run: true,
        };
        match self.try_out(&way, spec.access).await {
            Err(denied @ (DispatchError::Denied | DispatchError::NotTheirs)) => {
                let sealed = self.keys.sealed_metadata(metadata(request)).await?;
                self.record_refusal(&Way { metadata: &sealed, ..way }, denied).await
            }
            tried => tried,
        }
    }

    async fn try_out(&self, way: &Way<'_>, access: Access) -> Result<Preview, DispatchError> {
        allowed(access, way.request)?;
        let (position, decision) = match self.executor.execute(way, None).await? {
            Done::Preview(position, decision) => (position, decision),
            Done::Receipt(_) => return Err(DispatchError::Internal("a command was not only tried".into())),
        };
        self.try_claims(&decision.claims).await?;
        Preview::new(position, &decision)
    }

    /// Works claims off in their order, as an append does: what one gives back, the next may take.
    async fn try_claims(&self, claims: &[ClaimChange]) -> Result<(), DispatchError> {
        let mut holders: HashMap<(&str, &str), Option<&StreamId>> = HashMap::new();
        for change in claims {
            let (ClaimChange::Take { name, key, holder: wanted, .. }
            | ClaimChange::Release { name, key, holder: wanted }) = change;
            let claim = (*name, key.as_str());
            let is_held_by_another = match holders.get(&claim) {
                Some(holder) => holder.is_some_and(|holder| holder != wanted),
                None => self.log.claim_holder(name, key).await?.is_some_and(|holder| holder != *wanted),
            };
            match change {
                ClaimChange::Take { taken, .. } if is_held_by_another => {
                    return Err(DispatchError::Rejected(taken.clone()));
                }
                ClaimChange::Take { .. } => drop(holders.insert(claim, Some(wanted))),
                ClaimChange::Release { .. } if is_held_by_another => {}
                ClaimChange::Release { .. } => drop(holders.insert(claim, None)),
            }
        }
        Ok(())
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
        counted(name, self.run_in(&context(request), name, access, command, request).await)
    }

    /// Writes down what is still being counted. To be called once no more commands come in.
    pub async fn close(&self) {
        self.refusals.flush().await;
    }

    async fn run_in(
        &self,
        context: &Context,
        name: &'static str,
        access: Access,
        command: &dyn AnyCommand,
        request: &Request,
    ) -> Result<Receipt, DispatchError> {
        let metadata = request.metadata(name, context.command_id, context.now);
        let metadata = self.keys.sealed_metadata(metadata).await?;
        let way = Way { name, command, metadata: &metadata, request, context, dry_run: false };
        let mut result = self.answer(&way, access).await;
        if let Ok(receipt) = &result
            && let Err(error) = self.forget(receipt).await
        {
            result = Err(error);
        }
        match result {
            Ok(receipt) => Ok(receipt),
            Err(error) => self.record_refusal(&way, error).await,
        }
    }

    /// Finds the receipt or the refusal, taking into account that the command may have come before.
    async fn answer(&self, way: &Way<'_>, access: Access) -> Result<Receipt, DispatchError> {
        let Way { name, command, request, .. } = *way;
        allowed(access, request)?;
        let Some(key) = self.idempotency_key(name, command, request)? else {
            return self.execute(way, None).await;
        };
        let _in_flight = self.in_flight.enter(key.digest).ok_or(DispatchError::InFlight)?;
        if let Some(answer) = self.repeated(&key).await? {
            return answer;
        }
        let result = self.execute(way, Some(key)).await;
        // A refusal may have been decided over what a twin, in another process, has just committed.
        match &result {
            Err(DispatchError::Rejected(_) | DispatchError::NotTheirs | DispatchError::Precondition { .. }) => {
                self.repeated(&key).await?.unwrap_or(result)
            }
            _ => result,
        }
    }

    async fn execute(&self, way: &Way<'_>, key: Option<IdempotencyKey>) -> Result<Receipt, DispatchError> {
        match self.executor.execute(way, key).await? {
            Done::Receipt(receipt) => Ok(receipt),
            Done::Preview(..) => Err(DispatchError::Internal("a command was only tried".into())),
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
        let digests = self.keys.digests();
        Ok(Some(IdempotencyKey {
            digest: digests.digest("idempotency.key", &[actor.as_bytes(), name.as_bytes(), key.as_bytes()]),
            body: digests.digest("idempotency.body", &[body.as_bytes()]),
            expires: true,
        }))
    }

    /// Nobody is told that somebody was forgotten before their key is deleted. If it cannot be, whoever follows the log
    /// goes on trying.
    async fn forget(&self, receipt: &Receipt) -> Result<(), DispatchError> {
        for subject in receipt.forgotten() {
            if let Err(error) = self.keys.forget(subject).await {
                tracing::warn!(%error, subject, "the key of somebody who is to be forgotten is not deleted yet");
                return Err(LogError::Unknown.into());
            }
        }
        Ok(())
    }

    /// A rejection or a denial is part of the audit trail. One that cannot be written down is not answered as such.
    async fn record_refusal<T>(&self, way: &Way<'_>, error: DispatchError) -> Result<T, DispatchError> {
        let refusal = match &error {
            DispatchError::Rejected(rejection) => Refusal::Rejected(rejection.clone()),
            DispatchError::Denied | DispatchError::NotTheirs => Refusal::Denied,
            _ => return Err(error),
        };
        let metadata = self.refusal_metadata(way).await?;
        self.refusals.record(way.name, &way.command.target(way.context), refusal, metadata).await?;
        Err(error)
    }

    /// A refused command made nothing that it could be about. An account that was never opened has no holder who could
    /// be forgotten, and a key of its own would never go.
    async fn refusal_metadata(&self, way: &Way<'_>) -> Result<Metadata, DispatchError> {
        if way.request.about.is_none() {
            return Ok(way.metadata.clone());
        }
        let request = Request { about: None, ..way.request.clone() };
        let metadata = request.metadata(way.name, way.context.command_id, way.context.now);
        Ok(self.keys.sealed_metadata(metadata).await?)
    }
}

/// The token comes first, whatever the body.
fn decoded(spec: &CommandSpec, body: &[u8], request: &Request) -> Result<DecodedCommand, DispatchError> {
    match spec.access.rule(&request.actor) {
        Ruling::SignIn => Err(DispatchError::SignIn),
        Ruling::Allowed | Ruling::IfOwner | Ruling::Denied => Ok((spec.decode)(body)?),
    }
}

fn context(request: &Request) -> Context {
    let command_id = Uuid::now_v7();
    Context { actor: request.actor.clone(), now: Utc::now(), command_id, fresh_id: Uuid::now_v7() }
}

/// Whether an actor may send a command at all.
fn allowed(access: Access, request: &Request) -> Result<(), DispatchError> {
    match access.rule(&request.actor) {
        Ruling::Allowed | Ruling::IfOwner => Ok(()),
        Ruling::SignIn => Err(DispatchError::SignIn),
        Ruling::Denied => Err(DispatchError::Denied),
    }
}

fn counted(command: &'static str, result: Result<Receipt, DispatchError>) -> Result<Receipt, DispatchError> {
    let outcome = result.as_ref().err().map_or("accepted", DispatchError::outcome);
    metrics::counter!("daybook_commands_total", "command" => command, "outcome" => outcome).increment(1);
    result
}
