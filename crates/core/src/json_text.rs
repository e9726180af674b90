//! JSON as the log holds it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON text, byte for byte as the log holds it.
///
/// Whoever appends makes sure that it is JSON. It is not parsed again to be read from the log, only where somebody
/// asks what is in it, or makes it a part of another JSON: a replay looks at most texts once, or not at all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct JsonText(Box<str>);

impl JsonText {
    /// Takes a text for JSON.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn get(&self) -> &str {
        &self.0
    }

    /// The text, once it is certain that it is JSON.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn check(&self) -> Result<&RawValue, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JsonText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.check().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_does_not_become_a_part_of_some() {
        for text in ["", "{", "1 2", "\u{1f}"] {
            assert!(serde_json::to_string(&JsonText::new(text)).is_err(), "{text:?} was written");
        }
        let text = r#"{"b" : 1.0e2,"a":["\u00e4", "ø"]}"#;
        assert_eq!(serde_json::to_string(&[JsonText::new(text)]).expect("JSON"), format!("[{text}]"));
        assert_eq!(serde_json::from_str::<JsonText>(text).expect("JSON").get(), text);
    }
}
