//! The handle that the other crates hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use daybook_core::{Missing, Position, RecordedEvent, Snapshot, StreamId};
use daybook_database::{Database, Schema, Signal, Signals};
use tokio::sync::watch;
use uuid::Uuid;

use crate::appender::{Appender, Reserved, Submitted};
use crate::find::{PAGE_EVENTS_MAX, find, last_by};
use crate::follow::{Follow, Follower, Pace};
use crate::postgres::{self, PostgresStore};
use crate::prepare::Prepared;
use crate::scan::Scan;
use crate::seen::Seen;
use crate::snapshots::{self, Keeper};
use crate::sqlite::{self, SqliteStore};
use crate::store::{Page, Store};
use crate::{
    Append, Checkpoint, EventFilter, EventPage, Head, HistoryError, IdempotencyKey, Lag, LogError, Ticket,
    Verdict, background,
};

/// How the log works in this process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The most appends that wait; one more is refused with [`LogError::Busy`].
    pub queue_appends_max: usize,
    /// The most appends that are committed as one group.
    pub group_appends_max: usize,
    /// The longest to wait for the log's head when another process holds it.
    pub lock_timeout: Duration,
    /// How long the outcome of a commit is looked for, when the connection broke, before its callers are told
    /// [`LogError::Unknown`].
    pub look_up_timeout: Duration,
    /// How to find out what other processes have appended.
    pub follow: Follow,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_appends_max: 4_096,
            group_appends_max: 1_024,
            lock_timeout: Duration::from_secs(5),
            look_up_timeout: Duration::from_secs(10),
            follow: Follow::Woken,
        }
    }
}

/// The event log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    store: Arc<dyn Store>,
    appender: Arc<Appender>,
    seen: Arc<Seen>,
    keeper: Keeper,
    id: Uuid,
    signals: Signals,
}

impl Log {
    /// Opens the log in a database that is migrated, and starts its appender.
    ///
    /// # Errors
    ///
    /// When the database is away or holds no log.
    pub async fn open(database: Database, settings: Settings) -> Result<Self, LogError> {
        database.check_migrated(Schema::Log).await?;
        let signals = match settings.follow {
            Follow::Woken => Signals::start(&database),
            Follow::Looking | Follow::Appending => Signals::none(),
        };
        let (store, pace): (Arc<dyn Store>, Pace) = match database {
            Database::Postgres(pool) => {
                (Arc::new(PostgresStore::new(pool, settings.lock_timeout)), postgres::PACE)
            }
            Database::Sqlite(file) => (Arc::new(SqliteStore::new(file)), sqlite::PACE),
        };
        let here = store.head().await?;
        let seen = Arc::new(Seen::new(&here));
        let appended = signals.signal(format!("{} appended", here.log_id));
        let appender = Appender::start(store.writer(&here), &settings, seen.clone(), appended.clone());
        let appender = Arc::new(appender.map_err(sqlx::Error::Io)?);
        if settings.follow != Follow::Appending {
            let (store, seen) = (store.clone(), seen.clone());
            let follower = Follower { store, here, seen, appended, appender: Arc::downgrade(&appender) };
            tokio::spawn(follower.follow(pace, appender.closing()));
        }
        tokio::spawn(background::remove_expired(store.clone(), appender.closing()));
        let keeper = Keeper::start(store.clone(), appender.closing());
        Ok(Self { store, appender, seen, keeper, id: here.log_id, signals })
    }

    /// Appends, in a group with whatever else waits. Once called, it goes on though nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// When there is no verdict: the database is away ([`LogError::Unavailable`], [`LogError::Unknown`]), the queue
    /// is full ([`LogError::Busy`]), the log was closed, or is not the one that it was ([`LogError::History`]).
    pub async fn append(&self, append: Append) -> Result<Verdict, LogError> {
        self.submit(append)?.verdict().await
    }

    /// Queues an append, behind all that were queued before.
    ///
    /// # Errors
    ///
    /// See [`reserve`](Self::reserve).
    pub fn submit(&self, append: Append) -> Result<Submitted, LogError> {
        Ok(self.reserve(append)?.submit())
    }

    /// Gives an append its place in the queue, and its ticket: for what has to be done before it is queued.
    ///
    /// # Errors
    ///
    /// [`LogError::Busy`] and [`LogError::Closed`].
    pub fn reserve(&self, append: Append) -> Result<Reserved<'_>, LogError> {
        self.appender.reserve(Prepared::new(append))
    }

    /// The log's identity and its end, as committed.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn head(&self) -> Result<Head, LogError> {
        self.store.head().await
    }

    /// A signal of the newest position that this process knows of: its own appends at once, other processes' as soon as
    /// [`Settings::follow`] finds them. It only says that there is something to read.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.seen.watch()
    }

    /// A signal between the processes that have this log open. It reaches nobody where [`Follow::Woken`] does nothing.
    pub fn signal(&self, name: impl fmt::Display) -> Signal {
        self.signals.signal(format!("{} {name}", self.id))
    }

    /// The events after a position, in order, at most `limit`, and never more than 10,000. None are left out between
    /// two of them, nor before the first.
    ///
    /// # Errors
    ///
    /// When the database is away, or what it holds is damaged.
    pub async fn read(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        let through = Position::new(u64::MAX);
        let limit = limit.min(PAGE_EVENTS_MAX);
        self.store.page(Page { after, through, filter: &EventFilter::default(), limit }).await
    }

    /// The events behind a checkpoint, in order, at most `limit`, and never more than 9,999; none are left out. Each
    /// page makes sure that the checkpoint's event still stands where it stood (invariant L11).
    ///
    /// # Errors
    ///
    /// See [`read`](Self::read); also [`LogError::History`], and [`LogError::Damaged`] where an event is missing.
    pub async fn read_on(&self, checkpoint: &Checkpoint, limit: usize) -> Result<Vec<RecordedEvent>, LogError> {
        let events = match checkpoint.position.get().checked_sub(1) {
            None => self.read(checkpoint.position, limit).await?,
            Some(before) => {
                let mut events = self.read(Position::new(before), limit.saturating_add(1)).await?;
                if events.first().is_none_or(|event| event.id != checkpoint.event_id) {
                    self.check(checkpoint).await?;
                    return Err(HistoryError::OtherEvent(checkpoint.position).into());
                }
                events.remove(0);
                events
            }
        };
        checkpoint.precedes(&events)?;
        Ok(events)
    }

    /// All events behind a checkpoint, in order, page after page: the way to read much of the log. Each page makes sure
    /// that what was read before still stands (invariant L11).
    pub fn scan(&self, checkpoint: &Checkpoint, page: usize) -> Scan {
        Scan::new(self.clone(), *checkpoint, page.clamp(1, PAGE_EVENTS_MAX - 1))
    }

    /// The event at a position.
    ///
    /// # Errors
    ///
    /// See [`read`](Self::read).
    pub async fn event(&self, position: Position) -> Result<Option<RecordedEvent>, LogError> {
        let after = Position::new(position.get().saturating_sub(1));
        let page = Page { after, through: position, filter: &EventFilter::default(), limit: 1 };
        Ok(self.store.page(page).await?.pop())
    }

    /// The events at some positions, in the log's order; those that there are.
    ///
    /// # Errors
    ///
    /// See [`read`](Self::read).
    pub async fn events_at(&self, positions: &[Position]) -> Result<Vec<RecordedEvent>, LogError> {
        self.store.events_at(positions).await
    }

    /// Events that match a filter, at most `limit`, and never more than 10,000.
    ///
    /// # Errors
    ///
    /// See [`read`](Self::read).
    pub async fn find(&self, filter: &EventFilter, limit: usize) -> Result<EventPage, LogError> {
        find(self.store.as_ref(), filter, limit).await
    }

    /// The position of the last event recorded by a time, [`Position::START`] when none was: where the log ended then.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn end_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        last_by(self.store.as_ref(), time).await
    }

    /// Feeds each of the streams its events, as one consistent state of the log. No stream may be there twice. The
    /// position is for [`Expected::read_at`](crate::Expected::read_at): the log ended there, or further on.
    ///
    /// # Errors
    ///
    /// See [`read`](Self::read); also [`LogError::Decode`] when an aggregate does not know one of its events.
    pub async fn load(&self, mut streams: Vec<Missing>) -> Result<(Vec<Missing>, Position), LogError> {
        let position = self.seen.position();
        for mark in snapshots::resume(self.store.as_ref(), &mut streams).await? {
            self.seen.loaded(mark);
        }
        let fed = if streams.is_empty() { Vec::new() } else { self.store.load(streams).await? };
        if let Some(newest) = fed.iter().filter_map(|(_, last)| *last).max_by_key(|mark| mark.position) {
            self.seen.loaded(newest);
        }
        let mut loaded = Vec::with_capacity(fed.len());
        for (mut missing, last) in fed {
            if let Some(event_id) = last.and_then(|mark| mark.id)
                && let Some(snapshot) = missing.state().due_snapshot()
            {
                self.keeper.keep(missing.stream(), snapshot, event_id, None);
            }
            loaded.push(missing);
        }
        Ok((loaded, position))
    }

    /// Has a state kept beside the log, once `after` is committed, so that its stream need not be folded from the first
    /// event on. `event_id` is the last event that is in it. It may also not come to that.
    pub fn keep(&self, stream: &StreamId, snapshot: Snapshot, event_id: Uuid, after: &Ticket) {
        self.keeper.keep(stream, snapshot, event_id, Some(after.clone()));
    }

    /// The stream that holds a claim.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn claim_holder(&self, name: &str, key: &str) -> Result<Option<StreamId>, LogError> {
        self.store.claim_holder(name, key).await
    }

    /// Looks an idempotency key up before a command is decided: [`Verdict::Repeated`], [`Verdict::KeyReused`], or
    /// `None` when it was not used.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn repeated(&self, key: &IdempotencyKey) -> Result<Option<Verdict>, LogError> {
        Ok(self.store.kept(&key.digest).await?.map(|kept| kept.verdict(key)))
    }

    /// The checkpoint of a reader that has taken in everything up to `event`; of one that has taken in nothing yet
    /// when `None`.
    pub fn checkpoint(&self, head: &Head, event: Option<&RecordedEvent>) -> Checkpoint {
        Checkpoint {
            log_id: head.log_id,
            epoch: head.epoch,
            position: event.map_or(Position::START, |event| event.position),
            event_id: event.map_or(Uuid::nil(), |event| event.id),
        }
    }

    /// Checks that the log is still the one that a checkpoint was written for (invariant L11).
    ///
    /// # Errors
    ///
    /// [`LogError::History`] when it is not.
    pub async fn check(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        checkpoint.check(self.store.as_ref()).await.map(drop)
    }

    /// How far a reader that has taken in everything up to `position` is behind the log's end. That has to be read after the
    /// position, so that nobody can seem to be ahead of the log.
    ///
    /// # Errors
    ///
    /// See [`read`](Self::read).
    pub async fn lag(&self, position: Position, head: &Head) -> Result<Lag, LogError> {
        let events = head.position.get().saturating_sub(position.get());
        let waiting = if events > 0 { self.event(position.plus(1)).await? } else { None };
        let age = waiting.map_or(0.0, |event| (Utc::now() - event.recorded_at).as_seconds_f64().max(0.0));
        Ok(Lag { events, seconds: age })
    }

    /// Waits until nothing can be appended here any more: after [`close`](Self::close), or since the appender came to
    /// grief.
    pub async fn ended(&self) {
        self.appender.ended().await;
    }

    /// Commits what waits, tells other processes, and stops. Later appends get [`LogError::Closed`].
    pub async fn close(&self) {
        self.appender.close().await;
        self.signals.close().await;
    }
}
