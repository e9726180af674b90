//! Why keys could not be used.

use std::path::PathBuf;

use daybook_database::{DatabaseError, Fault, fault};

use crate::MasterId;

/// Why keys could not be used. None of these means that something was erased.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database of the keys is away or busy. The same may succeed later.
    #[error("the keys are not available: {0}")]
    Unavailable(String),
    /// What is stored is wrapped under a master key that was not given.
    #[error(
        "the keys are wrapped under the master key {needed}, and {given}: give the right one with `master_key` or `master_key_file`"
    )]
    UnknownMaster {
        /// The master key that is needed.
        needed: MasterId,
        /// Which were given.
        given: String,
    },
    /// What is stored cannot be unwrapped, though the master key is the right one: it was changed.
    #[error("`{0}` in the database of the keys is damaged: it cannot be unwrapped")]
    Damaged(String),
    /// The master keys cannot be read.
    #[error(transparent)]
    Master(#[from] MasterKeyError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(DatabaseError),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Cipher,
}

/// Why master keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// There is none.
    #[error("there is no key in it")]
    Empty,
    /// One of them is none. It is not quoted.
    #[error("key {0} of it is not 32 bytes, in base64 or as 64 hexadecimal digits")]
    Form(usize),
    /// Their file cannot be read or written.
    #[error("the master keys in {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// What is in their file is none.
    #[error("the master keys in {path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Box<MasterKeyError>,
    },
}

impl From<sqlx::Error> for KeyError {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Unavailable => Self::Unavailable(error.to_string()),
            Fault::Duplicate | Fault::Data | Fault::Other => Self::Database(error.into()),
        }
    }
}

impl From<DatabaseError> for KeyError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Sql(error) => error.into(),
            error @ DatabaseError::Unreachable { .. } => Self::Unavailable(error.to_string()),
            error => Self::Database(error),
        }
    }
}

impl From<aws_lc_rs::error::Unspecified> for KeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Cipher
    }
}
