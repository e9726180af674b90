//! A feed follows what changes in a view, for as long as somebody asks: for the [cache](crate::cache) of its documents, and
//! for live readers.
//!
//! It looks when this process or another one has committed something, and now and then all the same. A signal only makes
//! it quicker: what it knows and how far comes from one statement over the generation that is served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daybook_core::Position;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cache::{Cache, Told};
use crate::views::View;
use crate::{ViewError, Views};

/// The shortest time between two looks. What is committed in between is seen by the next.
const INTERVAL: Duration = Duration::from_millis(5);
/// When to look without a signal: after something has changed, and at most.
const POLL_MIN: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(320);
/// For how long it goes on when nobody asks.
const IDLE: Duration = Duration::from_secs(30);
/// How many looks with changes a live reader may be behind.
const NEWS_MAX: usize = 256;
/// How long a live reader waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// The most documents that a reader who comes back is told of one by one.
const CAUGHT_UP_MAX: usize = 1_000;

/// What is known of the changes in a view.
pub(crate) struct Feed {
    state: Mutex<State>,
    news: broadcast::Sender<Told>,
    /// Signalled with each look.
    looked: watch::Sender<()>,
}

struct State {
    cache: Cache,
    /// Whether somebody looks.
    follows: bool,
    /// When somebody asked last.
    asked: Instant,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let state = State { cache: Cache::new(), follows: false, asked: Instant::now() };
        Self { state: Mutex::new(state), news: broadcast::Sender::new(NEWS_MAX), looked: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the cache. The first who asks in a while begins to follow, and finds nothing.
    pub(crate) fn ask<T>(
        views: &Views,
        view: &Arc<View>,
        question: impl FnOnce(&mut Cache) -> Option<T>,
    ) -> Option<T> {
        let mut state = view.feed.state();
        state.asked = Instant::now();
        if !state.follows && !views.is_closing() {
            state.follows = true;
            tokio::spawn(follow(views.clone(), view.clone()));
        }
        question(&mut state.cache)
    }

    /// Gives the cache what was read.
    pub(crate) fn keep(&self, keep: impl FnOnce(&mut Cache)) {
        keep(&mut self.state().cache);
    }

    /// Whether the follower is to end, since nobody has asked for a while.
    fn ends(&self) -> bool {
        let mut state = self.state();
        let is_idle = state.asked.elapsed() >= IDLE && self.news.receiver_count() == 0;
        if is_idle {
            state.cache.end();
            state.follows = false;
        }
        is_idle
    }
}

/// Looks, again and again.
async fn follow(views: Views, view: Arc<View>) {
    let (feed, table) = (&view.feed, &view.table);
    let (mut committed, mut heard) = (view.committed.subscribe(), view.signal.hear());
    let mut generations = view.generations_changed.subscribe();
    let mut pause = POLL_MIN;
    while !feed.ends() {
        committed.mark_unchanged();
        heard.mark_unchanged();
        generations.mark_unchanged();
        let (began, after) = (Instant::now(), feed.state().cache.looks_from());
        match views.store().look(table.projection, table.version, after).await {
            Ok(Some(look)) => {
                // Under the lock, so that a reader who comes meanwhile has either met it or is told.
                let mut state = feed.state();
                let has_changed = look.position > after || !look.keys.is_empty();
                let told = state.cache.advance(look, began);
                if !matches!(&told, Told::Changed(_, keys) if keys.is_empty()) {
                    // Nobody may be there to be told.
                    let _ = feed.news.send(told);
                }
                pause = if has_changed { POLL_MIN } else { (pause * 2).min(POLL_MAX) };
            }
            Ok(None) => pause = (pause * 2).min(POLL_MAX),
            Err(error) => {
                tracing::debug!(view = table.projection, %error, "could not see what changed");
                feed.state().cache.lose();
                pause = POLL_MAX;
            }
        }
        feed.looked.send_replace(());
        if views
            .closed_within(async {
                tokio::select! {
                    _ = committed.changed() => {}
                    _ = heard.changed() => {}
                    _ = generations.changed() => {}
                    () = sleep(pause) => {}
                }
                sleep_until(began + INTERVAL).await;
            })
            .await
        {
            break;
        }
    }
}

/// What becomes of a view, for one reader.
#[derive(Debug)]
pub struct Live {
    first: Option<News>,
    news: broadcast::Receiver<Told>,
    /// How far the reader was told.
    position: Position,
    closing: watch::Receiver<bool>,
}

/// What has become of a view. What a document is now has to be read, at this position at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// How far this goes: whoever was told it knows of all changes up to there.
    pub position: Position,
    /// The documents that have changed; `None` when it is not known which, and all have to be read anew.
    pub keys: Option<Arc<[String]>>,
}

impl From<Told> for News {
    fn from(told: Told) -> Self {
        match told {
            Told::Changed(position, keys) => Self { position, keys: Some(keys) },
            Told::Anew(position) => Self { position, keys: None },
        }
    }
}

impl Live {
    /// Begins to follow a view: behind what happened up to `after`, or from now on. The first news come at once.
    pub(crate) async fn begin(
        views: &Views,
        view: &Arc<View>,
        after: Option<Position>,
    ) -> Result<Self, ViewError> {
        let mut looked = view.feed.looked.subscribe();
        let join = async {
            loop {
                looked.mark_unchanged();
                // Whatever changes behind this position is told from here on.
                let news = &view.feed.news;
                let joined =
                    Feed::ask(views, view, |cache| cache.position().map(|position| (news.subscribe(), position)));
                match joined {
                    Some(joined) => break joined,
                    None => drop(looked.changed().await),
                }
            }
        };
        let mut closing = views.closing();
        let late = || ViewError::Unavailable("it is not known what changes".into());
        let (news, position) = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Err(late()),
            joined = timeout(FIRST_LOOK, join) => joined.map_err(|_| late())?,
        };
        let first = match after {
            None => News { position, keys: Some(Arc::default()) },
            Some(after) => {
                let look = views.store().look(view.table.projection, view.table.version, after).await?;
                let look = look.ok_or_else(late)?;
                let knows = look.has_all_since_any(after) && look.keys.len() <= CAUGHT_UP_MAX;
                News { position: look.position, keys: knows.then(|| look.keys.into()) }
            }
        };
        Ok(Self { first: Some(first), news, position, closing })
    }

    /// What comes next. `None` when there is nothing more: the process shuts down, or the reader was so slow that too
    /// much has come meanwhile. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> Option<News> {
        if let Some(first) = self.first.take() {
            self.position = self.position.max(first.position);
            return Some(News { position: self.position, ..first });
        }
        let told = tokio::select! {
            biased;
            _ = self.closing.wait_for(|closing| *closing) => return None,
            told = self.news.recv() => told.ok()?,
        };
        let news = News::from(told);
        self.position = self.position.max(news.position);
        Some(News { position: self.position, ..news })
    }
}
