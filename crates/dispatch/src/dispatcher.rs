//! The way of a command, step by step.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use daybook_core::{Access, AnyCommand, CommandSpec, Context, Receipt, Ruling};
use daybook_log::{IdempotencyKey, Log, Verdict};
use uuid::Uuid;

use crate::executor::{Executor, Way};
use crate::in_flight::InFlight;
use crate::refusals::{Refusal, Refusals};
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
    /// The most aggregates that are held in memory between commands.
    pub memory_streams_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            refusal_window: Duration::from_secs(60),
            memory_streams_max: 20_000,
        }
    }
}

/// Takes commands on their way. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    log: Log,
    digests: Arc<dyn KeyedDigest>,
    in_flight: InFlight,
    executor: Executor,
    refusals: Refusals,
}

impl Dispatcher {
    /// Dispatches to `log`.
    pub fn new(log: Log, digests: Arc<dyn KeyedDigest>, settings: Settings) -> Self {
        let refusals = Refusals::new(log.clone(), settings.refusal_window);
        let executor = Executor::new(log.clone(), settings);
        Self { log, digests, in_flight: InFlight::default(), executor, refusals }
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
            return self.executor.execute(&Way { name, command, key: None, request, context }).await;
        };
        let _in_flight = self.in_flight.enter(key.digest).ok_or(DispatchError::InFlight)?;
        if let Some(answer) = self.repeated(&key).await? {
            return answer;
        }
        let result = self.executor.execute(&Way { name, command, key: Some(key), request, context }).await;
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
