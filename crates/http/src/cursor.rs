//! Where a list goes on: opaque, and of no use if tampered with or brought to another list or actor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_keys::Digests;
use subtle::ConstantTimeEq;

use crate::Problem;

const TAG_BYTES: usize = 16;

/// Seals the place `last` in the list that `scope` names.
pub(crate) fn seal(digests: &Digests, scope: &str, last: &str) -> String {
    let mut bytes = tag(digests, scope, last).to_vec();
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Opens a cursor of the list that `scope` names.
pub(crate) fn open(digests: &Digests, scope: &str, cursor: &str) -> Result<String, Problem> {
    let refused = || Problem::parameter("cursor", "This is no cursor of this list: take it from `next` as it is.");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    let (given, last) = bytes.split_at_checked(TAG_BYTES).ok_or_else(refused)?;
    let last = std::str::from_utf8(last).map_err(|_| refused())?;
    if bool::from(tag(digests, scope, last).ct_eq(given)) { Ok(last.to_owned()) } else { Err(refused()) }
}

fn tag(digests: &Digests, scope: &str, last: &str) -> [u8; TAG_BYTES] {
    let digest = digests.digest("cursor", &[scope.as_bytes(), last.as_bytes()]);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&digest[..TAG_BYTES]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_as_it_is_and_where_it_belongs() {
        let digests = Digests::new(&[1; 32]);
        let cursor = seal(&digests, "orders/me", "018f");
        assert_eq!(open(&digests, "orders/me", &cursor).expect("its own list"), "018f");
        assert!(open(&digests, "orders/you", &cursor).is_err());
        assert!(open(&digests, "orders/me", &cursor[..cursor.len() - 2]).is_err());
        for cursor in ["", "x", "018f", "%00"] {
            assert!(open(&digests, "orders/me", cursor).is_err(), "{cursor}");
        }
    }
}
