//! How accounts and tokens work in this installation.

use std::num::NonZeroUsize;
use std::time::Duration;

/// How accounts and tokens work in this installation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who issues the access tokens (`iss`): this installation's public URL, usually.
    pub issuer: String,
    /// Whom they are for (`aud`).
    pub audience: String,
    /// How long an access token is good for.
    pub access_lifetime: Duration,
    /// How long a refresh token is good for when it is not used.
    pub refresh_lifetime: Duration,
    /// How long after its use a refresh token may come again from the same client (two of its requests crossed)
    /// without ending the session. It gets no tokens either way.
    pub refresh_grace: Duration,
    /// What a password's hash costs.
    pub hash_cost: HashCost,
    /// The most passwords that are hashed at once.
    pub hashes_max: usize,
    /// The most that wait to be hashed; one more is refused with [`crate::IdentityError::Busy`].
    pub hashes_waiting_max: usize,
    /// The most verified access tokens that are remembered.
    pub verified_tokens_max: usize,
    /// How often the log is read for sessions that ended and roles that changed in other processes.
    pub follow_interval: Duration,
    /// How long that may fail before no access token is taken any more.
    pub follow_lag_max: Duration,
}

/// What an argon2id hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// The second of the equivalent choices in OWASP's *Password Storage Cheat Sheet*.
impl Default for HashCost {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        // Half of the processors: whoever floods the login must not starve everything else.
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            issuer: "daybook".into(),
            audience: "daybook".into(),
            access_lifetime: Duration::from_secs(15 * 60),
            refresh_lifetime: Duration::from_secs(30 * 24 * 60 * 60),
            refresh_grace: Duration::from_secs(5),
            hash_cost: HashCost::default(),
            hashes_max: (processors / 2).max(1),
            hashes_waiting_max: 64,
            verified_tokens_max: 10_000,
            follow_interval: Duration::from_millis(250),
            follow_lag_max: Duration::from_secs(5),
        }
    }
}
