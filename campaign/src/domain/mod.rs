//! The domain of the campaign: what the writers do, and the same as the engine sees it.

mod act;
mod command;
mod draw;

pub use act::{Act, Change, Claiming, FUNDS, Seen, TAKEN, Thing};
pub use command::{CATEGORY, CLAIM, Changed, Perform, seen_in};
pub use draw::{NAMES, draw};
