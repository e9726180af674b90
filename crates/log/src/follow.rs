//! Following what other processes append: woken by them, or by looking where the log ends.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use daybook_database::{Heard, Signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::appender::Appender;
use crate::checkpoint::check_log;
use crate::seen::{self, Seen, to_look_up};
use crate::store::Store;
use crate::{Head, LogError};

/// How a process finds out what others have appended. It is never needed to append: that finds out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Is woken by those who append, where the database can, and looks now and then.
    Woken,
    /// Looks now and then.
    Looking,
    /// Only when it appends itself.
    Appending,
}

/// How often to look. The longer nothing came, the more rarely: eight times in as long as it is since something did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The shortest time between two looks.
    pub(crate) shortest: Duration,
    /// The longest.
    pub(crate) longest: Duration,
}

impl Pace {
    fn interval(&self, quiet: Duration) -> Duration {
        (quiet / 8).clamp(self.shortest, self.longest)
    }
}

/// Who follows the log, and what for.
pub(crate) struct Follower {
    pub(crate) store: Arc<dyn Store>,
    /// The log that was opened.
    pub(crate) here: Head,
    pub(crate) seen: Arc<Seen>,
    pub(crate) appended: Signal,
    pub(crate) appender: Weak<Appender>,
}

impl Follower {
    /// Looks for what other processes have appended. Closes the log when it is not the one that it was, and has nothing
    /// appended that waits: whatever this process knows is about another history then (invariant L11).
    pub(crate) async fn follow(self, pace: Pace, mut closing: watch::Receiver<bool>) {
        let mut heard = self.appended.hear();
        let (mut looked, mut news) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                // An error: the log was dropped without being closed.
                _ = closing.wait_for(|closing| *closing) => return,
                () = self.is_woken(&mut heard) => {}
                () = sleep_until(looked + pace.interval(looked - news)) => {}
            }
            looked = Instant::now();
            match self.look().await {
                Ok(true) => news = looked,
                Ok(false) => {}
                Err(LogError::History(error)) => {
                    tracing::error!(%error, "this is not the log that was opened: nothing more is appended");
                    self.seen.lose(error);
                    return self.appender.upgrade().map_or((), |appender| appender.begin_to_close());
                }
                Err(error) => tracing::debug!(%error, "the log's head cannot be read"),
            }
        }
    }

    /// Waits until others say that there is something that was not seen here, or may have.
    async fn is_woken(&self, heard: &mut watch::Receiver<Heard>) {
        while heard.changed().await.is_ok() {
            match *heard.borrow_and_update() {
                Heard::Number(position) if position <= self.seen.position().get() => {}
                _ => return,
            }
        }
        std::future::pending().await
    }

    /// Looks where the log ends, and whether it holds what was seen of it; says whether there is something new.
    async fn look(&self) -> Result<bool, LogError> {
        let marks = self.seen.marks();
        let head = self.store.head().await?;
        check_log((self.here.log_id, self.here.epoch), (head.log_id, head.epoch))?;
        let mut ids = HashMap::new();
        for position in to_look_up(&marks, head.mark()) {
            if let Some(id) = self.store.event_id(position).await? {
                ids.insert(position, id);
            }
        }
        seen::check(&marks, head.mark(), &ids)?;
        Ok(self.seen.confirm(&marks, head.mark()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_nothing_came_the_more_rarely_it_is_looked() {
        let pace = Pace { shortest: Duration::from_millis(5), longest: Duration::from_millis(250) };
        let interval = |quiet| pace.interval(Duration::from_millis(quiet)).as_millis();
        assert_eq!([0, 40, 80, 800, 2_000, 60_000].map(interval), [5, 5, 10, 100, 250, 250]);
    }
}
