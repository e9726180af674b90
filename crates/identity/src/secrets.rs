//! What only this installation knows: the key of its digests, and the keys of its tokens.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use chrono::Utc;
use daybook_database::Database;
use daybook_dispatch::KeyedDigest;

use crate::IdentityError;
use crate::keys::{KeySet, SigningKey, StoredKey};
use crate::store::Store;

/// The name of the digests' key in the store.
const DIGEST_KEY: &str = "digest";

/// What only this installation knows. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    digests: hmac::Key,
    keys: RwLock<Arc<KeySet>>,
}

impl Secrets {
    /// How often a process looks for new signing keys.
    pub(crate) const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

    /// How long a new key is only published before it signs: until every process has seen it.
    const PUBLISH_AHEAD: Duration = Duration::from_secs(2 * 60);

    /// Reads the secrets from a database whose `keys` schema is migrated, and makes them if it has none. When several
    /// processes do so at once, all get the same.
    ///
    /// # Errors
    ///
    /// When the database is away, or holds keys that cannot be read.
    pub async fn open(database: &Database) -> Result<Self, IdentityError> {
        let store = Store::new(database.clone());
        let now_ms = Utc::now().timestamp_millis();
        let mut fresh = [0; 32];
        aws_lc_rs::rand::fill(&mut fresh)?;
        let digests = store.secret_or_insert(DIGEST_KEY, &fresh, now_ms).await?;
        let key = StoredKey { pkcs8: SigningKey::generate()?, sign_from_ms: now_ms, verify_until_ms: None };
        store.insert_first_signing_key(&key, now_ms).await?;
        let keys = Arc::new(KeySet::read(&store.signing_keys().await?)?);
        let digests = hmac::Key::new(hmac::HMAC_SHA256, &digests);
        Ok(Self { inner: Arc::new(Inner { store, digests, keys: RwLock::new(keys) }) })
    }

    /// Makes a new key to sign access tokens with. It takes over in two minutes, when every process knows it; the one
    /// before goes on verifying for `overlap` after that, which should be no less than an access token's lifetime.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn rotate(&self, overlap: Duration) -> Result<(), IdentityError> {
        let now_ms = Utc::now().timestamp_millis();
        let sign_from_ms = now_ms.saturating_add(millis(Self::PUBLISH_AHEAD));
        let key = StoredKey { pkcs8: SigningKey::generate()?, sign_from_ms, verify_until_ms: None };
        let retire_at_ms = sign_from_ms.saturating_add(millis(overlap));
        self.inner.store.rotate_signing_key(&key, now_ms, retire_at_ms).await?;
        self.reload().await
    }

    /// Reads the signing keys anew.
    pub(crate) async fn reload(&self) -> Result<(), IdentityError> {
        let keys = Arc::new(KeySet::read(&self.inner.store.signing_keys().await?)?);
        *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    pub(crate) fn keys(&self) -> Arc<KeySet> {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// HMAC-SHA256 over the purpose and the parts, each behind its length.
impl KeyedDigest for Secrets {
    fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.inner.digests);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// Without the secrets.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
