//! Data about a person.
//!
//! An event is for ever and a person's data is not, so what is personal is *sealed* before it is stored: encrypted
//! under the key of its *subject*, the person whose data it is. Wherever the value is copied to, it stays sealed, and
//! still names the event that it came from. Once the subject's key is gone, nobody can open any of the copies.

use std::fmt;
use std::marker::PhantomData;

use chrono::NaiveDate;
use serde::de::{Error as _, IgnoredAny};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::sealing::{Origin, SealField, SealedField, fresh_json};

/// A value about a person: *fresh* from when it comes in until it is stored, *sealed* ever after. Decisions and folds
/// can carry it, but not look inside: there is no `Deref` and no `Eq`, and `Debug` prints neither form.
///
/// A fresh value serialises in a form that [`seal_fields`](crate::seal_fields) finds and the log refuses, so that none
/// is stored by mistake; as part of a [`serde_json::Value`], where neither would find it, it has no form at all. A sealed one serialises as it was read: a copy keeps its origin.
#[derive(Clone)]
pub struct Personal<T> {
    subject: String,
    state: State<T>,
}

#[derive(Clone)]
enum State<T> {
    Fresh(T),
    Sealed { of: String, sealed: String, value: PhantomData<fn() -> T> },
}

/// The subject that an account's holder is.
pub fn account_subject(account_id: Uuid) -> String {
    format!("account-{account_id}")
}

/// The account whose holder a subject is, when it is one's.
pub fn account_of_subject(subject: &str) -> Option<Uuid> {
    subject.strip_prefix("account-")?.parse().ok()
}

/// The subject for whoever came on a day without an account.
pub fn day_subject(day: NaiveDate) -> String {
    format!("day-{}", day.format("%Y-%m-%d"))
}

impl<T> Personal<T> {
    /// Marks a value as being about `subject` (a stream id: `account-018f…`).
    pub fn new(subject: impl Into<String>, value: T) -> Self {
        Self { subject: subject.into(), state: State::Fresh(value) }
    }

    /// The person whose data it is.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl<T: Serialize> Personal<T> {
    /// Seals a fresh value, which comes from `of`; says whose key is missing when it is not at hand. One that is sealed
    /// stays as it is.
    pub(crate) fn seal(&mut self, of: String, seal: SealField<'_>) -> Result<(), String> {
        let State::Fresh(value) = &self.state else { return Ok(()) };
        // What has no JSON form stays fresh, and the log says so.
        let Ok(plain) = serde_json::to_string(value) else { return Ok(()) };
        let sealed =
            seal(Origin { subject: &self.subject, of: &of }, &plain).ok_or_else(|| self.subject.clone())?;
        self.state = State::Sealed { of, sealed, value: PhantomData };
        Ok(())
    }
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.state {
            State::Fresh(value) => {
                let json = fresh_json(&self.subject, value).map_err(S::Error::custom)?;
                RawValue::from_string(json).map_err(S::Error::custom)?.serialize(serializer)
            }
            State::Sealed { of, sealed, .. } => {
                let [subject, of, sealed] = [&self.subject, of, sealed].map(|text| text.as_str().into());
                SealedField { subject, of, sealed }.serialize(serializer)
            }
        }
    }
}

/// Both forms are read. The fresh one is never stored, but tests fold what was not.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form<T> {
            subject: String,
            personal: Option<T>,
            fresh: Option<IgnoredAny>,
            of: Option<String>,
            sealed: Option<String>,
        }
        let Form { subject, personal, fresh, of, sealed } = Form::deserialize(deserializer)?;
        let state = match (personal, fresh, of, sealed) {
            (None, None, Some(of), Some(sealed)) => State::Sealed { of, sealed, value: PhantomData },
            (Some(value), Some(_), None, None) => State::Fresh(value),
            _ => return Err(D::Error::custom("a personal value has a `subject`, and `of` and `sealed`")),
        };
        Ok(Self { subject, state })
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Personal({})", self.subject)
    }
}

/// A form of a personal field that is no value, in JSON Schema.
fn closed_form(fields: &[(&str, Value)]) -> Value {
    let properties: Map<_, _> = fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<_> = fields.iter().map(|(name, _)| name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// What a reader sees in place of a value that stays closed.
fn unopened_forms() -> [Value; 2] {
    ["sealed", "erased"].map(|name| closed_form(&[(name, json!({"const": true}))]))
}

/// Whether a schema is that of a personal field.
pub(crate) fn is_personal(schema: &Value) -> bool {
    schema.get("oneOf").and_then(Value::as_array).is_some_and(|forms| forms.ends_with(&unopened_forms()))
}

/// Adds to the schema of a personal field the form in which it is stored. Only an event's contract has it: what is
/// answered over HTTP never does.
pub(crate) fn add_stored_form(schema: &mut schemars::Schema) {
    if let Some(Value::Array(forms)) = schema.get_mut("oneOf")
        && forms.ends_with(&unopened_forms())
    {
        forms.push(closed_form(&["subject", "of", "sealed"].map(|name| (name, json!({"type": "string"})))));
    }
}

/// In answers a personal field is the plain value, `{"sealed": true}` for those who may not open it, or
/// `{"erased": true}` once its subject was forgotten.
impl<T: schemars::JsonSchema> schemars::JsonSchema for Personal<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Personal_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let [sealed, erased] = unopened_forms();
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({
            "description": "Personal data: the value; `{\"sealed\": true}` for a reader who may not open it; \
                            `{\"erased\": true}` once the person was forgotten.",
            "oneOf": [value, sealed, erased],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_is_written_as_it_was_read() {
        let stored = r#"{"subject":"account-1","of":"0190/email","sealed":"AQID"}"#;
        let read: Personal<String> = serde_json::from_str(stored).expect("the stored form");
        assert_eq!(read.subject(), "account-1");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), stored);
    }

    #[test]
    fn a_form_between_fresh_and_sealed_is_refused() {
        for form in [
            json!({"subject": "account-1"}),
            json!({"subject": "account-1", "of": "x/y"}),
            json!({"subject": "account-1", "personal": "a", "of": "x/y", "sealed": "AQID"}),
            json!({"of": "x/y", "sealed": "AQID"}),
        ] {
            assert!(serde_json::from_value::<Personal<String>>(form.clone()).is_err(), "{form}");
        }
    }

    #[test]
    fn a_fresh_value_cannot_become_part_of_json_where_it_would_not_be_found() {
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            Named(Fields),
        }
        #[derive(Serialize, Deserialize)]
        struct Fields {
            name: Personal<String>,
        }
        let fields = || Fields { name: Personal::new("account-1", "Ada".to_owned()) };
        let tagged = || Tagged::Named(fields());
        assert!(serde_json::to_value(fields()).is_err() && serde_json::to_value(tagged()).is_err());
        assert!(serde_json::to_value(vec![Some(fields())]).is_err());
        // Nor does it get there by way of its own text.
        for text in [serde_json::to_string(&fields()), serde_json::to_string(&tagged())] {
            let text = text.expect("JSON");
            assert!(crate::holds_fresh(&text), "{text}");
            assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
        }
        let text = serde_json::to_string(&fields()).expect("JSON");
        assert!(serde_json::from_str::<Fields>(&text).is_ok(), "tests fold it");
        // What is sealed goes anywhere.
        let sealed = json!({"name": {"subject": "account-1", "of": "x/y", "sealed": "AQID"}});
        let read: Fields = serde_json::from_value(sealed.clone()).expect("the stored form");
        assert_eq!(serde_json::to_value(read).expect("JSON"), sealed);
    }

    /// Documents and bodies never hold it, so the API does not speak of it.
    #[test]
    fn the_stored_form_is_part_of_an_events_contract_only() {
        let forms = |schema: &schemars::Schema| schema.get("oneOf").and_then(Value::as_array).cloned();
        let mut schema = schemars::schema_for!(Personal<String>);
        let read = forms(&schema).expect("forms");
        assert_eq!(read, [json!({"type": "string"}), unopened_forms()[0].clone(), unopened_forms()[1].clone()]);
        add_stored_form(&mut schema);
        let both = forms(&schema).expect("forms");
        assert_eq!((&both[..3], &both[3]["required"]), (&read[..], &json!(["subject", "of", "sealed"])));
        // Any other choice stays as it is.
        let mut other = schemars::json_schema!({"oneOf": [{"type": "string"}, {"type": "null"}]});
        add_stored_form(&mut other);
        assert_eq!(forms(&other).map(|forms| forms.len()), Some(2));
    }

    #[test]
    fn debug_prints_neither_form() {
        let fresh = Personal::new("account-1", "Ada".to_owned());
        let sealed = json!({"subject": "account-1", "of": "x/y", "sealed": "AQID"});
        let sealed: Personal<String> = serde_json::from_value(sealed).expect("the stored form");
        for shown in [format!("{fresh:?}"), format!("{sealed:?}")] {
            assert_eq!(shown, "Personal(account-1)");
        }
    }
}
