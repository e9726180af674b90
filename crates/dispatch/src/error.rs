//! Why a command got no receipt.

use std::sync::Arc;

use daybook_core::{DecodeError, InputError, Rejection, Revision};
use daybook_keys::KeyError;
use daybook_log::LogError;

/// Why a command got no receipt.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// Its body was not taken.
    #[error(transparent)]
    Input(#[from] InputError),
    /// One has to be signed in for it.
    #[error("this needs an access token")]
    SignIn,
    /// The actor may not send it.
    #[error("this is not allowed")]
    Denied,
    /// What it is about is another's, which is not to be told from what does not exist.
    #[error("there is no such thing, or it is somebody else's")]
    NotTheirs,
    /// A rule said no.
    #[error("{0}")]
    Rejected(Rejection),
    /// The aggregate was not at the revision that `If-Match` named.
    #[error("the revision is {actual}, not {expected}")]
    Precondition {
        /// What `If-Match` named.
        expected: Revision,
        /// Where the aggregate was.
        actual: Revision,
    },
    /// Others kept changing what it decides over until its time was up.
    #[error("others kept changing what this decides over")]
    Conflict,
    /// The same command with the same idempotency key is being worked on.
    #[error("the same command is being worked on")]
    InFlight,
    /// The idempotency key was used before, with another body.
    #[error("the idempotency key was used with another body")]
    KeyReused,
    /// The log could not answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is personal could not be sealed; nothing was appended.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A rule or authorization said no, and that could not be recorded, so it is not answered. Nothing came of the
    /// command, whatever became of the record.
    #[error("a refusal could not be recorded: {0}")]
    Unrecorded(Arc<DispatchError>),
    /// The program made something that cannot be written.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<serde_json::Error> for DispatchError {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<DecodeError> for DispatchError {
    fn from(error: DecodeError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl DispatchError {
    /// A word for it, for metrics and logs.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Input(_) => "invalid",
            Self::SignIn => "unauthenticated",
            Self::Denied | Self::NotTheirs => "denied",
            Self::Rejected(_) => "rejected",
            Self::Precondition { .. } => "precondition",
            Self::Conflict => "conflict",
            Self::InFlight => "in_flight",
            Self::KeyReused => "key_reused",
            Self::Log(LogError::Unavailable(_) | LogError::Busy | LogError::Unknown | LogError::Closed)
            | Self::Keys(KeyError::Unavailable(_)) => "unavailable",
            Self::Unrecorded(cause) => cause.outcome(),
            Self::Log(_) | Self::Keys(_) | Self::Internal(_) => "failed",
        }
    }
}
