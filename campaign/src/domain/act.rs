//! What the writers do: small things that go wrong as soon as a log lies.
//!
//! Pure, and used twice: by the writers, to decide, and by the checker, to decide all of it again in the order of the
//! log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that is acted on. All kinds have the same shape.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// How often it was changed: its stream's revision.
    pub revision: u64,
    /// What it comes to.
    pub value: i64,
    /// The token of the command that changed it last. With it, no two states of a thing look the same, not even one
    /// that was never committed.
    pub tip: String,
}

/// A thing as a decision found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Its name.
    pub thing: String,
    /// Its revision.
    pub revision: u64,
    /// The token of its last change.
    pub tip: String,
}

/// What somebody wants done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Act {
    /// Adds one to a counter, if it is odd or even as asked. Every change makes that answer another one.
    Add {
        /// The counter.
        counter: u64,
        /// How it has to be.
        odd: bool,
    },
    /// Moves an amount between two accounts that start with [`FUNDS`], if there is enough in the first.
    Transfer {
        /// The account that gives.
        from: u64,
        /// The account that takes, another one.
        to: u64,
        /// How much.
        amount: i64,
    },
    /// One of a pair goes off duty, if the other one is on. Reads both and writes one: what write skew is about.
    Leave {
        /// The pair.
        pair: u64,
        /// Whether it is the second of the two.
        second: bool,
    },
    /// One of a pair comes back on duty.
    Return {
        /// The pair.
        pair: u64,
        /// Whether it is the second of the two.
        second: bool,
    },
    /// A holder without a name takes one, that nobody else may hold.
    Take {
        /// The holder.
        holder: u64,
        /// The name, from 1.
        name: u64,
    },
    /// A holder gives its name back.
    Drop {
        /// The holder.
        holder: u64,
    },
    /// Points a pointer at a counter.
    Point {
        /// The pointer.
        pointer: u64,
        /// The counter.
        counter: u64,
    },
    /// Adds one to the counter that a pointer points at, if that is even. What is read depends on what was read.
    Follow {
        /// The pointer.
        pointer: u64,
    },
    /// Puts a value into a register. There is nothing to do when it is there already.
    Put {
        /// The register.
        register: u64,
        /// The value.
        value: i64,
    },
}

/// What an account starts with.
pub const FUNDS: i64 = 20;

/// What an act changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Which of the things that were read get which value.
    pub values: Vec<(usize, i64)>,
    /// What becomes of a name, for the first of the things.
    pub claim: Option<Claiming>,
}

/// What becomes of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// It is taken.
    Take(u64),
    /// It is given back.
    Release(u64),
}

/// The code of the rejection of who takes a name that another one holds.
pub const TAKEN: &str = "taken";

impl Act {
    /// The name of the thing that it is about.
    pub fn target(&self) -> String {
        match self {
            Self::Add { counter, .. } => counter_name(*counter),
            Self::Transfer { from, .. } => account_name(*from),
            Self::Leave { pair, second } | Self::Return { pair, second } => duty_name(*pair, *second),
            Self::Take { holder, .. } | Self::Drop { holder } => format!("holder.{holder}"),
            Self::Point { pointer, .. } | Self::Follow { pointer } => format!("pointer.{pointer}"),
            Self::Put { register, .. } => format!("register.{register}"),
        }
    }

    /// Reads what it decides over, its target first.
    ///
    /// # Errors
    ///
    /// What `look` fails with.
    pub fn read<T, E>(
        &self,
        value: impl Fn(&T) -> i64,
        mut look: impl FnMut(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let target = look(&self.target());
        let other = match self {
            Self::Transfer { to, .. } => Some(look(&account_name(*to))),
            Self::Leave { pair, second } => Some(look(&duty_name(*pair, !*second))),
            _ => None,
        };
        let mut things = vec![target?];
        things.extend(other.transpose()?);
        if let Self::Follow { .. } = self {
            let counter = value(&things[0]).unsigned_abs();
            things.push(look(&counter_name(counter))?);
        }
        Ok(things)
    }

    /// Decides over the values of the things that it [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// The code of the rule that says no.
    pub fn decide(&self, values: &[i64]) -> Result<Change, &'static str> {
        let rule = |holds: bool, code| if holds { Ok(()) } else { Err(code) };
        let now = values[0];
        let mut claim = None;
        let values = match self {
            Self::Add { odd, .. } => {
                rule((now % 2 != 0) == *odd, "parity")?;
                vec![(0, now + 1)]
            }
            Self::Transfer { amount, .. } => {
                rule(FUNDS + now >= *amount, "funds")?;
                vec![(0, now - amount), (1, values[1] + amount)]
            }
            Self::Leave { .. } => {
                rule(now == ON, "off_already")?;
                rule(values[1] == ON, "alone")?;
                vec![(0, OFF)]
            }
            Self::Return { .. } => {
                rule(now == OFF, "on_already")?;
                vec![(0, ON)]
            }
            Self::Take { name, .. } => {
                rule(now == 0, "named")?;
                claim = Some(Claiming::Take(*name));
                vec![(0, name.cast_signed())]
            }
            Self::Drop { .. } => {
                rule(now != 0, "nameless")?;
                claim = Some(Claiming::Release(now.unsigned_abs()));
                vec![(0, 0)]
            }
            Self::Point { counter, .. } => vec![(0, counter.cast_signed())],
            Self::Follow { .. } => {
                rule(values[1] % 2 == 0, "parity")?;
                vec![(1, values[1] + 1)]
            }
            Self::Put { value, .. } if *value == now => Vec::new(),
            Self::Put { value, .. } => vec![(0, *value)],
        };
        Ok(Change { values, claim })
    }
}

const ON: i64 = 0;
const OFF: i64 = 1;

fn counter_name(counter: u64) -> String {
    format!("counter.{counter}")
}

fn account_name(account: u64) -> String {
    format!("account.{account}")
}

fn duty_name(pair: u64, second: bool) -> String {
    format!("duty.{pair}{}", if second { "b" } else { "a" })
}
