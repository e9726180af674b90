//! What has changed since access tokens were issued: sessions that ended, roles that were granted or revoked, and
//! accounts whose holders were forgotten.
//!
//! A token says what was true when it was issued. What became of it since is in the log, so each process follows the
//! log and keeps in memory what happened within the last token's lifetime; older changes no living token can miss. A
//! process that cannot follow takes no token at all; nor does one that meets an event of an account or a session that
//! it does not know, since that may be a revocation of a newer kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use daybook_core::{Aggregate, EventSet, Position, RecordedEvent, Role, SubjectEvent, account_of_subject};
use daybook_log::{Checkpoint, EventFilter, Log, LogError};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::access_token::Verified;
use crate::account::{Account, AccountEvent};
use crate::session::{Session, SessionEvent};
use crate::{IdentityError, Settings};

/// How many events are read at a time.
const PAGE: usize = 1_000;

/// By how much longer than a token lives its revocation is remembered: processes' clocks differ.
const MARGIN: TimeDelta = TimeDelta::minutes(5);

/// How long a command waits until this process has taken in what it did.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// What has changed since access tokens were issued.
pub(crate) struct Revocations {
    changes: RwLock<Changes>,
    /// What was in the log at this time has been taken in.
    current_at: Mutex<Instant>,
    /// How long ago that may be.
    lag_max: Duration,
    remembered_for: TimeDelta,
    /// Everything up to here has been taken in. Where the log is another one from here on, nothing is taken in any more:
    /// this process knows too little of it.
    reached: watch::Sender<Checkpoint>,
    /// Asks not to wait for the next look at the log.
    nudge: Notify,
}

#[derive(Default)]
struct Changes {
    /// The sessions that ended, and when that happened.
    ended: HashMap<Uuid, DateTime<Utc>>,
    /// The accounts that are no more, and since when.
    closed: HashMap<Uuid, DateTime<Utc>>,
    /// Where somebody was forgotten last.
    newest_forgotten: Position,
    /// The last change to each role of each account.
    roles: HashMap<Uuid, Vec<RoleChange>>,
    pruned_at: DateTime<Utc>,
}

struct RoleChange {
    role: Role,
    granted: bool,
    position: Position,
    at: DateTime<Utc>,
}

/// Where the log ended at a time, or further on.
struct End {
    position: Position,
    at: Instant,
}

impl Revocations {
    /// Takes in what happened within the last token's lifetime.
    pub(crate) async fn read(log: &Log, settings: &Settings) -> Result<Self, IdentityError> {
        let lifetime = TimeDelta::from_std(settings.access_lifetime)
            .map_err(|_| IdentityError::Internal("access tokens live too long".into()))?;
        let started = Instant::now();
        let head = log.head().await?.checkpoint();
        let revocations = Self {
            changes: RwLock::default(),
            current_at: Mutex::new(started),
            lag_max: settings.follow_lag_max,
            remembered_for: lifetime + MARGIN,
            reached: watch::Sender::new(head),
            nudge: Notify::new(),
        };
        let since = Utc::now() - revocations.remembered_for;
        let mut filter = EventFilter { of_people: true, since: Some(since), ..EventFilter::default() };
        loop {
            let page = log.find(&filter, PAGE).await?;
            revocations.take(&page.events)?;
            let Some(next) = page.next.filter(|next| *next < head.position) else { return Ok(revocations) };
            filter.after = next;
        }
    }

    /// Follows the log until `stop` says so or is gone.
    pub(crate) async fn follow(self: Arc<Self>, log: Log, mut stop: watch::Receiver<bool>, interval: Duration) {
        let mut failing = false;
        let mut appended = log.watch();
        let mut sighted = None;
        loop {
            let step = tokio::select! {
                _ = stop.changed() => return,
                step = self.step(&log, &mut sighted) => step,
            };
            match &step {
                Err(error) if !failing => tracing::warn!(%error, "cannot follow the log for revocations"),
                Ok(_) if failing => tracing::info!("following the log for revocations again"),
                _ => {}
            }
            failing = step.is_err();
            if matches!(step, Ok(true)) {
                continue;
            }
            tokio::select! {
                _ = stop.changed() => return,
                () = self.nudge.notified() => {}
                () = self.rest(&mut appended, interval) => {}
            }
        }
    }

    /// Rests for an interval, and on while there is nothing to take in, but not so long that it could seem to lag.
    async fn rest(&self, appended: &mut watch::Receiver<Position>, interval: Duration) {
        tokio::time::sleep(interval).await;
        let reached = self.reached.borrow().position;
        let news = appended.wait_for(|newest| *newest > reached);
        let _ = tokio::time::timeout((self.lag_max / 4).saturating_sub(interval), news).await;
    }

    /// Takes in the next events; says whether there are more. While others append as fast as this reads, there always
    /// are: it is as current as the newest end of the log that it has come to, which is the next one to be `sighted`.
    async fn step(&self, log: &Log, sighted: &mut Option<End>) -> Result<bool, LogError> {
        let asked = Instant::now();
        let mut reached = *self.reached.borrow();
        let events = log.read_on(&reached, PAGE).await?;
        self.take(&events)?;
        if let Some(last) = events.last() {
            reached = reached.at(last);
            self.reached.send_replace(reached);
        }
        if events.len() < PAGE {
            *sighted = None;
            self.is_current(asked);
            return Ok(false);
        }
        if let Some(end) = sighted.take_if(|end| end.position <= reached.position) {
            self.is_current(end.at);
        }
        if sighted.is_none() {
            let at = Instant::now();
            *sighted = Some(End { position: log.head().await?.position, at });
        }
        Ok(true)
    }

    /// All that was in the log at a time has been taken in.
    fn is_current(&self, at: Instant) {
        *self.current_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn take(&self, events: &[RecordedEvent]) -> Result<(), LogError> {
        let now = Utc::now();
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            match event.stream.category() {
                Session::CATEGORY => match SessionEvent::require(event)? {
                    SessionEvent::SessionEnded(_) => {
                        changes.ended.insert(id_of(event)?, event.recorded_at);
                    }
                    SessionEvent::SessionStarted(_) => {}
                },
                Account::CATEGORY => {
                    let (role, granted) = match AccountEvent::require(event)? {
                        AccountEvent::AccountRoleGranted(granted) => (granted.role, true),
                        AccountEvent::AccountRoleRevoked(revoked) => (revoked.role, false),
                        AccountEvent::AccountClosed(_) => {
                            changes.closed.insert(id_of(event)?, event.recorded_at);
                            continue;
                        }
                        AccountEvent::AccountRegistered(_) | AccountEvent::AccountPasswordChanged(_) => continue,
                    };
                    let roles = changes.roles.entry(id_of(event)?).or_default();
                    // What is appended during the start may come twice.
                    if !roles.iter().any(|change| change.role == role && change.position >= event.position) {
                        roles.retain(|change| change.role != role);
                        roles.push(RoleChange { role, granted, position: event.position, at: event.recorded_at });
                    }
                }
                SubjectEvent::CATEGORY => {
                    // The account is closed soon; its tokens are good for nothing from now on.
                    if let Some(account_id) = account_of_subject(SubjectEvent::require(event)?.subject()) {
                        changes.closed.insert(account_id, event.recorded_at);
                    }
                    changes.newest_forgotten = changes.newest_forgotten.max(event.position);
                }
                _ => {}
            }
        }
        changes.prune(now, self.remembered_for);
        Ok(())
    }

    /// A session of this process ended.
    pub(crate) fn ended(&self, session_id: Uuid) {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        changes.ended.insert(session_id, Utc::now());
    }

    /// Up to where everything has been taken in.
    pub(crate) fn reached(&self) -> watch::Receiver<Checkpoint> {
        self.reached.subscribe()
    }

    /// Where somebody was forgotten last, as far as it was taken in.
    pub(crate) fn newest_forgotten(&self) -> Position {
        self.changes.read().unwrap_or_else(PoisonError::into_inner).newest_forgotten
    }

    /// Waits until everything up to `position` has been taken in.
    pub(crate) async fn reach(&self, position: Position) -> Result<(), IdentityError> {
        let mut reached = self.reached.subscribe();
        self.nudge.notify_one();
        match tokio::time::timeout(REACH_TIMEOUT, reached.wait_for(|reached| reached.position >= position)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(behind()),
        }
    }

    /// What a token is worth now: the roles of its account.
    pub(crate) fn judge(&self, token: &Verified) -> Result<Vec<Role>, IdentityError> {
        let current_at = *self.current_at.lock().unwrap_or_else(PoisonError::into_inner);
        if current_at.elapsed() > self.lag_max {
            return Err(behind());
        }
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if changes.ended.contains_key(&token.session_id) || changes.closed.contains_key(&token.account_id) {
            return Err(IdentityError::InvalidToken);
        }
        let mut roles = token.roles.to_vec();
        for change in changes.roles.get(&token.account_id).into_iter().flatten() {
            roles.retain(|role| *role != change.role);
            if change.granted {
                roles.push(change.role);
            }
        }
        Ok(roles)
    }
}

impl Changes {
    /// Forgets, about once a minute, what no living token can miss.
    fn prune(&mut self, now: DateTime<Utc>, remembered_for: TimeDelta) {
        if now - self.pruned_at < TimeDelta::minutes(1) {
            return;
        }
        self.pruned_at = now;
        let oldest = now - remembered_for;
        self.ended.retain(|_, at| *at >= oldest);
        self.closed.retain(|_, at| *at >= oldest);
        self.roles.retain(|_, changes| {
            changes.retain(|change| change.at >= oldest);
            !changes.is_empty()
        });
    }
}

fn behind() -> IdentityError {
    IdentityError::Unavailable("this process does not know the newest revocations".into())
}

fn id_of(event: &RecordedEvent) -> Result<Uuid, LogError> {
    event.stream.id().parse().map_err(|_| LogError::Damaged {
        position: event.position,
        reason: format!("`{}` is no stream of an account or a session", event.stream),
    })
}

#[cfg(test)]
mod tests {
    use daybook_core::{Metadata, StreamId};
    use daybook_database::testing::{Backend, run};
    use daybook_database::{Database, Location, Schema};
    use daybook_log::{Append, NewRecord, Verdict};

    use super::*;

    /// Appends a page of events that are of nobody.
    async fn append_page(log: &Log) {
        let command_id = Uuid::now_v7();
        let event = |_| NewRecord {
            stream: StreamId::new("order", command_id),
            id: Uuid::now_v7(),
            event_type: "order.placed".into(),
            schema_version: 1,
            payload: "{}".into(),
        };
        let metadata = Metadata {
            actor: None,
            client: None,
            command: "test".into(),
            command_id,
            causation_id: None,
            correlation_id: "test".into(),
            traceparent: None,
        };
        let append = Append {
            id: String::new(),
            command_id,
            events: (0..PAGE).map(event).collect(),
            metadata,
            expected: Vec::new(),
            claims: Vec::new(),
            key: None,
            after: Vec::new(),
        };
        let verdict = log.append(append).await.expect("a verdict");
        assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    }

    /// The end of the log is never read, and yet what is read is never old.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_is_current_though_others_append_as_fast_as_it_reads() {
        run(Backend::Sqlite, &[Schema::Log], async |_: Location, database: Database| {
            let log = Log::open(database, daybook_log::Settings::default()).await.expect("the log opens");
            let revocations = Revocations::read(&log, &Settings::default()).await.expect("the log answers");
            let current_at = || *revocations.current_at.lock().expect("nobody panicked");
            let mut sighted = None;
            append_page(&log).await;
            append_page(&log).await;
            assert!(revocations.step(&log, &mut sighted).await.expect("the log answers"), "there is more");
            for _ in 0..4 {
                append_page(&log).await;
                let before = current_at();
                assert!(revocations.step(&log, &mut sighted).await.expect("the log answers"), "there is more");
                assert!(current_at() > before, "it came to an end that it had sighted");
            }
        })
        .await;
    }
}
