//! Digests that only this installation can make.

use aws_lc_rs::hmac;

/// Makes digests that only this installation can make: keyed, so that what went in can be neither read nor guessed.
/// Cheap to clone.
#[derive(Clone)]
pub struct Digests(hmac::Key);

impl Digests {
    /// Digests under a key.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The digest of `parts`, for one `purpose`. Parts are kept apart: `["ab", "c"]` and `["a", "bc"]` differ.
    ///
    /// HMAC-SHA256 over the purpose and the parts, each behind its length.
    pub fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digests")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_parts_and_keys_are_kept_apart() {
        let digests = Digests::new(&[1; 32]);
        let digest = digests.digest("purpose", &[b"ab", b"c"]);
        assert_eq!(digest, digests.clone().digest("purpose", &[b"ab", b"c"]));
        assert_ne!(digest, digests.digest("purpose", &[b"a", b"bc"]));
        assert_ne!(digest, digests.digest("other", &[b"ab", b"c"]));
        assert_ne!(digest, Digests::new(&[2; 32]).digest("purpose", &[b"ab", b"c"]));
    }
}
