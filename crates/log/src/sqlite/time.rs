//! Times as SQLite holds them: RFC 3339 in UTC with exactly six digits, which sort as text.

use chrono::{DateTime, SecondsFormat, Utc};

/// Writes a time.
pub(super) fn to_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Reads a time.
pub(super) fn from_text(text: &str) -> Result<DateTime<Utc>, chrono::ParseError> {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_their_texts() {
        for text in ["1970-01-01T00:00:00.000000Z", "2026-02-28T23:59:59.999999Z", "2026-03-01T00:00:00.100000Z"] {
            assert_eq!(to_text(from_text(text).expect("a time")), text);
        }
    }
}
