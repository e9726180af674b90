//! Whether a reader has an answer already.
//!
//! A tag is a digest of what is stored and of what the reader sees of the people in it, so it says nothing about what
//! is sealed, and nothing has to be opened for it. It is the same as long as the reader would see the same; but for the
//! position that the view has reached, which moves with every event. Therefore it is weak.

use actix_web::HttpRequest;
use actix_web::http::header::IF_NONE_MATCH;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_keys::Digests;
use serde_json::value::RawValue;

use crate::personal::Sight;

/// A weak entity tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    /// The tag of documents as a reader with this sight sees them, in a view that `about` names, with all that is
    /// answered beside them.
    pub(super) fn new(digests: &Digests, about: &str, sight: &Sight, documents: &[Box<RawValue>]) -> Self {
        let sight = sight.to_string();
        let mut parts = vec![about.as_bytes(), sight.as_bytes()];
        parts.extend(documents.iter().map(|document| document.get().as_bytes()));
        Self(format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(&digests.digest("etag", &parts)[..16])))
    }

    /// As it stands in a header.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the request says that it has this (`If-None-Match`). What cannot be understood is as if it were not
    /// there.
    pub(super) fn is_known_to(&self, http: &HttpRequest) -> bool {
        let known = http.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
        known.flat_map(|value| value.split(',')).any(|tag| self.is(tag.trim()))
    }

    fn is(&self, tag: &str) -> bool {
        let opaque = |tag: &'_ str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        tag == "*" || opaque(tag) == opaque(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use actix_web::test::TestRequest;

    use super::*;
    use crate::personal::Seen;

    fn tag(about: &str, sight: &[(&str, Seen)], documents: &[&str]) -> Tag {
        let sight: BTreeMap<_, _> = sight.iter().map(|(subject, seen)| ((*subject).to_owned(), *seen)).collect();
        let documents: Vec<_> =
            documents.iter().map(|text| RawValue::from_string((*text).to_owned()).expect("JSON")).collect();
        Tag::new(&Digests::new(&[1; 32]), about, &Sight(sight), &documents)
    }

    #[test]
    fn a_tag_changes_with_everything_that_is_seen() {
        let one = tag("orders", &[("account-1", Seen::Open)], &["{}", "1"]);
        assert_eq!(one, tag("orders", &[("account-1", Seen::Open)], &["{}", "1"]));
        for other in [
            tag("stock", &[("account-1", Seen::Open)], &["{}", "1"]),
            tag("orders", &[("account-1", Seen::Sealed)], &["{}", "1"]),
            tag("orders", &[("account-1", Seen::Erased)], &["{}", "1"]),
            tag("orders", &[("account-2", Seen::Open)], &["{}", "1"]),
            tag("orders", &[], &["{}", "1"]),
            tag("orders", &[("account-1", Seen::Open)], &["{}", "2"]),
            tag("orders", &[("account-1", Seen::Open)], &["{}"]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_reader_who_has_it_says_so() {
        let tag = tag("orders", &[], &["1"]);
        let strong = tag.as_str().trim_start_matches("W/").to_owned();
        let known = |value: &str| {
            tag.is_known_to(&TestRequest::get().insert_header((IF_NONE_MATCH, value)).to_http_request())
        };
        for yes in [tag.as_str(), &strong, "*", &format!("\"a\", {strong}"), &format!("W/\"a\" ,{}", tag.as_str())]
        {
            assert!(known(yes), "{yes}");
        }
        for no in ["", "\"\"", "W/\"a\"", &strong[1..], &strong.to_lowercase()] {
            assert!(!known(no), "{no}");
        }
        assert!(!tag.is_known_to(&TestRequest::get().to_http_request()));
    }
}
