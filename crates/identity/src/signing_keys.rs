//! The keys that access tokens are signed with, as this process knows them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::Utc;
use daybook_keys::Keys;

use crate::IdentityError;
use crate::key_set::{KeySet, SigningKey};

/// The keys that access tokens are signed with, as this process knows them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SigningKeys {
    keys: Keys,
    known: Arc<RwLock<Arc<KeySet>>>,
}

impl SigningKeys {
    /// How often a process looks for new ones.
    pub(crate) const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

    /// How long a new key is only published before it signs: until every process has seen it.
    const PUBLISH_AHEAD: Duration = Duration::from_secs(2 * 60);

    /// Reads them, and makes the first if there is none. When several processes do so at once, all get the same.
    pub(crate) async fn open(keys: Keys) -> Result<Self, IdentityError> {
        let mut stored = keys.signing_keys().await?;
        if stored.is_empty() {
            let now_ms = Utc::now().timestamp_millis();
            keys.add_signing_key(0, &SigningKey::generate()?, now_ms, now_ms).await?;
            stored = keys.signing_keys().await?;
        }
        let known = Arc::new(RwLock::new(Arc::new(KeySet::read(&stored)?)));
        Ok(Self { keys, known })
    }

    /// Makes a new key, which takes over in two minutes, when every process knows it. The one before goes on verifying
    /// for `overlap` after that.
    pub(crate) async fn rotate(&self, overlap: Duration) -> Result<(), IdentityError> {
        let sign_from_ms = Utc::now().timestamp_millis().saturating_add(millis(Self::PUBLISH_AHEAD));
        let retire_at_ms = sign_from_ms.saturating_add(millis(overlap));
        let newest = self.keys.signing_keys().await?.last().map_or(0, |key| key.number);
        self.keys.add_signing_key(newest, &SigningKey::generate()?, sign_from_ms, retire_at_ms).await?;
        self.reload().await
    }

    /// Reads them anew.
    pub(crate) async fn reload(&self) -> Result<(), IdentityError> {
        let known = Arc::new(KeySet::read(&self.keys.signing_keys().await?)?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    pub(crate) fn known(&self) -> Arc<KeySet> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
