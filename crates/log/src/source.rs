//! Where the newest events are beside the log: what a reader may take instead of reading the log itself.

use std::fmt;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{Position, RecordedEvent};

use crate::Checkpoint;

/// Another place that the log's events come to, sooner or later, and stay for a while. It is never more than the log: what
/// it has not, or not yet, the log has.
pub trait Source: fmt::Debug + Send + Sync {
    /// What it is called where it is shown who reads from where.
    fn name(&self) -> &'static str;

    /// Begins to read behind a checkpoint, in its history and no other one. Does not wait for anything.
    ///
    /// `since` is when the checkpoint's event was recorded: what is behind it was recorded then or later. Without it, all that
    /// there is may be behind it.
    fn open(&self, behind: &Checkpoint, since: Option<DateTime<Utc>>) -> Box<dyn Tail>;
}

/// The events of a [`Source`] behind some place, in the log's order.
#[async_trait]
pub trait Tail: Send {
    /// Takes what is at hand of the events behind `after`, up to `through`, at most `limit`. It never goes back: `after` is
    /// never less than the time before. Does not wait for anything.
    fn take(&mut self, after: Position, through: Position, limit: usize) -> Taken;

    /// Up to where it has seen events, whether in order or not.
    fn newest(&self) -> Position;

    /// Waits until there may be more at hand.
    async fn arrived(&mut self);
}

/// What is at hand of a [`Tail`].
#[derive(Debug, Clone)]
pub enum Taken {
    /// Events, the first of which is the next one, without a hole; at least one.
    Events(Vec<RecordedEvent>),
    /// The next one is not there, and will not come: the first that is there is at this position.
    Hole(Position),
    /// The next one has not come so far.
    Nothing {
        /// The first that is there, if any is.
        first: Option<Position>,
        /// All was read that there is for now.
        is_at_end: bool,
        /// When something last came.
        moved: Instant,
    },
    /// It is not known yet what is there. When it was begun to find out.
    Opening(Instant),
    /// It cannot be read, and why. Nothing comes of it any more.
    Failed(String),
}
