//! How far long work is: a bar on a terminal, now and then a line elsewhere. Both go to standard error, so that what
//! was asked for stands alone on standard output.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long to wait from one line to the next.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How far some work is.
pub(crate) enum Progress {
    /// Somebody looks at it.
    Bar(ProgressBar),
    /// It goes to a file.
    Lines(Mutex<Lines>),
}

impl Progress {
    /// Begins `work` on `total` things.
    pub(crate) fn new(work: &'static str, things: &'static str, total: u64) -> Self {
        Self::within(work, things, 0, total)
    }

    /// Looks at `work` of which so many things are done already: they say nothing about how fast it goes.
    pub(crate) fn within(work: &'static str, things: &'static str, done: u64, total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Mutex::new(Lines::new(work, things, done, total, Instant::now())));
        }
        let template =
            format!("{work} {{wide_bar}} {{human_pos}} of {{human_len}} {things}, {{per_sec}}, {{eta}} to go");
        // A template that indicatif does not understand leaves its own bar.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(bar(done, total).with_style(style))
    }

    /// So many are done by now, of what may have become more.
    pub(crate) fn reach(&self, done: u64, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Self::Lines(lines) => tell(lines, |lines| lines.reach(done, total, Instant::now())),
        }
    }

    /// Has something printed beside it.
    pub(crate) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        match self {
            Self::Bar(bar) => bar.suspend(print),
            Self::Lines(_) => print(),
        }
    }

    /// Says something beside it.
    pub(crate) fn say(&self, text: &str) {
        self.beside(|| drop(writeln!(std::io::stderr().lock(), "{text}")));
    }

    /// So many more are done.
    pub(crate) fn advance(&self, count: u64) {
        match self {
            Self::Bar(bar) => bar.inc(count),
            Self::Lines(lines) => tell(lines, |lines| lines.advance(count, Instant::now())),
        }
    }

    /// All is done.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// A bar that measures from what is done already.
fn bar(done: u64, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_position(done);
    bar.tick();
    bar.reset_eta();
    bar
}

/// Writes a line, when there is one.
fn tell(lines: &Mutex<Lines>, line: impl FnOnce(&mut Lines) -> Option<String>) {
    let line = lines.lock().ok().and_then(|mut lines| line(&mut lines));
    if let Some(line) = line {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// Progress as lines of text.
pub(crate) struct Lines {
    work: &'static str,
    things: &'static str,
    total: u64,
    done: u64,
    /// What was done when it was looked at first, and when that was.
    done_before: u64,
    begun: Instant,
    told: Instant,
}

impl Lines {
    fn new(work: &'static str, things: &'static str, done: u64, total: u64, now: Instant) -> Self {
        Self { work, things, total, done, done_before: done, begun: now, told: now }
    }

    fn advance(&mut self, count: u64, now: Instant) -> Option<String> {
        self.reach(self.done + count, self.total, now)
    }

    /// A line, when it is time for one.
    fn reach(&mut self, done: u64, total: u64, now: Instant) -> Option<String> {
        (self.done, self.total) = (done, total);
        if now - self.told < LINE_INTERVAL {
            return None;
        }
        self.told = now;
        let rate = self.done.saturating_sub(self.done_before) as f64 / (now - self.begun).as_secs_f64();
        if rate == 0.0 {
            return Some(format!("{self}, 0/s"));
        }
        let left_s = self.total.saturating_sub(self.done) as f64 / rate;
        Some(format!("{self}, {rate:.0}/s, {left_s:.0} s to go"))
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {} {}", self.work, self.done, self.total, self.things)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_now_and_then_with_rate_and_time_to_go() {
        let begun = Instant::now();
        let mut lines = Lines::new("filling", "events", 0, 1_000, begun);
        assert_eq!(lines.advance(100, begun + Duration::from_secs(5)), None);
        let line = lines.advance(100, begun + Duration::from_secs(10));
        assert_eq!(line.as_deref(), Some("filling 200 of 1000 events, 20/s, 40 s to go"));
        assert_eq!(lines.advance(100, begun + Duration::from_secs(19)), None);
        assert!(lines.advance(100, begun + Duration::from_secs(20)).is_some());
    }

    #[test]
    fn what_was_done_before_says_nothing_of_the_rate() {
        let begun = Instant::now();
        let mut lines = Lines::new("rebuilding", "events", 5_000_000, 10_000_000, begun);
        let line = lines.reach(5_100_000, 10_000_000, begun + Duration::from_secs(10));
        assert_eq!(line.as_deref(), Some("rebuilding 5100000 of 10000000 events, 10000/s, 490 s to go"));
        let mut stands = Lines::new("rebuilding", "events", 7, 9, begun);
        let line = stands.reach(7, 9, begun + Duration::from_secs(10));
        assert_eq!(line.as_deref(), Some("rebuilding 7 of 9 events, 0/s"));

        let bar = bar(5_000_000, 10_000_000);
        std::thread::sleep(Duration::from_millis(20));
        bar.set_position(5_000_100);
        let rate = bar.per_sec();
        assert!((1.0..=5_000.0).contains(&rate), "{rate}");
    }
}
