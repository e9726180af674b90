//! The keys that access tokens are signed with, and their public halves.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_keys::StoredSigningKey;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Value, json};

use crate::IdentityError;

/// An Ed25519 key that signs, or has signed, access tokens.
pub(crate) struct SigningKey {
    /// Its JWK thumbprint (RFC 7638).
    pub(crate) kid: String,
    pub(crate) encoding: EncodingKey,
    pub(crate) decoding: DecodingKey,
    verify_until_ms: Option<i64>,
    sign_from_ms: i64,
    public: String,
}

impl SigningKey {
    /// A new key, as PKCS#8.
    pub(crate) fn generate() -> Result<Vec<u8>, IdentityError> {
        Ok(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?.as_ref().to_vec())
    }

    fn read(stored: &StoredSigningKey) -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::from_pkcs8(&stored.pkcs8)
            .map_err(|error| IdentityError::Internal(format!("a signing key: {error}")))?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        let thumbprint = digest(&SHA256, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#).as_bytes());
        Ok(Self {
            kid: URL_SAFE_NO_PAD.encode(thumbprint),
            encoding: EncodingKey::from_ed_der(&stored.pkcs8),
            decoding: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            verify_until_ms: stored.verify_until_ms,
            sign_from_ms: stored.sign_from_ms,
            public,
        })
    }

    fn verifies(&self, now_ms: i64) -> bool {
        self.verify_until_ms.is_none_or(|until| now_ms < until)
    }
}

/// All keys of this installation, the oldest first.
pub(crate) struct KeySet(Vec<SigningKey>);

impl KeySet {
    pub(crate) fn read(stored: &[StoredSigningKey]) -> Result<Self, IdentityError> {
        stored.iter().map(SigningKey::read).collect::<Result<_, _>>().map(Self)
    }

    /// The key to sign with: the newest whose time has come.
    pub(crate) fn signer(&self, now_ms: i64) -> Option<&SigningKey> {
        self.0.iter().rev().find(|key| key.sign_from_ms <= now_ms && key.verifies(now_ms))
    }

    /// The key of this name, when it is one of ours and still good. Nothing else is looked for anywhere.
    pub(crate) fn verifier(&self, kid: &str, now_ms: i64) -> Option<&SigningKey> {
        self.0.iter().find(|key| key.kid == kid && key.verifies(now_ms))
    }

    /// The public halves, as a JWK set (RFC 7517, RFC 8037): of the keys that verify now, or will.
    pub(crate) fn jwks(&self, now_ms: i64) -> Value {
        let key = |key: &SigningKey| json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.kid, "x": key.public});
        json!({"keys": self.0.iter().filter(|key| key.verifies(now_ms)).map(key).collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(sign_from_ms: i64, verify_until_ms: Option<i64>) -> StoredSigningKey {
        StoredSigningKey {
            number: 1,
            pkcs8: SigningKey::generate().expect("a key").into(),
            sign_from_ms,
            verify_until_ms,
        }
    }

    #[test]
    fn a_rotated_key_signs_until_the_next_one_does_and_verifies_until_the_overlap_ends() {
        let keys = KeySet::read(&[stored(0, Some(30)), stored(20, None)]).expect("keys");
        let (old, new) = (keys.0[0].kid.clone(), keys.0[1].kid.clone());
        let signer = |now_ms| keys.signer(now_ms).expect("one").kid.clone();
        assert_eq!([signer(19), signer(20)], [old.clone(), new.clone()]);
        assert!(keys.verifier(&old, 29).is_some());
        assert!(keys.verifier(&old, 30).is_none());
        assert!(keys.verifier(&new, 0).is_some(), "published before it signs");
        assert_eq!(keys.jwks(29)["keys"].as_array().map(Vec::len), Some(2));
        assert_eq!(keys.jwks(30)["keys"][0]["kid"], Value::String(new));
    }
}
