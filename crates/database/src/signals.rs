//! Signals between the processes that work on one database: that there is something new to look at.
//!
//! A signal only makes things quicker. It may come late, or twice, or not at all, and whoever waits for one looks now and
//! then all the same. It says what is committed already, and is never part of the transaction that it tells of:
//! PostgreSQL has those that notify commit one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use sqlx::{Acquire, Connection};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Database;

/// What all signals go through; each says itself which one it is.
const CHANNEL: &str = "daybook";

/// Whoever listens holds this advisory lock in share. So whoever could have it alone is alone.
macro_rules! listeners {
    () => {
        "7234308650001"
    };
}
const JOIN: &str = concat!("SELECT pg_advisory_lock_shared(", listeners!(), "), pg_backend_pid()");

/// Sends nothing when nobody else listens.
const SEND: &str = concat!(
    "SELECT pg_notify('daybook', signal) FROM unnest($1::text[]) AS signals (signal) \
     WHERE NOT pg_try_advisory_xact_lock(",
    listeners!(),
    ")"
);

/// The shortest time between two sendings. What comes in between goes with the next.
const INTERVAL: Duration = Duration::from_millis(5);
/// When to see again whether somebody listens, when nobody did.
const ALONE_INTERVAL: Duration = Duration::from_millis(250);
/// After how long a silence to see whether the connection is still there.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before connecting again: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long closing waits for what is still to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What this process has heard from others, last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// This number.
    Number(u64),
    /// Nothing for a while, whatever was said: it is time to look.
    Deaf,
}

/// The signals of a process, over one connection of their own. Cheap to clone; they end with the last clone.
#[derive(Clone, Debug)]
pub struct Signals {
    exchange: Option<Arc<Exchange>>,
}

/// One signal by its name.
#[derive(Clone)]
pub struct Signal {
    name: Arc<str>,
    heard: watch::Sender<Heard>,
    exchange: Option<Arc<Exchange>>,
}

struct Exchange {
    board: Arc<Board>,
    closing: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Signals {
    /// Signals that reach nobody.
    pub fn none() -> Self {
        Self { exchange: None }
    }

    /// Connects to the other processes on a database, and does so again when the connection is lost. SQLite has nothing
    /// to pass signals on with.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn start(database: &Database) -> Self {
        let Database::Postgres(pool) = database else { return Self::none() };
        let options = pool.connect_options().as_ref().clone().application_name("daybook signals");
        let (board, (closing, closed)) = (Arc::new(Board::default()), watch::channel(false));
        let task = tokio::spawn(run(board.clone(), options, closed));
        Self { exchange: Some(Arc::new(Exchange { board, closing, task: Mutex::new(Some(task)) })) }
    }

    /// The signal with a name.
    pub fn signal(&self, name: impl Into<Arc<str>>) -> Signal {
        let (name, exchange) = (name.into(), self.exchange.clone());
        let heard = match &exchange {
            Some(exchange) => exchange.board.entries().entry(name.clone()).or_default().heard.clone(),
            None => Entry::default().heard,
        };
        Signal { name, heard, exchange }
    }

    /// Sends what is still to be sent, if that is quick, and ends.
    pub async fn close(&self) {
        let Some(exchange) = &self.exchange else { return };
        exchange.closing.send_replace(true);
        let task = exchange.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && timeout(CLOSE_TIMEOUT, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl Signal {
    /// Tells the others a number, soon. Never waits; of several numbers the last may go alone, and the same again goes
    /// nowhere.
    pub fn send(&self, number: u64) {
        let Some(exchange) = &self.exchange else { return };
        if let Some(entry) = exchange.board.entries().get_mut(&self.name)
            && std::mem::replace(&mut entry.said, number) != number
        {
            exchange.board.said.notify_one();
        }
    }

    /// What others say from now on.
    pub fn hear(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.name).finish()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// What is to be sent, and where what is heard goes.
#[derive(Default)]
struct Board {
    entries: Mutex<HashMap<Arc<str>, Entry>>,
    said: Notify,
}

struct Entry {
    said: u64,
    sent: u64,
    heard: watch::Sender<Heard>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { said: 0, sent: 0, heard: watch::Sender::new(Heard::Number(0)) }
    }
}

impl Board {
    fn entries(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsent(&self) -> Vec<(Arc<str>, u64)> {
        let unsent =
            |(name, entry): (&Arc<str>, &Entry)| (entry.said != entry.sent).then(|| (name.clone(), entry.said));
        self.entries().iter().filter_map(unsent).collect()
    }

    /// Waits until there is something to send.
    async fn has_unsent(&self) {
        while self.unsent().is_empty() {
            self.said.notified().await;
        }
    }

    fn sent(&self, signals: Vec<(Arc<str>, u64)>) {
        let mut entries = self.entries();
        for (name, number) in signals {
            if let Some(entry) = entries.get_mut(&name) {
                entry.sent = number;
            }
        }
    }

    /// What nobody here waits for is passed over.
    fn hear(&self, signal: &str) {
        if let Some((number, name)) = signal.split_once(' ')
            && let Ok(number) = number.parse()
            && let Some(entry) = self.entries().get(name)
        {
            entry.heard.send_replace(Heard::Number(number));
        }
    }

    fn was_deaf(&self) {
        for entry in self.entries().values() {
            entry.heard.send_replace(Heard::Deaf);
        }
    }
}

/// Sends and listens until it is closed.
async fn run(board: Arc<Board>, options: PgConnectOptions, mut closing: watch::Receiver<bool>) {
    let mut pause = PAUSE_MIN;
    loop {
        let begun = Instant::now();
        let line = tokio::select! {
            line = Line::open(&options) => line,
            () = over(&board, &mut closing) => return,
        };
        let outcome = match line {
            Ok(mut line) => {
                board.was_deaf();
                line.talk(&board, &mut closing).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "no signals from other processes until they are reached again"),
        }
        // One that held for long is made again at once; one that never does is not worth trying all the time.
        pause = if begun.elapsed() > PAUSE_MAX { PAUSE_MIN } else { PAUSE_MAX.min(pause * 2) };
        tokio::select! {
            () = sleep(pause) => {}
            () = closed(&mut closing) => return,
        }
    }
}

/// Waits until it is closed, or nobody is there any more who could.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Waits until it is closed with nothing left to send.
async fn over(board: &Board, closing: &mut watch::Receiver<bool>) {
    closed(closing).await;
    if !board.unsent().is_empty() {
        std::future::pending().await
    }
}

/// A connection that listens, and that others know to listen.
struct Line {
    listener: PgListener,
    /// The number of its session, by which it knows its own signals.
    session: u32,
}

impl Line {
    async fn open(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        // The listener asks for a pool, to take one connection from.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ANSWER_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options.clone());
        in_time(async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            // Last: whoever finds the lock taken is heard.
            let ((), session): ((), i32) = sqlx::query_as(JOIN).fetch_one(&mut listener).await?;
            Ok(Self { listener, session: session.unsigned_abs() })
        })
        .await
    }

    /// Goes on until the connection is lost or all is over.
    async fn talk(&mut self, board: &Board, closing: &mut watch::Receiver<bool>) -> Result<(), sqlx::Error> {
        let mut next = Instant::now();
        let due = async |next| {
            sleep_until(next).await;
            board.has_unsent().await;
        };
        loop {
            tokio::select! {
                () = closed(closing) => break,
                heard = self.listener.try_recv() => {
                    let heard = heard?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
                    self.hear(board, &heard);
                }
                () = due(next) => {
                    let interval = if self.send(board).await? { INTERVAL } else { ALONE_INTERVAL };
                    next = Instant::now() + interval;
                }
                () = sleep(SILENCE) => in_time(async { self.listener.acquire().await?.ping().await }).await?,
            }
        }
        self.send(board).await.map(drop)
    }

    fn hear(&self, board: &Board, heard: &PgNotification) {
        if heard.process_id() != self.session {
            board.hear(heard.payload());
        }
    }

    /// Sends what there is; says whether anybody listened.
    async fn send(&mut self, board: &Board) -> Result<bool, sqlx::Error> {
        let unsent = board.unsent();
        let signals: Vec<String> = unsent.iter().map(|(name, number)| format!("{number} {name}")).collect();
        let sent = in_time(sqlx::query(SEND).bind(signals).execute(&mut self.listener)).await?;
        board.sent(unsent);
        Ok(sent.rows_affected() > 0)
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER_TIMEOUT, answer).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
