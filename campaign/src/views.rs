//! The campaign of the views: several processes append, project and read, while they are killed and frozen, and views are
//! built anew. In the end each view has to be what a plain fold of the log makes, and nobody was ever shown less than they
//! asked for, or than they had been shown before.

pub mod check;
pub mod domain;
pub mod drive;
mod feed;
pub mod process;
