//! The relay: a candidate that takes the topic's lease when nobody has it, and then publishes what is behind the
//! checkpoint.
//!
//! What one that was frozen does when it thaws is refused: its lease by the database, which it has to name to move the
//! checkpoint; its messages by the broker, since whoever took over begins with `init_transactions`. Only then is the
//! checkpoint read: nobody else moves it from there on.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use daybook_core::Position;
use daybook_database::Database;
use daybook_log::{Backoff, Checkpoint, Log, LogError};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use uuid::Uuid;

use crate::message::Origin;
use crate::producer::{self, Page, Told, Trouble};
use crate::settings::Settings;
use crate::store::{Lease, Store};
use crate::topic::{Topic, other_partitions};

/// How many events are read at a time.
const PAGE: usize = 1_000;

/// How often to look for events when the log gives no signal.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the checkpoint is moved at most: what was published since is published again after a crash.
const RECORD_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait after something went wrong: at first, at most (brokers that are away have been waited for before that
/// for as long as they may take to answer), and where somebody has to do something about it.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
const RETRY_REFUSED: Duration = Duration::from_secs(30);

/// The relay of this process, at work: it publishes, or waits until it may. Dropping it ends it where it is, and others wait
/// for its lease to run out; [`stop`](Self::stop) is the orderly way.
#[derive(Debug)]
pub struct Relay {
    stop: watch::Sender<bool>,
    acknowledged: watch::Receiver<Position>,
    /// One task. Dropped with it.
    work: JoinSet<()>,
}

impl Relay {
    /// Starts it. The log's database has to be migrated.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn start(log: &Log, database: &Database, settings: Settings) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (reached, acknowledged) = watch::channel(Position::START);
        let store = Store::new(database);
        // Of this start of this process alone.
        let owner = format!("{} {}", settings.process, Uuid::new_v4());
        let candidate =
            Candidate { log: log.clone(), store, settings, owner, stopping, reached, has_moved: false };
        let mut work = JoinSet::new();
        work.spawn(candidate.run());
        Self { stop, acknowledged, work }
    }

    /// Waits until it ends without having been asked to. That is a mistake in the program, and the error says which when it
    /// panicked.
    pub async fn ended(&mut self) -> Result<(), JoinError> {
        self.work.join_next().await.unwrap_or(Ok(()))
    }

    /// Up to where the brokers have acknowledged what this process published. It is sooner known than written: what the row
    /// says ([`status`](crate::status)) is what the next one goes on from.
    pub fn acknowledged(&self) -> watch::Receiver<Position> {
        self.acknowledged.clone()
    }

    /// Ends or aborts the transaction that is open, and gives the lease back.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(Err(error)) = self.work.join_next().await {
            tracing::error!(%error, "the relay ended badly");
        }
    }
}

/// Why a candidate does not go on at once.
#[derive(Debug)]
enum Halt {
    /// The process shuts down.
    Asked,
    /// Somebody else has the topic.
    Lost,
    /// Something went wrong, and may go away by itself.
    Failed(String),
    /// Going on would skip something or mix it up, or is not allowed: somebody has to do something about it.
    Refused(String),
}

impl From<sqlx::Error> for Halt {
    fn from(error: sqlx::Error) -> Self {
        LogError::from(error).into()
    }
}

impl From<LogError> for Halt {
    fn from(error: LogError) -> Self {
        match error {
            LogError::History(_) | LogError::Damaged { .. } | LogError::Decode(_) => {
                Self::Refused(error.to_string())
            }
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Kafka(reason) => Self::Failed(reason),
            Trouble::Refused(reason) => Self::Refused(reason),
        }
    }
}

struct Candidate {
    log: Log,
    store: Store,
    settings: Settings,
    owner: String,
    stopping: watch::Receiver<bool>,
    /// Up to where this process has published.
    reached: watch::Sender<Position>,
    /// Whether anything was acknowledged since it last had to stop.
    has_moved: bool,
}

impl Candidate {
    /// Works until it is asked to stop.
    async fn run(mut self) {
        let topic = self.settings.topic.to_string();
        let mut failed = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            let Err(halt) = self.hold().await;
            if std::mem::take(&mut self.has_moved) {
                failed.moved();
            }
            let pause = match halt {
                Halt::Asked => return,
                Halt::Lost => {
                    tracing::info!(topic, "somebody else publishes");
                    continue;
                }
                Halt::Failed(reason) => {
                    let pause = failed.pause();
                    tracing::warn!(topic, reason, ?pause, "the relay could not go on");
                    pause
                }
                Halt::Refused(reason) => {
                    tracing::error!(topic, reason, pause = ?RETRY_REFUSED, "the relay is stopped");
                    RETRY_REFUSED
                }
            };
            metrics::counter!("daybook_relay_errors_total", "topic" => topic.clone()).increment(1);
            if self.pause(pause).await.is_err() {
                return;
            }
        }
    }

    /// Publishes for as long as it can, and gives the topic back.
    async fn hold(&mut self) -> Result<Infallible, Halt> {
        let topic = self.settings.topic.to_string();
        let lease = self.take().await?;
        tracing::info!(topic, owner = self.owner, "publishing");
        let Err(halt) = self.publish(lease).await;
        let problem = match &halt {
            Halt::Failed(reason) | Halt::Refused(reason) => Some(reason.as_str()),
            Halt::Asked | Halt::Lost => None,
        };
        if let Err(error) = self.store.give_back(&topic, lease, problem).await {
            tracing::debug!(%error, "could not give the topic back: the lease will run out");
        }
        Err(halt)
    }

    /// Waits until nobody has the topic, and takes it.
    async fn take(&mut self) -> Result<Lease, Halt> {
        let topic = self.settings.topic.to_string();
        loop {
            match self.store.row(&topic).await? {
                None => {
                    let head = self.log.head().await?;
                    self.store.begin(&topic, &self.log.checkpoint(&head, None)).await?;
                    continue;
                }
                Some(row) if row.owner.is_none() => {
                    if let Some(lease) = self.store.take(&topic, &self.owner, self.settings.lease).await? {
                        return Ok(lease);
                    }
                }
                Some(_) => {}
            }
            self.pause(self.settings.lease / 4).await?;
        }
    }

    async fn publish(&mut self, lease: Lease) -> Result<Infallible, Halt> {
        let head = self.log.head().await?;
        let origin = Origin { log_id: head.log_id, epoch: head.epoch };
        let (pages, said) = producer::start(&self.settings, origin, self.log.watch());
        let mut acknowledged =
            Acknowledged { said, newest: None, is_written: true, reached: self.reached.clone() };
        let mut stopping = self.stopping.clone();
        let halt = {
            let work = async {
                let topic = acknowledged.ready().await?;
                let checkpoint = self.begin(lease, topic).await?;
                tokio::try_join!(self.feed(pages, checkpoint), self.record(lease, &mut acknowledged))
            };
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => Halt::Asked,
                Err(halt) = work => halt,
                Err(halt) = self.renew(lease) => halt,
            }
        };
        // Nobody has pages for the producer any more. What is under way comes to an end, whatever that is.
        let ending = async {
            while let Some(told) = acknowledged.said.recv().await {
                acknowledged.take_note(told).ok();
            }
        };
        tokio::select! {
            () = ending => {}
            Err(_) = self.renew(lease) => {}
        }
        self.has_moved |= acknowledged.newest.is_some();
        if !matches!(halt, Halt::Lost) {
            self.write(lease, &mut acknowledged).await?;
        }
        Err(halt)
    }

    /// Finds out where to go on, and makes sure that it may. No other producer writes any more.
    async fn begin(&self, lease: Lease, topic: Topic) -> Result<Checkpoint, Halt> {
        let name = self.settings.topic.as_str();
        let row = self.store.held(name, lease).await?.ok_or(Halt::Lost)?;
        let Topic { partitions, ends, retention } = topic;
        match row.partitions {
            None if self.store.remember(name, lease, partitions).await? => {}
            None => return Err(Halt::Lost),
            Some(due) if due == partitions => {}
            Some(due) => return Err(Halt::Refused(other_partitions(name, partitions.into(), due))),
        }
        // All that was acknowledged lies in it, and its ends never go back.
        if ends < row.checkpoint.position.get() {
            return Err(Halt::Refused(format!(
                "the topic `{name}` has had {ends} messages, and {} were published to it: it was deleted and made anew. \
                 Publish to another topic (`kafka_topic`)",
                row.checkpoint.position
            )));
        }
        self.log.check(&row.checkpoint).await?;
        let head = self.log.head().await?;
        let oldest = self.log.lag(row.checkpoint.position, &head).await?.seconds;
        if retention.is_some_and(|retention| oldest > retention.as_secs_f64()) {
            tracing::warn!(
                topic = name,
                oldest,
                ?retention,
                "what is published next was recorded longer ago than the topic keeps messages (`retention.ms`): Kafka may remove \
                 it at once. Set that to -1 until everything is published"
            );
        }
        // With something to publish, it is not over before that is acknowledged.
        let is_done = head.position <= row.checkpoint.position;
        if is_done && row.problem.is_some() && !self.store.goes_on(name, lease).await? {
            return Err(Halt::Lost);
        }
        Ok(row.checkpoint)
    }

    /// Reads the log, as fast as the producer takes it.
    async fn feed(&self, pages: mpsc::Sender<Page>, mut at: Checkpoint) -> Result<Infallible, Halt> {
        let mut appended = self.log.watch();
        loop {
            // Marked as seen before reading, so that whatever is appended from here on wakes.
            appended.mark_unchanged();
            let mut scan = self.log.scan(&at, PAGE);
            while let Some(events) = scan.next().await? {
                if let Some(last) = events.last() {
                    at = at.at(last);
                }
                give(&pages, events).await;
            }
            tokio::select! {
                // An error: the log is closed, and there are no signals.
                Ok(()) = appended.changed() => {}
                () = sleep(IDLE_INTERVAL) => {}
            }
        }
    }

    /// Moves the checkpoint behind what the broker acknowledges.
    async fn record(&self, lease: Lease, acknowledged: &mut Acknowledged) -> Result<Infallible, Halt> {
        loop {
            if acknowledged.is_written {
                acknowledged.next().await?;
            }
            self.write(lease, acknowledged).await?;
            // What comes meanwhile is written with the next one.
            let mut pause = pin!(sleep(RECORD_INTERVAL));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    told = acknowledged.next() => told?,
                }
            }
        }
    }

    async fn write(&self, lease: Lease, acknowledged: &mut Acknowledged) -> Result<(), Halt> {
        let Some(newest) = acknowledged.newest.filter(|_| !acknowledged.is_written) else { return Ok(()) };
        if !self.store.advance(self.settings.topic.as_str(), lease, &newest).await? {
            return Err(Halt::Lost);
        }
        acknowledged.is_written = true;
        Ok(())
    }

    /// Gives signs of life. When the database cannot be reached from here alone, somebody else takes over, and what is sent
    /// from then on is refused at the broker.
    async fn renew(&self, lease: Lease) -> Result<Infallible, Halt> {
        loop {
            sleep(self.settings.lease / 4).await;
            match self.store.renew(self.settings.topic.as_str(), lease, self.settings.lease).await {
                Ok(true) => {}
                Ok(false) => return Err(Halt::Lost),
                Err(error) => tracing::debug!(%error, "could not renew the relay's lease"),
            }
        }
    }

    /// Waits, unless it is asked to stop.
    async fn pause(&mut self, time: Duration) -> Result<(), Halt> {
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stop| *stop) => Err(Halt::Asked),
            () = sleep(time) => Ok(()),
        }
    }
}

/// Gives the producer something to publish. When it has ended, it says why.
async fn give(pages: &mpsc::Sender<Page>, events: Page) {
    if pages.send(events).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What the producer says was acknowledged.
struct Acknowledged {
    said: mpsc::UnboundedReceiver<Told>,
    newest: Option<Checkpoint>,
    /// Whether the newest is in the database.
    is_written: bool,
    /// Whoever wants to know it at once is told here.
    reached: watch::Sender<Position>,
}

impl Acknowledged {
    /// Waits until the producer is ready.
    async fn ready(&mut self) -> Result<Topic, Halt> {
        match self.said.recv().await {
            Some(Told::Ready(topic)) => Ok(topic),
            told => Err(ended(told)),
        }
    }

    /// Waits for the next transaction to be acknowledged.
    async fn next(&mut self) -> Result<(), Halt> {
        match self.said.recv().await {
            Some(told) => self.take_note(told),
            None => Err(ended(None)),
        }
    }

    fn take_note(&mut self, told: Told) -> Result<(), Halt> {
        let Told::Committed(checkpoint) = told else { return Err(ended(Some(told))) };
        (self.newest, self.is_written) = (Some(checkpoint), false);
        self.reached.send_replace(checkpoint.position);
        Ok(())
    }
}

fn ended(told: Option<Told>) -> Halt {
    match told {
        Some(Told::Failed(trouble)) => trouble.into(),
        _ => Halt::Failed("a mistake in the program: the producer ended without saying why".to_owned()),
    }
}
