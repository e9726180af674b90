//! What a command decided: events and claims, all of them or none.

use crate::{Aggregate, AnyEvent, Entity, Rejection, Revision, StreamId, SubjectEvent, SubjectForgotten};

/// An event that is to be appended to a stream.
#[derive(Debug)]
pub struct NewEvent {
    /// The stream.
    pub stream: StreamId,
    /// The event.
    pub event: Box<dyn AnyEvent>,
}

/// A change to the claims: unique keys, each held by a stream.
#[derive(Debug, Clone)]
pub enum ClaimChange {
    /// Takes a key.
    Take {
        /// What kind of key (`product.sku`).
        name: &'static str,
        /// The key. A personal one goes in as a keyed hash.
        key: String,
        /// The stream that is to hold it.
        holder: StreamId,
        /// What to answer when another stream holds it.
        taken: Rejection,
    },
    /// Gives a key back; nothing happens when `holder` does not hold it.
    Release {
        /// What kind of key.
        name: &'static str,
        /// The key.
        key: String,
        /// The stream that held it.
        holder: StreamId,
    },
}

/// What a command decided. Everything in it is written together, or nothing is.
#[derive(Debug, Default)]
pub struct Decision {
    /// The events, in their order.
    pub events: Vec<NewEvent>,
    /// The changes to the claims.
    pub claims: Vec<ClaimChange>,
    /// The streams written to, at the revisions that they were decided over.
    pub expected: Vec<(StreamId, Revision)>,
}

impl Decision {
    /// Nothing yet. A decision that stays empty is a command that had nothing to do; it gets a receipt too.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event to the stream of `entity`.
    #[must_use]
    pub fn emit<A: Aggregate>(mut self, entity: &Entity<A>, event: impl Into<A::Event>) -> Self {
        if !self.expected.iter().any(|(stream, _)| stream == entity.stream()) {
            self.expected.push((entity.stream().clone(), entity.revision()));
        }
        self.events.push(NewEvent { stream: entity.stream().clone(), event: Box::new(event.into()) });
        self
    }

    /// Takes the key `key` for `holder`; `taken` is the answer when another stream holds it.
    #[must_use]
    pub fn claim<A: Aggregate>(
        mut self,
        holder: &Entity<A>,
        name: &'static str,
        key: impl Into<String>,
        taken: Rejection,
    ) -> Self {
        let (key, holder) = (key.into(), holder.stream().clone());
        self.claims.push(ClaimChange::Take { name, key, holder, taken });
        self
    }

    /// Gives the key `key` of `holder` back.
    #[must_use]
    pub fn release<A: Aggregate>(
        mut self,
        holder: &Entity<A>,
        name: &'static str,
        key: impl Into<String>,
    ) -> Self {
        let (key, holder) = (key.into(), holder.stream().clone());
        self.claims.push(ClaimChange::Release { name, key, holder });
        self
    }

    /// Forgets a person, in the same append: the key of their personal data is deleted before the command is answered,
    /// and if they have an account, it is closed.
    #[must_use]
    pub fn forget(mut self, subject: impl Into<String>) -> Self {
        let forgotten = SubjectForgotten { subject: subject.into() };
        let stream = SubjectEvent::stream(&forgotten.subject);
        self.events.push(NewEvent { stream, event: Box::new(SubjectEvent::from(forgotten)) });
        self
    }

    /// Adds all of another decision.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.events.extend(other.events);
        self.claims.extend(other.claims);
        self.expected.extend(other.expected);
        self
    }
}
