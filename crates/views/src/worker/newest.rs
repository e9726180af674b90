//! Reading the newest events from where they come to beside the log, and knowing when the log has to be asked after all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daybook_core::{Position, RecordedEvent};
use daybook_log::{Checkpoint, Log, LogError, Source, Tail, Taken};

/// How long it is waited for an event that the log has.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to find out what there is.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// When it is tried again where it could not be read.
const RETRY: Duration = Duration::from_secs(2);

/// A source, and how far it was read.
pub(super) struct Newest {
    /// Which projection it is read for.
    projection: &'static str,
    source: Arc<dyn Source>,
    open: Option<Open>,
    open_again_at: Instant,
    patience: Patience,
}

struct Open {
    tail: Box<dyn Tail>,
    /// Up to where it was read: it does not go back.
    at: Checkpoint,
    /// Where the log ended when it was opened. What is appended from then on, this process sees for itself (L11).
    head: Position,
}

/// Where the next events are.
pub(super) enum Next {
    /// Here they are.
    Events(Vec<RecordedEvent>),
    /// There are none, or they are still to come.
    Wait,
    /// In the log: this many of them, at most.
    Log(usize),
}

impl Newest {
    pub(super) fn new(source: Arc<dyn Source>, projection: &'static str) -> Self {
        Self { projection, source, open: None, open_again_at: Instant::now(), patience: Patience::default() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.source.name()
    }

    /// The next events behind `from`, up to `through`, where the log is known to end.
    pub(super) async fn next(
        &mut self,
        log: &Log,
        from: &Checkpoint,
        through: Position,
        limit: usize,
    ) -> Result<Next, LogError> {
        let was_lost = self.patience.is_lost;
        let next = self.look(log, from, through, limit).await;
        let (projection, source) = (self.projection, self.source.name());
        match (was_lost, self.patience.is_lost) {
            (false, true) => tracing::warn!(projection, source, "events come late: they are read from the log"),
            (true, false) => tracing::info!(projection, source, "events come in time again"),
            _ => {}
        }
        next
    }

    async fn look(
        &mut self,
        log: &Log,
        from: &Checkpoint,
        through: Position,
        limit: usize,
    ) -> Result<Next, LogError> {
        let now = Instant::now();
        self.patience.look_again_at = None;
        if through <= from.position {
            // What came late is passed over, and when it was is seen.
            if let Some(open) = &mut self.open {
                open.tail.take(from.position.max(open.at.position), through, limit);
                self.patience.seen(open.tail.newest(), now);
            }
            return Ok(Next::Wait);
        }
        self.patience.begin(through, now);
        self.open_at(log, from).await?;
        let Some(open) = &mut self.open else { return Ok(Next::Log(limit)) };
        open.at = *from;
        let taken = open.tail.take(from.position, through, limit);
        self.patience.seen(open.tail.newest(), now);
        let taken = match taken {
            // Only in the log an event can be missing.
            Taken::Events(events) => match from.precedes(&events) {
                Ok(()) => Taken::Events(events),
                Err(error) => Taken::Failed(error.to_string()),
            },
            taken => taken,
        };
        match taken {
            Taken::Events(events) => {
                if let Some(last) = events.last() {
                    open.at = from.at(last);
                    self.patience.reached(last.position, now);
                    if from.position < open.head {
                        log.check(&open.at).await?;
                    }
                }
                Ok(Next::Events(events))
            }
            Taken::Failed(reason) => {
                let (projection, source) = (self.projection, self.source.name());
                tracing::warn!(
                    projection,
                    source,
                    reason,
                    "events cannot be read there: they are read from the log"
                );
                (self.open, self.open_again_at) = (None, now + RETRY);
                self.patience.is_lost = true;
                Ok(Next::Log(limit))
            }
            Taken::Hole(first) => Ok(Next::Log(between(from.position, first).min(limit))),
            Taken::Nothing { first, is_at_end, moved } => {
                let moved = Some(moved).filter(|_| !is_at_end);
                let deadline = self.patience.deadline(moved, now);
                let hole = first.map_or(limit, |first| between(from.position, first).min(limit));
                Ok(self.wait_until(deadline, now, hole))
            }
            Taken::Opening(since) => Ok(self.wait_until(since + OPEN_LIMIT, now, limit)),
        }
    }

    fn wait_until(&mut self, deadline: Instant, now: Instant, hole: usize) -> Next {
        if !self.patience.is_lost {
            if now < deadline {
                self.patience.look_again_at = Some(deadline);
                return Next::Wait;
            }
            self.patience.is_lost = true;
        }
        Next::Log(hole)
    }

    /// Opens what there is behind `from`, unless it is open or not to be opened just now.
    async fn open_at(&mut self, log: &Log, from: &Checkpoint) -> Result<(), LogError> {
        let goes_on =
            |at: &Checkpoint| (at.log_id, at.epoch) == (from.log_id, from.epoch) && at.position <= from.position;
        self.open.take_if(|open| !goes_on(&open.at));
        if self.open.is_none() && Instant::now() >= self.open_again_at {
            let head = log.head().await?.position;
            let since = match from.position {
                Position::START => None,
                at => log.event(at).await?.map(|event| event.recorded_at),
            };
            self.open = Some(Open { tail: self.source.open(from, since), at: *from, head });
        }
        Ok(())
    }

    /// Waits until there may be more, or the log has to be asked.
    pub(super) async fn arrived(&mut self) {
        let at = self.patience.look_again_at;
        let look_again = async {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        match &mut self.open {
            Some(open) => tokio::select! {
                () = open.tail.arrived() => {}
                () = look_again => {}
            },
            None => std::future::pending().await,
        }
    }

    /// Closes it. It is opened again when it is asked.
    pub(super) fn close(&mut self) {
        self.open = None;
    }
}

/// How many positions there are between two.
fn between(after: Position, first: Position) -> usize {
    usize::try_from(first.get().saturating_sub(after.get() + 1)).unwrap_or(usize::MAX)
}

/// How late what the log has may come. One place at a time is looked at: where the log ended when that was seen.
#[derive(Debug, Default)]
struct Patience {
    /// Where the log ended, and when that was seen.
    mark: Option<(Position, Instant)>,
    /// Whether it came too late: nobody waits until it comes in time again.
    is_lost: bool,
    /// Until when it is waited for what is missing.
    look_again_at: Option<Instant>,
}

impl Patience {
    /// The log is known to have events up to `end`.
    fn begin(&mut self, end: Position, now: Instant) {
        // What is late is late; what comes now may not be.
        self.mark.take_if(|(_, since)| self.is_lost && now.duration_since(*since) >= PATIENCE);
        self.mark.get_or_insert((end, now));
    }

    /// All events up to here have come.
    fn reached(&mut self, position: Position, now: Instant) {
        if let Some((_, since)) = self.mark.take_if(|(mark, _)| *mark <= position) {
            self.is_lost &= now.duration_since(since) >= PATIENCE;
        }
    }

    /// An event has come, whether those before it have or not. That much is enough to go by where nobody waits for them.
    fn seen(&mut self, position: Position, now: Instant) {
        if self.is_lost {
            self.reached(position, now);
        }
    }

    /// Until when to wait. `moved` is when something last came, while it is not known whether all has come that there is.
    fn deadline(&self, moved: Option<Instant>, now: Instant) -> Instant {
        self.mark.map(|(_, since)| since).max(moved).unwrap_or(now) + PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Position {
        Position::new(position)
    }

    #[test]
    fn what_comes_in_time_is_waited_for() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        patience.begin(at(5), start);
        patience.begin(at(9), after(900));
        assert_eq!(patience.deadline(None, after(900)), start + PATIENCE, "it is the first of them that counts");
        assert_eq!(patience.deadline(Some(after(800)), after(900)), after(800) + PATIENCE, "something comes");
        patience.reached(at(5), after(950));
        patience.begin(at(9), after(960));
        assert_eq!(patience.deadline(None, after(970)), after(960) + PATIENCE);
    }

    #[test]
    fn what_came_too_late_is_not_waited_for_until_it_comes_in_time() {
        let (mut patience, start) = (Patience { is_lost: true, ..Patience::default() }, Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        patience.begin(at(5), start);
        patience.seen(at(4), after(10));
        assert!(patience.is_lost);
        patience.seen(at(5), after(2_000));
        assert!(patience.is_lost, "it was late");
        patience.begin(at(7), after(2_000));
        patience.begin(at(9), after(4_000));
        patience.seen(at(8), after(4_010));
        assert!(patience.is_lost, "what is looked at is what is new");
        patience.seen(at(9), after(4_020));
        assert!(!patience.is_lost);
    }

    #[test]
    fn what_comes_out_of_order_ends_no_waiting() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        patience.begin(at(5), start);
        patience.seen(at(6), start);
        assert_eq!(patience.deadline(None, start), start + PATIENCE);
        assert_eq!(patience.mark, Some((at(5), start)));
    }
}
