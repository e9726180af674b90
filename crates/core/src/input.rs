//! JSON from outside: decoded strictly, then validated.

use garde::Validate;
use serde::de::DeserializeOwned;

use crate::json::Json;

/// Something wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct FieldError {
    /// Where it is (`lines[1].quantity`); empty when it is the body as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It is no JSON.
    #[error("the body is not valid JSON: {0}")]
    Malformed(String),
    /// It is JSON of another shape: an unknown or missing field, or a value of the wrong type.
    #[error("`{}`: {}", .0.field, .0.message)]
    Shape(FieldError),
    /// Its shape is right and its values are not: a number out of range, a text too long.
    #[error("some fields are not valid")]
    Invalid(Vec<FieldError>),
}

/// Decodes a JSON body and validates it.
///
/// Stricter than JSON where a value could not be stored everywhere: a text with U+0000 is refused.
///
/// # Errors
///
/// See [`InputError`].
pub fn decode_json<T: DeserializeOwned + Validate<Context = ()>>(body: &[u8]) -> Result<T, InputError> {
    if holds_nul(body) {
        return Err(InputError::Malformed("a text holds the character U+0000".into()));
    }
    let json: Json = serde_json::from_slice(body).map_err(|error| InputError::Malformed(error.to_string()))?;
    let value: T = serde_path_to_error::deserialize(json).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        let misfit = error.into_inner();
        let field = match misfit.field {
            Some(field) if path.is_empty() => field,
            Some(field) => format!("{path}.{field}"),
            None => path,
        };
        InputError::Shape(FieldError { field, message: misfit.message })
    })?;
    value.validate().map_err(|report| {
        InputError::Invalid(
            report
                .iter()
                .map(|(path, error)| FieldError { field: path.to_string(), message: error.message().to_owned() })
                .collect(),
        )
    })?;
    Ok(value)
}

/// Whether the JSON holds the escape `\u0000` (a raw NUL is no JSON to begin with).
fn holds_nul(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        if rest[at + 1..].starts_with(b"u0000") {
            return true;
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, garde::Validate)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[garde(range(min = 1))]
        quantity: i64,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
    }

    #[derive(Debug, serde::Deserialize, garde::Validate)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[garde(skip)]
        kind: Option<Kind>,
        #[garde(length(max = 3))]
        name: String,
        #[garde(dive)]
        lines: Vec<Line>,
    }

    fn refused(body: &str) -> InputError {
        decode_json::<Body>(body.as_bytes()).expect_err(body)
    }

    fn shape_of(body: &str) -> String {
        match refused(body) {
            InputError::Shape(error) => error.field,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn a_wrong_shape_names_its_field() {
        assert_eq!(shape_of(r#"{"name": "a", "lines": [{"quantity": "1"}]}"#), "lines[0].quantity");
        assert_eq!(
            shape_of(r#"{"name": "a", "lines": [{"quantity": 9223372036854775808}]}"#),
            "lines[0].quantity"
        );
        assert_eq!(shape_of(r#"{"name": "a", "lines": [{"quantity": 1.5}]}"#), "lines[0].quantity");
        assert_eq!(shape_of(r#"{"name": "a", "lines": [{"quantity": 1, "price": 1}]}"#), "lines[0].price");
        assert_eq!(shape_of(r#"{"name": "a", "lines": [], "role": "admin"}"#), "role");
        assert_eq!(shape_of(r#"{"name": "a", "name": "b", "lines": []}"#), "name");
    }

    #[test]
    fn an_array_is_no_object_and_an_object_no_word() {
        assert_eq!(shape_of(r#"["a", []]"#), "");
        assert_eq!(shape_of(r#"{"name": "a", "lines": [[1]]}"#), "lines[0]");
        assert_eq!(shape_of(r#"{"name": "a", "lines": [], "kind": {"plain": null}}"#), "kind");
        assert_eq!(shape_of(r#"{"name": "a", "lines": [], "kind": "odd"}"#), "kind");
        assert_eq!(shape_of(r#"{"name": null, "lines": []}"#), "name");
        let body = br#"{"name": "a", "lines": [{"quantity": 1}], "kind": "plain"}"#;
        assert!(matches!(decode_json::<Body>(body), Ok(Body { kind: Some(Kind::Plain), .. })));
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for body in ["", "{", "nul", r#"{"name": "a", "lines": []} x"#, r#"{"name": "\u0000", "lines": []}"#] {
            assert!(matches!(refused(body), InputError::Malformed(_)), "{body}");
        }
        assert!(matches!(refused(&"[".repeat(10_000)), InputError::Malformed(_) | InputError::Shape(_)));
    }

    #[test]
    fn a_backslash_before_an_escape_is_not_a_nul() {
        assert!(!holds_nul(br#""\\u0000""#));
        assert!(holds_nul(br#""\\\u0000""#));
    }

    #[test]
    fn values_out_of_range_are_all_named() {
        let InputError::Invalid(errors) = refused(r#"{"name": "long", "lines": [{"quantity": 0}]}"#) else {
            panic!("not told apart")
        };
        let mut fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["lines[0].quantity", "name"]);
    }
}
