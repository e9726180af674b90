//! A feed follows what changes in a view, for as long as somebody asks: for the [cache](crate::cache) of its documents, and
//! for live readers.
//!
//! It looks when this process or another one has committed something, and now and then all the same. A signal only makes
//! it quicker: what it knows and how far comes from one statement over the generation that is served.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cache::{Cache, Told};
use crate::mark::Mark;
use crate::store::changes::Look;
use crate::views::View;
use crate::{ViewError, Views};

/// The shortest time between two looks. What is committed in between is seen by the next.
const INTERVAL: Duration = Duration::from_millis(5);
/// When to look without a signal: after something has changed, and at most.
const POLL_MIN: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(320);
/// For how long it goes on when nobody asks.
const IDLE: Duration = Duration::from_secs(30);
/// The most commits that a look takes in, and that a reader who comes back is told of: anybody may ask for these.
const COMMITS_MAX: u32 = 1_000;
const CAUGHT_UP_MAX: u32 = 250;
/// How many looks with changes a live reader may be behind before it has to read everything anew.
const NEWS_MAX: usize = 256;
/// The most documents that a live reader is told of at once, each of which is read for it. If one look has more, it has to
/// read everything anew.
const TOLD_MAX: usize = 1_000;
/// How long a live reader waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(5);

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

    /// Takes in a look that `began` then, and tells what it has changed.
    fn take_in(&self, look: Look, began: Instant) {
        // Under the lock, so that a reader who comes meanwhile has either met it or is told.
        let mut state = self.state();
        let told = state.cache.advance(look, began);
        if !matches!(&told, Told::Changed(_, keys) if keys.is_empty()) {
            // Nobody may be there to be told.
            let _ = self.news.send(told);
        }
    }

    /// What is told from now on, and how far all was told before.
    fn join(&self) -> Option<(broadcast::Receiver<Told>, Mark)> {
        let state = self.state();
        state.cache.looks_from().map(|mark| (self.news.subscribe(), mark))
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
        match views.store().look(table.projection, table.version, after, COMMITS_MAX).await {
            Ok(Some(look)) => {
                let has_changed = Some(look.mark) != after || !look.keys.is_empty();
                feed.take_in(look, began);
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
pub struct Live {
    view: Arc<View>,
    /// What comes next, where that is known already.
    next: Option<News>,
    news: broadcast::Receiver<Told>,
    /// How far the reader was told.
    mark: Mark,
    closing: watch::Receiver<bool>,
}

/// What has become of a view. What a document is now has to be read, at this position at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// How far this goes: whoever was told it knows of all changes up to there.
    pub mark: Mark,
    /// The documents that have changed, in order; `None` when it is not known which, and all have to be read anew.
    pub keys: Option<Arc<[String]>>,
}

impl News {
    fn changed(mark: Mark, keys: Arc<[String]>) -> Self {
        Self { mark, keys: Some(keys).filter(|keys| keys.len() <= TOLD_MAX) }
    }
}

impl From<Told> for News {
    fn from(told: Told) -> Self {
        match told {
            Told::Changed(mark, keys) => Self::changed(mark, keys),
            Told::Anew(mark) => Self { mark, keys: None },
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl Live {
    /// Begins to follow a view: behind what was told up to `after`, or from now on. The first news come at once.
    pub(crate) async fn begin(views: &Views, view: &Arc<View>, after: Option<Mark>) -> Result<Self, ViewError> {
        let mut looked = view.feed.looked.subscribe();
        let join = async {
            loop {
                looked.mark_unchanged();
                // Whatever changes behind this mark is told from here on.
                let news = &view.feed.news;
                let joined = Feed::ask(views, view, |cache| cache.mark().map(|mark| (news.subscribe(), mark)));
                match joined {
                    Some(joined) => break joined,
                    None => drop(looked.changed().await),
                }
            }
        };
        let mut closing = views.closing();
        let late = || ViewError::Unavailable("it is not known what changes".into());
        let (news, mark) = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return Err(late()),
            joined = timeout(FIRST_LOOK, join) => joined.map_err(|_| late())?,
        };
        let first = match after {
            None => News { mark, keys: Some(Arc::default()) },
            Some(after) => {
                let (name, version) = (view.table.projection, view.table.version);
                let look = views.store().look(name, version, Some(after), CAUGHT_UP_MAX).await?;
                let look = look.ok_or_else(late)?;
                if look.has_all_since(after) {
                    News::changed(look.mark, look.keys.into())
                } else {
                    News { mark: look.mark, keys: None }
                }
            }
        };
        Ok(Self { view: view.clone(), next: Some(first), news, mark, closing })
    }

    /// What comes next; what has come meanwhile is told as one, and when that is too much, everything has to be read anew.
    /// `None` when there is nothing more: the process shuts down. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> Option<News> {
        let news = match self.next.take() {
            Some(news) => news,
            None => {
                let told = tokio::select! {
                    biased;
                    _ = self.closing.wait_for(|closing| *closing) => return None,
                    told = self.news.recv() => told,
                };
                match told {
                    Ok(told) => told.into(),
                    Err(RecvError::Lagged(_)) => self.rejoin()?,
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let news = self.with_further(news)?;
        // Looks before the one that it came back with are met late. Of another generation, an older position may be true.
        let is_late = news.mark.generation == self.mark.generation && news.mark.position < self.mark.position;
        self.mark = if is_late { self.mark } else { news.mark };
        Some(News { mark: self.mark, ..news })
    }

    /// Leaves out all that it has not taken.
    fn rejoin(&mut self) -> Option<News> {
        let (news, mark) = self.view.feed.join()?;
        self.news = news;
        Some(News { mark, keys: None })
    }

    /// Adds what has come meanwhile, so that a document that changes all the time is told of as often as the reader takes it.
    fn with_further(&mut self, news: News) -> Option<News> {
        let News { mut mark, keys: Some(keys) } = news else { return Some(news) };
        let (mut count, mut all) = (keys.len(), vec![keys]);
        loop {
            match self.news.try_recv().map(News::from) {
                Ok(News { mark: further, keys: Some(keys) })
                    if further.generation == mark.generation && count + keys.len() <= TOLD_MAX =>
                {
                    mark.position = mark.position.max(further.position);
                    count += keys.len();
                    all.push(keys);
                }
                Ok(further) => {
                    self.next = Some(further);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                Err(TryRecvError::Lagged(_)) => return self.rejoin(),
            }
        }
        let keys = match <[_; 1]>::try_from(all) {
            Ok([keys]) => keys,
            Err(all) => {
                let keys: BTreeSet<&String> = all.iter().flat_map(|keys| keys.iter()).collect();
                keys.into_iter().cloned().collect()
            }
        };
        Some(News { mark, keys: Some(keys) })
    }
}

#[cfg(test)]
mod tests;
