//! Reading for a worker: the log, ahead, as long as it goes on where it stopped; or what is newest, from beside it.

use std::time::{Duration, Instant};

use daybook_core::{Position, RecordedEvent};
use daybook_log::{Checkpoint, Log, LogError, Scan};
use tokio::sync::watch;

use super::Halt;
use super::newest::{Newest, Next};
use crate::Settings;
use crate::fold::Unfit;
use crate::status::Stopped;

pub(super) struct Reader {
    log: Log,
    /// The most events that are read at once.
    page: usize,
    /// How often to look when the log gives no signal.
    idle: Duration,
    appended: watch::Receiver<Position>,
    /// Which projection it reads for.
    projection: &'static str,
    /// Where the newest events are beside the log, if anywhere.
    newest: Option<Newest>,
    /// Whether they are to be read there.
    reads_newest: bool,
    /// What was last read there.
    beside: Option<Beside>,
    ahead: Option<Ahead>,
    /// Where the log ended, and when that was.
    ended: Option<(Checkpoint, Instant)>,
}

/// A page that came from beside the log, by the event that it is behind.
#[derive(PartialEq, Eq)]
enum Beside {
    /// It was read.
    Read(Checkpoint),
    /// Some event of it cannot be taken in, as it is there: the log is read in its place.
    Unfit(Checkpoint),
}

/// What was read, and is still to be taken in.
struct Ahead {
    scan: Scan,
    /// Behind which event it goes on.
    at: Checkpoint,
    left: Vec<RecordedEvent>,
}

impl Reader {
    pub(super) fn new(log: Log, settings: &Settings, projection: &'static str) -> Self {
        let (page, idle, appended) = (settings.page_events_max.max(1), settings.idle_interval, log.watch());
        let newest = settings.source.clone().map(|source| Newest::new(source, projection));
        let (reads_newest, beside, ahead, ended) = (false, None, None, None);
        Self { log, page, idle, appended, projection, newest, reads_newest, beside, ahead, ended }
    }

    /// Whether the newest events are to be read where they are beside the log. Who is far behind reads the log.
    pub(super) fn read_newest(&mut self, reads: bool) {
        if let Some(newest) = self.newest.as_mut().filter(|_| !reads) {
            newest.close();
        }
        self.reads_newest = reads;
    }

    /// The next events behind `from`, at most `limit`; none at the end of the log, or while they are still to come. Where the
    /// log is damaged, they end before the damage.
    pub(super) async fn read(&mut self, from: &Checkpoint, limit: usize) -> Result<Vec<RecordedEvent>, Halt> {
        let is_unfit = self.beside.take() == Some(Beside::Unfit(*from));
        let mut missing = is_unfit.then_some(limit.min(self.page));
        if let Some(newest) = self.newest.as_mut().filter(|_| self.reads_newest && !is_unfit) {
            if self.appended.has_changed().is_ok_and(|news| news) {
                self.ended = None;
            }
            let through = *self.appended.borrow_and_update();
            match newest.next(&self.log, from, through, limit.min(self.page)).await {
                Ok(Next::Events(events)) => {
                    count(self.projection, newest.name(), events.len());
                    self.beside = Some(Beside::Read(*from));
                    return Ok(events);
                }
                Ok(Next::Wait) => return Ok(Vec::new()),
                Ok(Next::Log(events)) => missing = Some(events),
                Err(error) => return Err(Halt::Stopped(damage(error, from.position)?)),
            }
        }
        let events = self.read_log(from, limit, missing).await?;
        count(self.projection, "log", events.len());
        Ok(events)
    }

    /// Has the page behind `from` read from the log if it came from beside it and cannot be taken in: whether it did.
    pub(super) fn turns_to_log(&mut self, from: &Checkpoint, Unfit { position, reason }: &Unfit) -> bool {
        let came_from_beside = self.beside == Some(Beside::Read(*from));
        if came_from_beside {
            let source = self.newest.as_ref().map(Newest::name);
            let (projection, position) = (self.projection, position.map(Position::get));
            tracing::warn!(
                projection,
                source,
                position,
                reason,
                "an event is unfit there: it is read from the log"
            );
            self.beside = Some(Beside::Unfit(*from));
        }
        came_from_beside
    }

    /// The same from the log: on and on, or at most as many as are missing elsewhere.
    async fn read_log(
        &mut self,
        from: &Checkpoint,
        limit: usize,
        missing: Option<usize>,
    ) -> Result<Vec<RecordedEvent>, Halt> {
        let after = from.position;
        let read = match missing {
            Some(missing) => self.log.read_on(from, missing).await,
            None => self.next(from, limit).await,
        };
        let stopped = match read {
            Ok(events) => return Ok(events),
            Err(error) => damage(error, after)?,
        };
        let readable = (stopped.position.get().saturating_sub(after.get() + 1) as usize).min(limit).min(self.page);
        if readable == 0 {
            return Err(Halt::Stopped(stopped));
        }
        match self.log.read_on(from, readable).await {
            Ok(events) => Ok(events),
            Err(error) => Err(Halt::Stopped(damage(error, after)?)),
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
            ahead.at = ahead.at.at(last);
        }
        self.ahead = Some(ahead);
        Ok(events)
    }

    /// Waits for events behind those that were read. Never ends by itself when there are no signals.
    pub(super) async fn appended(&mut self) {
        let arrived = async {
            match self.newest.as_mut().filter(|_| self.reads_newest) {
                Some(newest) => newest.arrived().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = self.appended.changed() => {}
            () = arrived => {}
        }
        self.ended = None;
    }

    /// Forgets what was read ahead.
    pub(super) fn clear(&mut self) {
        (self.ahead, self.ended) = (None, None);
    }
}

fn count(projection: &'static str, source: &'static str, events: usize) {
    let labels = [("projection", projection), ("source", source)];
    metrics::counter!("daybook_projection_read_events_total", &labels).increment(events as u64);
}

/// Where a log cannot be read that begins to be read behind `after`, and why; else the error is passed on.
fn damage(error: LogError, after: Position) -> Result<Stopped, Halt> {
    match error {
        LogError::History(error) => Ok(Stopped { position: after, reason: error.to_string() }),
        LogError::Damaged { position, reason } => Ok(Stopped { position, reason }),
        LogError::Decode(error) => Ok(Stopped { position: error.position, reason: error.to_string() }),
        error => Err(error.into()),
    }
}
