//! Hashing passwords: slow by intent, so bounded.

use std::sync::Arc;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::settings::HashCost;
use crate::{IdentityError, Secret, Settings};

/// The costliest stored hash that is worked on. One that asks for more did not come from here.
const COST_MAX: HashCost = HashCost { memory_kib: 65_536, passes: 10, lanes: 4 };

/// Hashes passwords on blocking threads, a bounded number at once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    /// One permit for each hash that runs or waits.
    places: Arc<Semaphore>,
    /// One permit for each hash that runs.
    turns: Arc<Semaphore>,
    /// The hash of a password that nobody knows: what an unknown account's password is compared with.
    nobodys: PasswordHash,
}

/// What came of comparing a password with a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Whether it is the password.
    pub(crate) matches: bool,
    /// Whether the hash was made at another cost than today's.
    pub(crate) outdated: bool,
}

impl Passwords {
    pub(crate) fn new(settings: &Settings) -> Result<Self, IdentityError> {
        let HashCost { memory_kib, passes, lanes } = settings.hash_cost;
        let params = Params::new(memory_kib, passes, lanes, None)
            .map_err(|error| IdentityError::Internal(format!("the cost of hashing: {error}")))?;
        let hashes_max = settings.hashes_max.max(1);
        Ok(Self {
            nobodys: nobodys(&params)
                .map_err(|error| IdentityError::Internal(format!("a hash of nobody's: {error}")))?,
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            places: Arc::new(Semaphore::new(hashes_max + settings.hashes_waiting_max)),
            turns: Arc::new(Semaphore::new(hashes_max)),
        })
    }

    /// Hashes a new password.
    pub(crate) async fn hash(&self, password: &Secret) -> Result<String, IdentityError> {
        let (argon2, password) = (self.argon2.clone(), password.clone());
        self.work(move || argon2.hash_password(password.expose().as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|error| IdentityError::Internal(format!("hashing: {error}")))
    }

    /// Compares a password with a stored hash; without one, or with one that is refused, does the same work and finds
    /// no match.
    pub(crate) async fn compare(
        &self,
        password: &Secret,
        stored: Option<String>,
    ) -> Result<Compared, IdentityError> {
        let stored = stored.and_then(|text| {
            let hash = acceptable(&text);
            if hash.is_none() {
                tracing::error!("a stored password hash was refused: it is no argon2id hash of a sane cost");
            }
            hash
        });
        let known = stored.is_some();
        let hash = stored.unwrap_or_else(|| self.nobodys.clone());
        let outdated = cost_of(&hash) != cost(self.argon2.params());
        let (argon2, password) = (self.argon2.clone(), password.clone());
        let compared = self.work(move || argon2.verify_password(password.expose().as_bytes(), &hash)).await?;
        match compared {
            Ok(()) => Ok(Compared { matches: known, outdated }),
            Err(password_hash::Error::PasswordInvalid) => Ok(Compared { matches: false, outdated }),
            Err(error) => Err(IdentityError::Internal(format!("comparing a hash: {error}"))),
        }
    }

    /// Runs a job when it is its turn. The permits go with the job: a client that leaves does not let another job in
    /// while its own still runs.
    async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, IdentityError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| IdentityError::Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| IdentityError::Busy)?;
        tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            job()
        })
        .await
        .map_err(|error| IdentityError::Internal(format!("hashing: {error}")))
    }
}

/// What looks like a hash at this cost. Nobody knows a password that it belongs to: it was not made from one, which
/// would take some 50 ms at each start.
fn nobodys(params: &Params) -> password_hash::Result<PasswordHash> {
    Ok(PasswordHash {
        algorithm: argon2::ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: params.try_into()?,
        salt: Some(Salt::new(&[0; Salt::RECOMMENDED_LENGTH])?),
        hash: Some(Output::new(&[0; Params::DEFAULT_OUTPUT_LEN])?),
    })
}

/// Reads a stored hash, unless it is of another kind or asks for an absurd amount of work.
fn acceptable(text: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(text).ok()?;
    let HashCost { memory_kib, passes, lanes } = cost_of(&hash)?;
    let sane = memory_kib <= COST_MAX.memory_kib && passes <= COST_MAX.passes && lanes <= COST_MAX.lanes;
    (hash.algorithm == argon2::ARGON2ID_IDENT && sane).then_some(hash)
}

fn cost_of(hash: &PasswordHash) -> Option<HashCost> {
    Params::try_from(hash).ok().as_ref().and_then(cost)
}

fn cost(params: &Params) -> Option<HashCost> {
    Some(HashCost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Settings {
        let hash_cost = HashCost { memory_kib: 64, passes: 1, lanes: 1 };
        Settings { hash_cost, hashes_max: 1, hashes_waiting_max: 1, ..Settings::default() }
    }

    #[tokio::test]
    async fn the_right_password_matches_and_no_other_does() {
        let passwords = Passwords::new(&cheap()).expect("starts");
        let hash = passwords.hash(&Secret::from("correct horse".to_owned())).await.expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let compared = |password: &'static str, hash: Option<String>| {
            let passwords = passwords.clone();
            async move { passwords.compare(&Secret::from(password.to_owned()), hash).await.expect("compares") }
        };
        assert_eq!(
            compared("correct horse", Some(hash.clone())).await,
            Compared { matches: true, outdated: false }
        );
        assert!(!compared("correct horsf", Some(hash)).await.matches);
        assert!(!compared("correct horse", None).await.matches);
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_outdated() {
        let passwords = Passwords::new(&cheap()).expect("starts");
        let old = Settings { hash_cost: HashCost { memory_kib: 32, passes: 1, lanes: 1 }, ..cheap() };
        let hash = Passwords::new(&old).expect("starts").hash(&Secret::from("correct horse".to_owned())).await;
        let compared =
            passwords.compare(&Secret::from("correct horse".to_owned()), Some(hash.expect("hashes"))).await;
        assert_eq!(compared.expect("compares"), Compared { matches: true, outdated: true });
    }

    #[test]
    fn a_hash_that_asks_for_gigabytes_or_is_of_another_kind_is_refused() {
        let tail = "$c29tZXNhbHRzb21lc2FsdA$4rXnPiXy3sQ9YPfMk0UuFfXhq3x0bBqjYTV1dZBk1mI";
        assert!(acceptable(&format!("$argon2id$v=19$m=19456,t=2,p=1{tail}")).is_some());
        for head in
            ["$argon2id$v=19$m=4194304,t=2,p=1", "$argon2id$v=19$m=64,t=9999,p=1", "$argon2i$v=19$m=64,t=2,p=1"]
        {
            assert!(acceptable(&format!("{head}{tail}")).is_none(), "{head}");
        }
        assert!(acceptable("").is_none());
    }

    #[tokio::test]
    async fn what_finds_no_place_is_refused_and_a_client_that_leaves_keeps_its_permit() {
        let passwords = Passwords::new(&cheap()).expect("starts");
        let (started, running) = tokio::sync::oneshot::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let passwords = passwords.clone();
            async move {
                passwords
                    .work(move || {
                        let _ = started.send(());
                        let _ = finished.recv();
                    })
                    .await
            }
        });
        running.await.expect("the first hash runs");
        first.abort();
        assert!(first.await.is_err(), "its client has left");
        assert_eq!(passwords.turns.available_permits(), 0, "and its hash still runs");

        let waits = passwords.work(|| ());
        let mut waits = std::pin::pin!(waits);
        tokio::select! { biased;
            _ = &mut waits => panic!("there was no turn to have"),
            refused = passwords.work(|| ()) => assert!(matches!(refused, Err(IdentityError::Busy))),
        }
        finish.send(()).expect("the first hash ends");
        waits.await.expect("then it is the next one's turn");
    }
}
