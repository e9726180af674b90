//! The pure heart of Daybook.
//!
//! Everything a domain is written with lives here: [`Event`], [`Aggregate`], [`Command`], [`Decision`],
//! [`Projection`], and the [`Scenario`] that tests them. The runtime crates (`log`, `dispatch`, `views`, …)
//! bring what is written here to life.
//!
//! **Architecture invariant:** no I/O, no async, no clock and no randomness. Time and ids come in through
//! [`Context`]; whatever a function here returns depends on its arguments alone. (Only `testing`, which other crates'
//! tests switch on, reads their files.)

mod access;
mod aggregate;
mod command;
mod contract;
mod decision;
mod domain;
mod event;
mod forgetting;
mod ids;
mod input;
mod json;
mod json_text;
mod loading;
mod metadata;
mod personal;
mod projection;
mod receipt;
mod rejection;
mod scenario;
mod sealing;
mod seed;
mod shape;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use access::{Access, Actor, Role, Ruling};
pub use aggregate::{Aggregate, Entity, Snapshots};
pub use command::{AnyCommand, Command, CommandSpec, Context, DecodedCommand, Judgement, Outcome};
pub use contract::{Contracts, EventType, Upcaster};
pub use decision::{ClaimChange, Decision, NewEvent};
pub use domain::{AccountOpened, Domain, ForgetAccount};
pub use event::{AnyEvent, DecodeError, Encoded, Envelope, Event, EventSet, RecordedEvent};
pub use forgetting::{SubjectEvent, SubjectForgotten};
pub use ids::{IdError, Position, Revision, StreamId};
pub use input::{FieldError, InputError, decode_json};
pub use json_text::JsonText;
pub use loading::{Loaded, Missing, NotLoaded, Reads, Snapshot, State, States};
pub use metadata::{Client, Metadata};
pub use personal::{Personal, account_of_subject, account_subject, day_subject};
pub use projection::{
    AnyProjection, Batch, Changed, Documents, Field, FieldKind, GivenAway, Keys, Misshapen, NotApplied,
    Projection, ProjectionSpec, caught, projection,
};
pub use receipt::{Receipt, ReceiptEvent};
pub use rejection::{Rejection, RejectionKind};
pub use scenario::{Scenario, Then, event};
pub use sealing::{
    Opened, Origin, SealField, Sealing, holds_fresh, open_fields, seal_fields, sealed_subjects, show_fresh,
};
pub use seed::{Seed, SeedAccount, SeedActor, SeedExample, SeedStep};
pub use shape::{Property, Shape};

#[doc(hidden)]
pub use serde_json as __serde_json;
