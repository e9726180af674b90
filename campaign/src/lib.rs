//! The fault campaigns of the log, of the views and of the relay.
//!
//! Several writers, each a process with the engine's own log and dispatcher, write to one log, while they are killed,
//! frozen, and cut off at the worst moments. Each notes down what it asks and what it is answered. A reader follows the
//! log all the time. In the end a checker proves from all of that, that what was acknowledged is there once, what was
//! refused is not, that every decision held when it was written, and that no answer came from a state that never was.

pub mod check;
mod dice;
pub mod domain;
pub mod drive;
mod fleet;
pub mod journal;
pub mod kafka;
pub mod proxy;
pub mod reader;
pub mod signal;
pub mod summary;
pub mod views;
pub mod writer;

pub use dice::Dice;
