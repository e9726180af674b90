//! The faults, and how they are drawn.

use std::time::Duration;

use super::Backend;
use crate::Dice;
use crate::proxy::Cut;
use crate::writer::LOOK_UP_TIMEOUT;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The next write of a writer is broken off.
    Cut(Cut),
    /// The next write of a writer is broken off, and nothing comes through any more for this time: mostly longer than its
    /// outcome is looked up.
    CutAndAway(Cut, Duration),
    /// The next write of a writer is held back for the first time. After the second time, in which its outcome is looked
    /// up, nothing comes through any more until it has arrived.
    LateAndAway(Duration, Duration),
    /// `kill -9` of a writer, which is started again after this time.
    Kill(Duration),
    /// A writer is frozen for this time.
    Freeze(Duration),
    /// The same, and meanwhile another one asks for what it waits for.
    FreezeAndAdopt(Duration),
    /// A writer reaches no server for this time.
    Outage(Duration),
    /// An administrator ends a writer's connection.
    Terminate,
    /// Somebody else holds the log's head for this time.
    Hold(Duration),
    /// The server crashes, and recovers.
    Crash,
    /// The disk is full for this time.
    FullDisk(Duration),
}

/// What can be done to a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    pub(super) backend: Backend,
    /// Whether the server is ours, and may be crashed.
    pub(super) crash: bool,
    /// Whether there is a disk that can be filled.
    pub(super) disk: bool,
    /// How long a writer waits for the log's head.
    pub(super) lock_timeout: Duration,
}

impl Means {
    /// Draws a fault.
    pub(super) fn draw(&self, dice: &mut Dice) -> Fault {
        match self.backend {
            Backend::Postgres => self.draw_on_postgres(dice),
            Backend::Sqlite => self.draw_on_sqlite(dice),
        }
    }

    fn draw_on_postgres(&self, dice: &mut Dice) -> Fault {
        match dice.below(100) {
            0..=60 => Fault::Cut(self.cut(dice)),
            61..=66 => Fault::CutAndAway(lost(dice), away(dice)),
            67..=69 => Fault::LateAndAway(dice.ms(150, 900), dice.ms(5, 60)),
            70..=81 => Fault::Kill(dice.ms(0, 200)),
            82..=86 => Fault::Freeze(self.freeze(dice)),
            87..=90 => Fault::FreezeAndAdopt(self.freeze(dice)),
            91..=94 => Fault::Outage(away(dice)),
            95 | 96 => Fault::Terminate,
            97 | 98 => Fault::Hold(self.freeze(dice)),
            _ if self.crash => Fault::Crash,
            _ => Fault::Terminate,
        }
    }

    fn draw_on_sqlite(&self, dice: &mut Dice) -> Fault {
        match dice.below(20) {
            0..=11 => Fault::Kill(dice.ms(0, 100)),
            12..=14 => Fault::Freeze(self.freeze(dice)),
            15 | 16 => Fault::FreezeAndAdopt(self.freeze(dice)),
            17 => Fault::Hold(self.freeze(dice)),
            _ if self.disk => Fault::FullDisk(dice.ms(20, 200)),
            _ => Fault::Kill(dice.ms(0, 100)),
        }
    }

    fn cut(&self, dice: &mut Dice) -> Cut {
        match dice.below(20) {
            0 | 1 => Cut::Before,
            2 => Cut::Half,
            3..=5 => Cut::Blind,
            6..=9 => Cut::Answer,
            10 => Cut::HalfAnswer,
            11 | 12 => Cut::After,
            13..=16 => Cut::Late(if dice.one_in(4) { self.freeze(dice) } else { dice.ms(1, 100) }),
            17 | 18 => Cut::Stall(self.freeze(dice)),
            _ => Cut::StallAnswer(self.freeze(dice)),
        }
    }

    /// Mostly short, and sometimes longer than anybody waits for a lock.
    fn freeze(&self, dice: &mut Dice) -> Duration {
        let lock_ms = self.lock_timeout.as_millis() as u64;
        if dice.one_in(4) { dice.ms(lock_ms, 2 * lock_ms) } else { dice.ms(5, lock_ms / 3) }
    }
}

/// A cut behind which nobody knows what became of the write.
fn lost(dice: &mut Dice) -> Cut {
    match dice.below(8) {
        0 => Cut::Before,
        1 => Cut::Half,
        2 | 3 => Cut::Blind,
        4 | 5 => Cut::Answer,
        6 => Cut::HalfAnswer,
        _ => Cut::Late(dice.ms(1, 900)),
    }
}

/// How long a server is out of reach: mostly longer than an outcome is looked up.
fn away(dice: &mut Dice) -> Duration {
    let look_up_ms = LOOK_UP_TIMEOUT.as_millis() as u64;
    dice.ms(look_up_ms / 4, 3 * look_up_ms)
}

impl Fault {
    /// What to call it in a summary.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Cut(Cut::Before) => "cut before a write",
            Self::Cut(Cut::Half) => "cut within a write",
            Self::Cut(Cut::Blind) => "cut right behind a write",
            Self::Cut(Cut::Answer) => "cut between a write and its answer",
            Self::Cut(Cut::HalfAnswer) => "cut within an answer",
            Self::Cut(Cut::After) => "cut after an answer",
            Self::Cut(Cut::Late(_)) => "cut, and the write came later",
            Self::Cut(Cut::Stall(_)) => "write stalled",
            Self::Cut(Cut::StallAnswer(_)) => "answer stalled",
            Self::CutAndAway(..) => "cut, and out of reach",
            Self::LateAndAway(..) => "cut, out of reach, and the write came later",
            Self::Kill(_) => "kill -9",
            Self::Freeze(_) => "process frozen",
            Self::FreezeAndAdopt(_) => "process frozen, and asked for elsewhere",
            Self::Outage(_) => "server out of reach",
            Self::Terminate => "connection ended by the server",
            Self::Hold(_) => "head held by somebody else",
            Self::Crash => "server crashed",
            Self::FullDisk(_) => "disk full",
        }
    }
}
