//! A generation: one build of a view, with a table of its own.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use daybook_core::Position;
use schemars::JsonSchema;
use serde::Serialize;

/// What a generation is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The log is folded in big pages, and the table has no indexes yet.
    Replay,
    /// What was appended meanwhile is folded.
    CatchUp,
    /// It is compared with the one that is served.
    Verify,
    /// It differs, and waits for somebody to agree.
    Held,
    /// It is served.
    Live,
    /// It was served; it is kept up to date, so that it can be served again.
    Retired,
    /// It was served once, and its documents are gone.
    Dropped,
    /// It was given up.
    Aborted,
}

impl Phase {
    pub(crate) const ALL: [Self; 8] = [
        Self::Replay,
        Self::CatchUp,
        Self::Verify,
        Self::Held,
        Self::Live,
        Self::Retired,
        Self::Dropped,
        Self::Aborted,
    ];

    /// Its name in the database, and everywhere else.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::CatchUp => "catch_up",
            Self::Verify => "verify",
            Self::Held => "held",
            Self::Live => "live",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it is on its way to be served.
    pub const fn is_built(self) -> bool {
        matches!(self, Self::Replay | Self::CatchUp | Self::Verify | Self::Held)
    }

    /// Whether it follows the log.
    pub const fn is_fed(self) -> bool {
        self.is_built() || matches!(self, Self::Live | Self::Retired)
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or_else(|| format!("`{text}` is no phase"))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A generation, as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    pub(crate) id: i64,
    pub(crate) projection: String,
    pub(crate) version: u32,
    pub(crate) number: u32,
    pub(crate) phase: Phase,
    pub(crate) paused: bool,
    pub(crate) confirm_diff: bool,
    /// How far the log was folded in memory, while it is replayed.
    pub(crate) replayed: Position,
    pub(crate) declaration: String,
    pub(crate) report: Option<String>,
    pub(crate) started_by: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) phase_at: DateTime<Utc>,
    /// Since when it waits, and how many seconds it waited before.
    pub(crate) paused_at: Option<DateTime<Utc>>,
    pub(crate) paused_seconds: f64,
    /// When it was read, by the clock that has set these times, too.
    pub(crate) seen_at: DateTime<Utc>,
}

impl Generation {
    /// How far it has come whose ranges stand at `lowest` at least. What was folded in memory stands nowhere else.
    pub(crate) fn position(&self, lowest: Position) -> Position {
        lowest.max(if self.phase == Phase::Replay { self.replayed } else { Position::START })
    }

    /// How many seconds it has been worked on.
    pub(crate) fn worked_seconds(&self) -> f64 {
        (self.paused_at.unwrap_or(self.seen_at) - self.started_at).as_seconds_f64() - self.paused_seconds
    }
}

/// Whether a version was given up: somebody aborted it, and since then nothing has become of any of its generations. It is
/// begun again when somebody asks for that, and not by itself.
pub(crate) fn is_given_up(generations: &[Generation], version: u32) -> bool {
    let mut own: Vec<&Generation> = generations.iter().filter(|one| one.version == version).collect();
    own.sort_by_key(|one| (one.phase_at, one.number));
    own.last().is_some_and(|last| last.phase == Phase::Aborted) && !own.iter().any(|one| one.phase.is_fed())
}

/// Which of a projection's generations a program serves that has it in this version: the live one of its own version, or
/// else, as it is, that of the highest version below.
pub(crate) fn served(generations: &[Generation], version: u32) -> Option<&Generation> {
    let live = |one: &&Generation| one.phase == Phase::Live && one.version <= version;
    generations.iter().filter(live).max_by_key(|one| one.version)
}
