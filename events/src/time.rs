//! Times in payloads and documents.

/// RFC 3339 in UTC with six digits, as everywhere in the log: times of one length sort as text. For
/// `#[serde(with = "daybook_events::micros")]`.
pub mod micros {
    use chrono::{DateTime, Utc};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a time; what is finer than a microsecond is cut off.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }

    /// Reads a time.
    ///
    /// # Errors
    ///
    /// When it is not RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        DateTime::deserialize(deserializer)
    }
}
