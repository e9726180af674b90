//! What only this installation knows: the *master keys*, and what is stored wrapped by them: the keys of its digests and
//! of its access tokens, and the *subject keys* that personal data is sealed with, one for each person.
//!
//! Forgetting somebody is deleting their key. A *tombstone* stays in its place: the key is never made again, and what
//! was sealed with it reads as erased. What is sealed for somebody who was forgotten is sealed with a key that nobody
//! keeps.
//!
//! **Architecture invariant:** no key leaves this crate except to sign access tokens, and none is stored unwrapped. A
//! wrong master key is a clear error, and never looks as if something were erased.

mod aead;
mod digests;
mod error;
mod keys;
mod master;
mod rotation;
mod store;
mod subjects;

pub use digests::Digests;
pub use error::{KeyError, MasterKeyError};
pub use keys::{Keys, OpenedDocuments, StoredSigningKey};
pub use master::{MasterId, MasterKeys};
pub use rotation::{Rotated, rotate};
pub use store::TABLES;

/// Gathers the entropy that all keys are drawn from. The cryptographic library does so when the first is drawn, which
/// then takes some 50 ms; a process that starts can have it done beside other things.
///
/// # Errors
///
/// When the cryptographic library fails.
pub fn gather_entropy() -> Result<(), KeyError> {
    aead::draw()?;
    Ok(())
}
