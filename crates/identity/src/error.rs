//! Why an answer about identity could not be given.

use daybook_core::{FieldError, Rejection};
use daybook_database::{DatabaseError, Fault, fault};
use daybook_dispatch::DispatchError;
use daybook_keys::KeyError;
use daybook_log::LogError;

/// Why an answer about identity could not be given.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Some fields are not valid.
    #[error("some fields are not valid: {}", named(.0))]
    Invalid(Vec<FieldError>),
    /// The e-mail address or the password is wrong; which of them is not told.
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// The token is forged, expired, used, revoked, or none at all; which of these is not told.
    #[error("the token is not valid")]
    InvalidToken,
    /// Too many passwords wait to be hashed. The same may succeed in some seconds.
    #[error("too many logins at once")]
    Busy,
    /// The store is away, or this process does not know the newest revocations. The same may succeed later.
    #[error("identity is not available: {0}")]
    Unavailable(String),
    /// A command about an account or a session got no receipt: a rule said no (`email_taken`, `not_found`), or the
    /// log could not answer.
    #[error(transparent)]
    Dispatch(DispatchError),
    /// What is stored or configured does not fit this program.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<DispatchError> for IdentityError {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Log(error) => error.into(),
            error => Self::Dispatch(error),
        }
    }
}

impl From<LogError> for IdentityError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(reason) => Self::Unavailable(reason),
            error => Self::Dispatch(DispatchError::Log(error)),
        }
    }
}

impl From<Rejection> for IdentityError {
    fn from(rejection: Rejection) -> Self {
        Self::Dispatch(DispatchError::Rejected(rejection))
    }
}

impl From<sqlx::Error> for IdentityError {
    fn from(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::Unavailable => Self::Unavailable(error.to_string()),
            Fault::Duplicate | Fault::Data | Fault::Other => Self::Internal(error.to_string()),
        }
    }
}

impl From<DatabaseError> for IdentityError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Sql(error) => error.into(),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<KeyError> for IdentityError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unavailable(_) | KeyError::UnknownMaster { .. } | KeyError::Master(_) => {
                Self::Unavailable(error.to_string())
            }
            KeyError::Damaged(_) | KeyError::Database(_) | KeyError::Cipher => Self::Internal(error.to_string()),
        }
    }
}

impl From<aws_lc_rs::error::Unspecified> for IdentityError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Internal("the cryptographic library failed".into())
    }
}

fn named(errors: &[FieldError]) -> String {
    let one = |error: &FieldError| format!("{} {}", error.field, error.message);
    errors.iter().map(one).collect::<Vec<_>>().join("; ")
}
