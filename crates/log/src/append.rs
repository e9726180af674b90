//! What is appended, and what became of it.

use daybook_core::{AnyEvent, Metadata, Position, Receipt, Revision, StreamId};
use uuid::Uuid;

use crate::Ticket;

/// One append: events in one or several streams, with everything that they depend on. All of it holds and is
/// written, or nothing is.
#[derive(Debug, Clone)]
pub struct Append {
    /// The id of the command's own aggregate, for the receipt.
    pub id: String,
    /// The command's id, for the receipt.
    pub command_id: Uuid,
    /// The events, in order. There may be none: then only the claims and the idempotency key are written.
    pub events: Vec<NewRecord>,
    /// The metadata that all of them bear.
    pub metadata: Metadata,
    /// What every stream that was read, or is written to, has to be at.
    pub expected: Vec<Expected>,
    /// Changes to the claims, in order.
    pub claims: Vec<Claim>,
    /// The idempotency key that the command came with.
    pub key: Option<IdempotencyKey>,
    /// Appends that wait, and whose events were taken for granted in deciding this one. If one of them is not committed,
    /// nor is this.
    pub after: Vec<Ticket>,
}

/// An event to be appended.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Its stream.
    pub stream: StreamId,
    /// Its own id.
    pub id: Uuid,
    /// The contract's name.
    pub event_type: String,
    /// The contract's version.
    pub schema_version: u32,
    /// The payload: JSON, stored to the byte.
    pub payload: String,
}

impl NewRecord {
    /// An event for a stream, with a new id.
    ///
    /// # Errors
    ///
    /// When its payload has no JSON form.
    pub fn new(stream: StreamId, event: &dyn AnyEvent) -> Result<Self, serde_json::Error> {
        let encoded = event.encode()?;
        Ok(Self {
            stream,
            id: Uuid::now_v7(),
            event_type: encoded.event_type.to_owned(),
            schema_version: encoded.schema_version,
            payload: encoded.payload,
        })
    }
}

/// A stream and the revision that it has to be at. A stream that is written to without being named here is
/// appended to wherever it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The stream.
    pub stream: StreamId,
    /// Its revision; [`Revision::NONE`] when it must not exist.
    pub revision: Revision,
    /// The position at which the log was when the revision was read from it (see [`Log::load`](crate::Log::load)). With
    /// it, the appender need not read it again; without, it is read under the lock.
    pub read_at: Option<Position>,
}

/// A change to the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// `holder` takes the key; it may hold it already.
    Take {
        /// What kind of key (`product.sku`).
        name: String,
        /// The key.
        key: String,
        /// The stream that is to hold it.
        holder: StreamId,
    },
    /// `holder` gives the key back; nothing happens when it does not hold it.
    Release {
        /// What kind of key.
        name: String,
        /// The key.
        key: String,
        /// The stream that held it.
        holder: StreamId,
    },
}

/// How long an idempotency key that expires is kept, in days.
pub(crate) const KEY_DAYS: i32 = 7;

/// What makes a retried command answer its first receipt. Both digests are keyed by the server; neither the key
/// nor the body can be read from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Digest of the actor, the command's name and the key.
    pub digest: [u8; 32],
    /// Digest of the body.
    pub body: [u8; 32],
    /// Whether it expires (after 7 days). Ids that reactors derive do not.
    pub expires: bool,
}

/// What became of one append. Nothing of it was written unless it was [`Verdict::Committed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Written and flushed.
    Committed(Receipt),
    /// The same key and body were committed before; this was their receipt.
    Repeated(Receipt),
    /// The key was used before, with another body.
    KeyReused,
    /// A stream was not at the expected revision.
    Conflict(Conflict),
    /// One of [`Append::after`] was not committed.
    Abandoned,
    /// Another stream holds the key of the claim at this index in [`Append::claims`].
    ClaimTaken {
        /// The index.
        index: usize,
        /// The stream that holds it.
        holder: StreamId,
    },
    /// It could never be written: the reason. A mistake of the caller.
    Invalid(String),
}

/// A stream that was not at the expected revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The stream.
    pub stream: StreamId,
    /// Where it had to be.
    pub expected: Revision,
    /// Where it was.
    pub actual: Revision,
}
