//! AES-256-GCM with a random nonce, which stands before the ciphertext and its tag.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

/// How many bytes a key has.
pub(crate) const KEY_BYTES: usize = 32;

/// How many bytes a tag has.
const TAG_BYTES: usize = 16;

/// The bytes of a key. They are wiped when they go.
pub(crate) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// Draws a new key.
pub(crate) fn draw() -> Result<KeyBytes, Unspecified> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    aws_lc_rs::rand::fill(&mut bytes[..])?;
    Ok(bytes)
}

/// A key, ready to seal and to open.
pub(crate) fn key(bytes: &[u8]) -> Result<RandomizedNonceKey, Unspecified> {
    RandomizedNonceKey::new(&AES_256_GCM, bytes)
}

/// `head`, a nonce, the ciphertext of `plain`, and its tag.
pub(crate) fn seal(
    key: &RandomizedNonceKey,
    head: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let start = head.len() + NONCE_LEN;
    let mut sealed = Vec::with_capacity(start + plain.len() + TAG_BYTES);
    sealed.extend_from_slice(head);
    sealed.extend_from_slice(&[0; NONCE_LEN]);
    sealed.extend_from_slice(plain);
    let (nonce, tag) = key.seal_in_place_separate_tag(Aad::from(aad), &mut sealed[start..])?;
    sealed[head.len()..start].copy_from_slice(nonce.as_ref());
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// What [`seal`] was given, out of the bytes behind the head.
pub(crate) fn open(
    key: &RandomizedNonceKey,
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(nonce, Aad::from(aad), &mut plain)?.len();
    plain.truncate(length);
    Ok(plain)
}
