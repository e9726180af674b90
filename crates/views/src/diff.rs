//! In what two documents differ.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

/// A field in which two documents differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldDifference {
    /// Where it stands (`total.amount`); empty where it is all of the document.
    pub field: String,
    /// What the one has there: `null` also when it has nothing.
    pub before: Value,
    /// What the other has.
    pub after: Value,
}

/// The fields in which two documents differ.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    differing(before, after, String::new(), &mut found);
    found
}

fn differing(before: &Value, after: &Value, field: String, found: &mut Vec<FieldDifference>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let at = |object: &Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
                differing(&at(one), &at(other), field, found);
            }
        }
        _ if is_same(before, after) => {}
        _ => found.push(FieldDifference { field, before: before.clone(), after: after.clone() }),
    }
}

/// Whether two values are the same. A database may write a number in another way (`1e3` as `1000`), and then JSON no
/// longer tells that it was no integer.
fn is_same(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| differences(one, other).is_empty())
        }
        _ => before == after,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_by_what_they_are() {
        assert!(
            differences(
                &json!({"a": [1e16, {"b": 2.5}]}),
                &json!({"a": [10_000_000_000_000_000_u64, {"b": 2.5}]})
            )
            .is_empty()
        );
        assert_eq!(differences(&json!([1, 2]), &json!([1, 3])).len(), 1);
        assert_eq!(differences(&json!(u64::MAX), &json!(u64::MAX - 1)).len(), 1);
    }
}
