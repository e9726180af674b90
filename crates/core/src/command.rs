//! Commands: what somebody wants done.

use chrono::{DateTime, Utc};
use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    Access, Actor, Decision, InputError, Missing, NotLoaded, Reads, Rejection, Revision, States, StreamId,
    decode_json,
};

/// Who acts, and the time and ids to act with. Drawn once for each command, so that deciding again after a
/// conflict decides the same.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who sent the command.
    pub actor: Actor,
    /// When it came in.
    pub now: DateTime<Utc>,
    /// Its id.
    pub command_id: Uuid,
    /// A new id (version 7) for what the command makes, when the sender chose none.
    pub fresh_id: Uuid,
}

/// A command, declared once: its endpoint, validation, permission and description all follow from this.
///
/// Its fields' shapes come from `Deserialize` (with `deny_unknown_fields`), their limits from `garde`.
pub trait Command:
    DeserializeOwned + Serialize + JsonSchema + Validate<Context = ()> + Send + Sync + 'static
{
    /// The name in its URL (`order.place`): the aggregate, a dot, a verb.
    const NAME: &'static str;
    /// Who may send it.
    const ACCESS: Access;
    /// What it decides over: an [`Entity`](crate::Entity), or a struct of several.
    type Model;

    /// The command's own aggregate: the one that `If-Match` is about and whose id the receipt bears.
    fn target(&self, context: &Context) -> StreamId;

    /// Reads the decision model. Called again until all that it asks for is in memory.
    ///
    /// # Errors
    ///
    /// When something is not in memory yet.
    fn load(&self, reads: &mut Reads<'_>, context: &Context) -> Result<Self::Model, NotLoaded>;

    /// The account that owns what the command is about; `None` when nobody does. Only asked when
    /// [`ACCESS`](Self::ACCESS) lets owners in.
    fn owner(&self, model: &Self::Model, context: &Context) -> Option<Uuid> {
        let _ = (model, context);
        None
    }

    /// Decides. A pure function of its arguments.
    ///
    /// # Errors
    ///
    /// When a rule says no.
    fn handle(&self, model: &Self::Model, context: &Context) -> Result<Decision, Rejection>;
}

/// What became of deciding over what is loaded.
#[derive(Debug)]
pub enum Outcome {
    /// These streams have to be loaded first.
    Missing(Vec<Missing>),
    /// It was decided, over these streams at these revisions.
    Decided(Judgement, Vec<(StreamId, Revision)>),
}

/// What was decided.
#[derive(Debug)]
pub enum Judgement {
    /// This is to happen.
    Accepted(Decision),
    /// A rule said no.
    Rejected(Rejection),
    /// Authorization said no.
    Denied,
}

/// A decoded command, its type erased.
pub trait AnyCommand: Send + Sync {
    /// See [`Command::target`].
    fn target(&self, context: &Context) -> StreamId;
    /// Authorizes and decides.
    fn decide(&self, states: &dyn States, context: &Context) -> Outcome;
    /// The command's JSON in one canonical form, whatever white space and order it came in.
    ///
    /// # Errors
    ///
    /// When it has no JSON form.
    fn canonical(&self) -> Result<String, serde_json::Error>;
}

impl<C: Command> AnyCommand for C {
    fn target(&self, context: &Context) -> StreamId {
        Command::target(self, context)
    }

    fn decide(&self, states: &dyn States, context: &Context) -> Outcome {
        let mut reads = Reads::new(states);
        let Ok(model) = self.load(&mut reads, context) else {
            return Outcome::Missing(reads.into_missing());
        };
        if !C::ACCESS.allows(&context.actor, self.owner(&model, context)) {
            return Outcome::Decided(Judgement::Denied, reads.into_read());
        }
        let ruled = self.handle(&model, context).map_or_else(Judgement::Rejected, Judgement::Accepted);
        Outcome::Decided(ruled, reads.into_read())
    }

    fn canonical(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// A command that came in and was found well-formed and valid.
pub type DecodedCommand = Box<dyn AnyCommand>;

/// What the runtime knows of a command that was registered.
#[derive(Clone)]
pub struct CommandSpec {
    /// [`Command::NAME`].
    pub name: &'static str,
    /// [`Command::ACCESS`].
    pub access: Access,
    /// The JSON Schema of its body, out of a generator that gathers what several schemas share.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Decodes and validates a body.
    pub decode: fn(&[u8]) -> Result<DecodedCommand, InputError>,
}

impl CommandSpec {
    /// The entry for one command.
    pub fn of<C: Command>() -> Self {
        Self {
            name: C::NAME,
            access: C::ACCESS,
            schema: |generator| generator.subschema_for::<C>(),
            decode: |body| decode_json::<C>(body).map(|command| Box::new(command) as DecodedCommand),
        }
    }
}

impl std::fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandSpec").field("name", &self.name).field("access", &self.access).finish()
    }
}
