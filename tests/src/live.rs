//! Server-sent events, as any frontend reads them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

/// The longest that an event may take to come.
const LIMIT: Duration = Duration::from_secs(60);

/// A view that is followed.
#[derive(Debug)]
pub struct Live {
    shown: String,
    response: reqwest::Response,
    text: String,
    /// The last `id`.
    pub id: String,
}

/// An event of it.
#[derive(Debug, PartialEq, Eq)]
pub struct LiveEvent {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

impl Live {
    pub(crate) fn new(shown: String, response: reqwest::Response) -> Self {
        assert_eq!(response.status().as_u16(), 200, "{shown}");
        assert_eq!(response.headers()["content-type"], "text/event-stream", "{shown}");
        Self { shown, response, text: String::new(), id: String::new() }
    }

    /// The next event; `None` when the server has ended the stream.
    ///
    /// # Panics
    ///
    /// When none comes in time, or what comes is none.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let lines: String = self.text.drain(..end + 2).collect();
                if let Some(event) = self.take_in(&lines) {
                    return Some(event);
                }
                continue;
            }
            let chunk = timeout(LIMIT, self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{} told nothing", self.shown)).ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).expect("the events are ASCII in these tests"));
        }
    }

    /// Waits until it has said with an `id` how far it is.
    ///
    /// # Panics
    ///
    /// When an event comes first.
    pub async fn begun(&mut self) {
        while self.id.is_empty() {
            let chunk = timeout(LIMIT, self.response.chunk()).await.expect("in time").expect("a stream");
            self.text.push_str(std::str::from_utf8(&chunk.expect("it goes on")).expect("ASCII"));
            while let Some(end) = self.text.find("\n\n") {
                let lines: String = self.text.drain(..end + 2).collect();
                assert_eq!(self.take_in(&lines), None, "{}", self.shown);
            }
        }
    }

    /// The position up to which everything was told.
    ///
    /// # Panics
    ///
    /// When the last `id` does not begin with one.
    pub fn position(&self) -> u64 {
        let position = self.id.split('-').next().unwrap_or_default();
        position.parse().expect("an id begins with a position")
    }

    fn take_in(&mut self, lines: &str) -> Option<LiveEvent> {
        let (mut name, mut data) = ("message", None);
        for line in lines.lines() {
            match line.split_once(": ") {
                Some(("event", value)) => name = value,
                Some(("id", value)) => self.id = value.to_owned(),
                Some(("data", value)) => data = Some(serde_json::from_str(value).expect("JSON")),
                _ => assert!(line.is_empty() || line.starts_with(':'), "{line}"),
            }
        }
        data.map(|data| LiveEvent { name: name.to_owned(), data })
    }
}
