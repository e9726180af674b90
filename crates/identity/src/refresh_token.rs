//! Refresh tokens: 32 random bytes, of which only a digest is kept.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::access_token::sha256;
use crate::{IdentityError, Secret};

/// A new token.
pub(crate) fn generate() -> Result<Secret, IdentityError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(Secret::from(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Under what a token is stored; `None` when it has not the form of one.
pub(crate) fn hash(token: &Secret) -> Option<[u8; 32]> {
    let bytes = URL_SAFE_NO_PAD.decode(token.expose()).ok()?;
    (bytes.len() == 32).then(|| sha256(token.expose()))
}
