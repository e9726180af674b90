//! Views: what the projections make of the log, kept up to date, and the queries over them.
//!
//! [`Views`] answers queries, in any process. [`Projectors`] keep the views up to date, in the processes that are to:
//! one task for each projection reads the log page by page, folds, and writes documents and checkpoint in one
//! transaction.
//!
//! **Architecture invariants:**
//!
//! - Every write of a projector requires the lease epoch that it was given and the position that it started from
//!   (P1). Leases only save work: whoever lost one, and does not know it yet, can write nothing.
//! - Nothing here depends on how the log was cut into pages (P2), and no event is passed over: what cannot be taken in
//!   stops its projection, there, with a reason that everybody can see.
//! - What was read before may answer, as far as is known what changed since: see `cache`.
//! - A query reads documents and the position that they correspond to in one statement. It asks for nothing but declared
//!   fields, so that an index serves it, and goes on from a document, never from a number of them.

mod acts;
mod as_of;
pub mod backup;
mod cache;
mod criteria;
mod dead_letters;
mod diff;
mod error;
mod feed;
mod fold;
mod generation;
mod mark;
mod owner;
mod postgres;
mod projector;
mod projectors;
mod query;
mod ranges;
mod rebuild;
mod refold;
mod select;
mod slices;
mod sqlite;
mod status;
mod steps;
mod store;
mod table;
#[cfg(test)]
mod testing;
mod verify;
mod views;
mod worker;

pub use acts::{ProjectionEvent, acts_stream};
pub use criteria::{COMBINATIONS_MAX, Criteria, Operator, Parameter, Unusable, parameters};
pub use dead_letters::{DeadLetter, RETRY, SKIP};
pub use diff::FieldDifference;
pub use error::ViewError;
pub use feed::{Live, News};
pub use generation::Phase;
pub use mark::Mark;
pub use projectors::{Projectors, Settings};
pub use query::{Answer, AtLeast, Cursor, Document, Page, PageQuery};
pub use rebuild::{Act, GenerationStatus, REBUILD};
pub use slices::SLICES;
pub use status::{Building, Status, Stopped};
pub use steps::{Effect, Step, Touched, Window};
pub use verify::{Extent, Finding, Listener, Told, Verification};
pub use views::Views;
