//! Data about a person.
//!
//! An event is for ever and a person's data is not, so what is personal is marked as such from the moment
//! that it comes in. The mark travels with the value, wherever it is copied to, and names the *subject*:
//! the person whose data it is. At the edge, [`reveal`] gives the value to those who may see it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A value about a person. Decisions and folds can carry it, but not look inside: there is no `Deref` and
/// no `Eq`, and `Debug` does not print it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personal<T> {
    subject: String,
    personal: T,
}

impl<T> Personal<T> {
    /// Marks a value as being about `subject` (a stream id: `account-018f…`).
    pub fn new(subject: impl Into<String>, value: T) -> Self {
        Self { subject: subject.into(), personal: value }
    }

    /// The person whose data it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Personal({})", self.subject)
    }
}

/// In answers a personal field is the plain value, or `{"sealed": true}` for those who may not open it.
impl<T: schemars::JsonSchema> schemars::JsonSchema for Personal<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Personal_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({
            "description": "Personal data: the value, or `{\"sealed\": true}` for a reader who may not open it.",
            "oneOf": [value, {
                "type": "object",
                "properties": {"sealed": {"const": true}},
                "required": ["sealed"],
                "additionalProperties": false,
            }],
        })
    }
}

/// Replaces every personal field in `json` by its plain value where `may_open` says so of its subject, and by
/// `{"sealed": true}` where not.
pub fn reveal(json: &mut Value, may_open: &dyn Fn(&str) -> bool) {
    match json {
        Value::Object(fields) => {
            if let (2, Some(Value::String(subject)), Some(value)) =
                (fields.len(), fields.get("subject"), fields.get("personal"))
            {
                *json = if may_open(subject) { value.clone() } else { json!({"sealed": true}) };
            } else {
                fields.values_mut().for_each(|field| reveal(field, may_open));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| reveal(item, may_open)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_personal_field_is_opened_only_for_those_who_may() {
        let stored = json!({"name": Personal::new("account-1", "Ada"), "n": [Personal::new("account-2", 7)]});
        let mut json = stored.clone();
        reveal(&mut json, &|subject| subject == "account-1");
        assert_eq!(json, json!({"name": "Ada", "n": [{"sealed": true}]}));
    }

    #[test]
    fn debug_does_not_print_the_value() {
        assert!(!format!("{:?}", Personal::new("account-1", "Ada")).contains("Ada"));
    }
}
