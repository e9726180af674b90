//! The keys of subjects that are in memory, and what is sealed and opened with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::error::Unspecified;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cached::{Cached, LruCache};
use daybook_core::{Opened, Origin};

use crate::aead;

/// The most keys that are kept in memory, about a kilobyte each.
const CACHED_MAX: usize = 32_768;

/// What a ciphertext begins with: the version of its form.
const VERSION: u8 = 1;

/// What is known of a subject's key.
#[derive(Clone)]
pub(crate) enum SubjectKey {
    /// It is there.
    Kept(Arc<RandomizedNonceKey>),
    /// The subject was forgotten.
    Forgotten,
}

impl SubjectKey {
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, Unspecified> {
        Ok(Self::Kept(Arc::new(aead::key(bytes)?)))
    }

    /// Seals the JSON of a value: the version, a nonce, the ciphertext and its tag, in base64 for URLs. For a subject
    /// that was forgotten, under a key that nobody keeps.
    fn seal(&self, origin: Origin<'_>, plain: &str) -> Result<String, Unspecified> {
        let seal = |key: &RandomizedNonceKey| aead::seal(key, &[VERSION], &origin.aad(), plain.as_bytes());
        let sealed = match self {
            Self::Kept(key) => seal(key)?,
            Self::Forgotten => seal(&aead::key(&aead::draw()?[..])?)?,
        };
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what was sealed; `None` when it is not what was sealed for this subject there.
    pub(crate) fn open(&self, origin: Origin<'_>, sealed: &str) -> Option<Opened> {
        let Self::Kept(key) = self else { return Some(Opened::Erased) };
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (&VERSION, sealed) = bytes.split_first()? else { return None };
        let plain = aead::open(key, &origin.aad(), sealed).ok()?;
        Some(Opened::Value(String::from_utf8(plain.to_vec()).ok()?))
    }
}

/// The keys that are in memory, those used longest ago going first.
pub(crate) struct Subjects(Mutex<LruCache<String, SubjectKey>>);

impl Default for Subjects {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CACHED_MAX)))
    }
}

impl Subjects {
    /// Seals a value; `None` when its subject's key is not in memory.
    pub(crate) fn seal(&self, origin: Origin<'_>, plain: &str) -> Option<Result<String, Unspecified>> {
        self.get(origin.subject).map(|key| key.seal(origin, plain))
    }

    pub(crate) fn get(&self, subject: &str) -> Option<SubjectKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cache_get(subject).cloned()
    }

    /// Adds what was read from the store. Whoever was forgotten meanwhile stays so.
    pub(crate) fn add(&self, keys: &HashMap<String, SubjectKey>) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, key) in keys {
            if cache.cache_get(subject).is_none() {
                cache.cache_set(subject.clone(), key.clone());
            }
        }
    }

    pub(crate) fn forget(&self, subject: &str) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.cache_set(subject.to_owned(), SubjectKey::Forgotten);
    }

    /// Drops a key. Whoever was forgotten stays so.
    pub(crate) fn discard(&self, subject: &str) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(SubjectKey::Kept(_)) = cache.cache_get(subject) {
            drop(cache.cache_remove(subject));
        }
    }

    /// Drops the keys of all days before this one.
    pub(crate) fn forget_days(&self, before: &str) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|subject, _| !subject.starts_with("day-") || subject.as_str() >= before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin<'a>(subject: &'a str, of: &'a str) -> Origin<'a> {
        Origin { subject, of }
    }

    #[test]
    fn a_value_opens_under_its_key_and_where_it_belongs_only() {
        let key = SubjectKey::new(&[1; 32]).expect("a key");
        let here = origin("account-1", "7/email");
        let sealed = key.seal(here, r#""ada@example.com""#).expect("sealed");
        assert_eq!(key.open(here, &sealed), Some(Opened::Value(r#""ada@example.com""#.into())));
        assert_ne!(key.seal(here, r#""ada@example.com""#).expect("sealed"), sealed, "never twice the same");

        assert_eq!(key.open(origin("account-2", "7/email"), &sealed), None);
        assert_eq!(key.open(origin("account-1", "7/name"), &sealed), None);
        assert_eq!(SubjectKey::new(&[2; 32]).expect("a key").open(here, &sealed), None);
        assert_eq!(SubjectKey::Forgotten.open(here, &sealed), Some(Opened::Erased));
        for garbage in ["", "AQ", "x", &sealed[1..], &format!("{sealed}A"), &sealed.replacen('A', "C", 1)] {
            assert_eq!(key.open(here, garbage), None, "{garbage}");
        }
    }

    #[test]
    fn what_is_sealed_for_somebody_forgotten_looks_like_all_else_and_opens_under_no_key() {
        let (kept, here) = (SubjectKey::new(&[1; 32]).expect("a key"), origin("account-1", "7/email"));
        let sealed = SubjectKey::Forgotten.seal(here, "1").expect("sealed");
        assert_eq!(sealed.len(), kept.seal(here, "1").expect("sealed").len());
        assert_eq!(kept.open(here, &sealed), None);
    }

    #[test]
    fn what_was_read_before_somebody_was_forgotten_does_not_bring_them_back() {
        let subjects = Subjects::default();
        let read = HashMap::from([("account-1".to_owned(), SubjectKey::new(&[1; 32]).expect("a key"))]);
        subjects.forget("account-1");
        subjects.add(&read);
        assert!(matches!(subjects.get("account-1"), Some(SubjectKey::Forgotten)));
    }

    /// Made with another implementation of AES-GCM.
    #[test]
    fn what_was_sealed_once_can_be_opened_for_ever() {
        let key = SubjectKey::new(&std::array::from_fn::<u8, 32, _>(|at| at as u8)).expect("a key");
        let here = origin(
            "account-018f0000-0000-7000-8000-000000000001",
            "018f0000-0000-7000-8000-000000000002/shipping_address/name",
        );
        let stored = "AWRlZmdoaWprbG1ub2paugdZpZUmSAczibkASEAARNdeLy-CCZ6FQES-Fc0";
        assert_eq!(key.open(here, stored), Some(Opened::Value(r#""Ada Løvelace""#.into())));
    }
}
