//! Reading the log for a worker: ahead, as long as it goes on where it stopped.

use std::time::{Duration, Instant};

use daybook_core::{Position, RecordedEvent};
use daybook_log::{Checkpoint, Log, LogError, Scan};
use tokio::sync::watch;

use super::Halt;
use crate::Settings;
use crate::status::Stopped;

pub(super) struct Reader {
    log: Log,
    /// The most events that are read at once.
    page: usize,
    /// How often to look when the log gives no signal.
    idle: Duration,
    appended: watch::Receiver<Position>,
    ahead: Option<Ahead>,
    /// Where the log ended, and when that was.
    ended: Option<(Checkpoint, Instant)>,
}

/// What was read, and is still to be taken in.
struct Ahead {
    scan: Scan,
    /// Behind which event it goes on.
    at: Checkpoint,
    left: Vec<RecordedEvent>,
}

impl Reader {
    pub(super) fn new(log: Log, settings: &Settings) -> Self {
        let (page, idle, appended) = (settings.page_events_max.max(1), settings.idle_interval, log.watch());
        Self { log, page, idle, appended, ahead: None, ended: None }
    }

    /// The next events behind `from`, at most `limit`; none at the end of the log. Where the log is damaged, they end before
    /// the damage.
    pub(super) async fn read(&mut self, from: &Checkpoint, limit: usize) -> Result<Vec<RecordedEvent>, Halt> {
        let after = from.position;
        let (position, reason) = match self.next(from, limit).await {
            Ok(events) => return in_sequence(after, events),
            Err(error) => damage(error, after)?,
        };
        let readable = (position.get().saturating_sub(after.get() + 1) as usize).min(limit).min(self.page);
        if readable == 0 {
            return Err(Halt::Stopped(Stopped { position, reason }));
        }
        match self.log.read_on(from, readable).await {
            Ok(events) => in_sequence(after, events),
            Err(error) => {
                let (position, reason) = damage(error, after)?;
                Err(Halt::Stopped(Stopped { position, reason }))
            }
        }
    }

    async fn next(&mut self, from: &Checkpoint, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        if self.ended.is_some_and(|(at, when)| at == *from && when.elapsed() < self.idle) {
            return Ok(Vec::new());
        }
        let mut ahead = match self.ahead.take().filter(|ahead| ahead.at == *from) {
            Some(ahead) => ahead,
            None => {
                // Marked as seen before reading, so that whatever is appended from here on wakes. What was appended before
                // is read, be it by this scan or by one of ranges that stand where the log ended then.
                self.appended.mark_unchanged();
                self.ended = None;
                Ahead { scan: self.log.scan(from, self.page), at: *from, left: Vec::new() }
            }
        };
        if ahead.left.is_empty() {
            match ahead.scan.next().await? {
                Some(page) => ahead.left = page,
                None => {
                    self.ended = Some((*from, Instant::now()));
                    return Ok(Vec::new());
                }
            }
        }
        let rest = ahead.left.split_off(limit.min(ahead.left.len()));
        let events = std::mem::replace(&mut ahead.left, rest);
        if let Some(last) = events.last() {
            ahead.at = Checkpoint { position: last.position, event_id: last.id, ..ahead.at };
        }
        self.ahead = Some(ahead);
        Ok(events)
    }

    /// Waits for events behind those that were read. Never ends by itself when there are no signals.
    pub(super) async fn appended(&mut self) {
        if self.appended.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.ended = None;
    }

    /// Forgets what was read ahead.
    pub(super) fn clear(&mut self) {
        (self.ahead, self.ended) = (None, None);
    }
}

/// Where a log cannot be read that begins to be read behind `after`, and why; else the error is passed on.
fn damage(error: LogError, after: Position) -> Result<(Position, String), Halt> {
    match error {
        LogError::History(error) => Ok((after, error.to_string())),
        LogError::Damaged { position, reason } => Ok((position, reason)),
        LogError::Decode(error) => Ok((error.position, error.to_string())),
        error => Err(error.into()),
    }
}

/// The log has no holes (L2). One that has is not folded over.
pub(super) fn in_sequence(after: Position, events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>, Halt> {
    let hole =
        (1..).zip(&events).map(|(nth, event)| (after.plus(nth), event.position)).find(|(due, is)| due != is);
    match hole {
        None => Ok(events),
        Some((due, is)) => {
            let reason = format!("the log has position {is} where {due} is due");
            Err(Halt::Stopped(Stopped { position: due, reason }))
        }
    }
}
