//! A command's way: validate, authorize, load, decide, append, receipt.

mod acts;
mod dispatcher;
mod error;
mod executor;
mod in_flight;
mod memory;
mod openings;
mod preview;
mod refusals;
mod request;
mod sealing;

pub use dispatcher::{Dispatcher, Settings};
pub use error::DispatchError;
pub use openings::{OpeningEvent, PersonalOpened};
pub use preview::{Preview, PreviewEvent};
pub use refusals::{CommandDenied, CommandRejected, RefusalEvent};
pub use request::Request;
