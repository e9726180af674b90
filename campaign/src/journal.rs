//! What a writer notes down: every intent before it is sent, and every answer as soon as it is there.
//!
//! A journal is a file of JSON lines. Each line is handed to the system at once, so that a `kill -9` loses none. Times
//! are microseconds by the machine's clock, which all processes of a campaign share.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use daybook_core::Receipt;
use serde::{Deserialize, Serialize};

use crate::domain::{Act, Changed, Seen};

/// Microseconds since 1970.
pub type Micros = u64;

/// What time it is.
pub fn now() -> Micros {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What somebody wants done, and under which conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Unique to it.
    pub token: String,
    /// What.
    pub act: Act,
    /// Whether it is sent with an idempotency key, which is its token.
    pub keyed: bool,
    /// The revision that its target has to be at.
    pub if_match: Option<u64>,
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Somebody wants something. Written again by a process that takes it over.
    Intent(Intent),
    /// It is about to be sent.
    Sent {
        /// What.
        token: String,
        /// How many times this process has sent it, from 1.
        attempt: u32,
        /// When.
        at: Micros,
    },
    /// There is an answer.
    Answered {
        /// To what.
        token: String,
        /// To which time that it was sent.
        attempt: u32,
        /// When.
        at: Micros,
        /// What it says.
        answer: Answer,
    },
    /// Somebody tried out what would be, once, and was answered.
    TriedOut {
        /// What.
        intent: Intent,
        /// When it was sent.
        sent: Micros,
        /// When it was answered.
        at: Micros,
        /// What that says.
        answer: Answer,
    },
    /// Nobody is going to ask again.
    Abandoned {
        /// What.
        token: String,
    },
}

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done, now or before.
    Done(Receipt),
    /// It was only tried out, and would be done.
    WouldBe {
        /// Where the log was.
        position: u64,
        /// What would happen to which things.
        changes: Vec<(String, Changed)>,
    },
    /// A rule says no.
    Rejected {
        /// Which rule.
        code: String,
        /// What it was decided over.
        seen: Vec<Seen>,
    },
    /// The target is not at the revision that it has to be at.
    Precondition {
        /// Where it is.
        actual: u64,
    },
    /// Nothing was done: the log is away or busy, or others were in the way all the time.
    NotDone(String),
    /// Whether it was done is not known.
    Unknown,
    /// The same is being worked on.
    InFlight,
    /// Whoever asked did not wait for the answer.
    GaveUp,
    /// What must never be answered.
    Wrong(String),
}

impl Answer {
    /// Whether nobody asks again after it.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Done(_)
                | Self::WouldBe { .. }
                | Self::Rejected { .. }
                | Self::Precondition { .. }
                | Self::Wrong(_)
        )
    }
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal(Mutex<File>);

impl Journal {
    /// Begins a journal.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create_new(true).open(path).map(|file| Self(Mutex::new(file)))
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Nothing may be sent that could not be noted down.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
    }
}

/// Where the journal of one life of a writer is.
pub fn path(folder: &Path, writer: u32, life: u32) -> PathBuf {
    folder.join(format!("{writer}.{life}.jsonl"))
}

/// The journals of all lives of a writer so far, each with its name, the oldest first. A life that was killed at once
/// has none.
///
/// # Errors
///
/// When one cannot be read.
pub fn read_all(folder: &Path, writer: u32) -> anyhow::Result<Vec<(String, Vec<Record>)>> {
    let mut lives = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name();
        let life = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.split_once('.'));
        if let Some((of, life)) = life
            && of == writer.to_string()
        {
            lives.push(life.parse()?);
        }
    }
    lives.sort_unstable();
    lives.into_iter().map(|life| Ok((format!("{writer}.{life}"), read(&path(folder, writer, life))?))).collect()
}

fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // A last line without an end was being written when the writer was killed: it was not sent, or nobody has heard it.
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line| serde_json::from_str(line).with_context(|| format!("a bad line in {}", path.display()));
    complete.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_being_written_when_the_writer_was_killed_is_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let record = Record::Sent { token: "1".into(), attempt: 1, at: 5 };
        let path = path(folder.path(), 1, 1);
        Journal::create(&path).expect("new").write(&record).expect("written");
        File::options().append(true).open(&path).expect("there").write_all(b"{\"sent\":").expect("written");
        assert_eq!(read_all(folder.path(), 1).expect("readable"), [("1.1".to_owned(), vec![record])]);
    }
}
