//! Where an event stands: in the whole log ([`Position`]), in its stream ([`StreamId`], [`Revision`]).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An event's place in the whole log. The first event has position 1; [`Position::START`] lies before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

/// An event's place in its stream. The first event has revision 1; a stream's revision is its last
/// event's, and [`Revision::NONE`] (0) means that there is no such stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

macro_rules! counter {
    ($name:ident) => {
        impl $name {
            /// Wraps a plain number.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The place `count` further on.
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0 + count)
            }

            /// The number as databases hold it. Databases hold no more than `i64::MAX`, which at a million
            /// events a second is reached after 292,000 years.
            pub const fn to_i64(self) -> i64 {
                self.0 as i64
            }

            /// The number as databases hold it; a negative one, which no database of ours holds, reads as 0.
            pub const fn from_i64(value: i64) -> Self {
                Self(if value < 0 { 0 } else { value as u64 })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

counter!(Position);
counter!(Revision);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);
}

impl Revision {
    /// No such stream.
    pub const NONE: Self = Self(0);
}

/// The name of a stream: a category, a dash, and an id (`order-018f…`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

/// Why a text is not a [`StreamId`].
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a stream id: expected a category of a-z, 0-9, `.` and `_`, a dash, and an id, at most 200 visible ASCII characters in all"
)]
pub struct IdError(String);

impl StreamId {
    /// The most bytes that a stream id has.
    pub const BYTES_MAX: usize = 200;

    /// Joins a category and an id.
    ///
    /// # Panics
    ///
    /// When the two do not make a valid id. Categories are constants of the program and ids are UUIDs or
    /// were parsed, so this is a mistake in the program; what comes from outside goes through
    /// [`StreamId::from_str`].
    pub fn new(category: &str, id: impl fmt::Display) -> Self {
        match format!("{category}-{id}").parse() {
            Ok(stream) => stream,
            Err(error) => panic!("{error}"),
        }
    }

    /// What stands before the first dash: `order`.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or("", |(category, _)| category)
    }

    /// What stands behind the first dash: `018f…`.
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let valid = text.len() <= Self::BYTES_MAX
            // Without a way out at the first that is not, many are looked at in one step.
            && text.bytes().fold(true, |all, b| all & b.is_ascii_graphic())
            && text.split_once('-').is_some_and(|(category, id)| {
                !id.is_empty()
                    && category.starts_with(|c: char| c.is_ascii_lowercase())
                    && category
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_')
            });
        if valid { Ok(Self(text.into())) } else { Err(IdError(text.chars().take(Self::BYTES_MAX).collect())) }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for StreamId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for StreamId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_splits_at_its_first_dash() {
        let stream = StreamId::new("order", "018f-aa");
        assert_eq!((stream.category(), stream.id()), ("order", "018f-aa"));
    }

    #[test]
    fn what_is_no_stream_id_is_refused() {
        for text in
            ["", "order", "-1", "order-", "Order-1", "9-1", "order-a b", "order-a\0", "or/der-1", "order-é"]
        {
            assert!(text.parse::<StreamId>().is_err(), "{text:?} was taken");
        }
        assert!(format!("order-{}", "a".repeat(195)).parse::<StreamId>().is_err());
    }
}
