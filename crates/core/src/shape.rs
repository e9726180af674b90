//! What the documents of a view look like from outside, and which of their fields can be columns.

use schemars::JsonSchema;
use serde_json::Value;

use crate::personal::is_personal;
use crate::{Field, FieldKind};

/// The shape of a view's documents, out of their JSON Schema.
#[derive(Debug, Clone)]
pub struct Shape {
    root: Value,
    properties: Vec<Property>,
}

/// A property of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Whether it is about a person, and so is sealed wherever it is stored.
    pub is_personal: bool,
}

impl Shape {
    /// The shape of these documents.
    pub fn of<T: JsonSchema>() -> Self {
        let root = schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value();
        let named = root.get("properties").and_then(Value::as_object);
        let mut shape = Self { properties: Vec::new(), root: Value::Null };
        for (name, schema) in named.into_iter().flatten() {
            let is_personal = forms(&root, schema).any(is_personal);
            shape.properties.push(Property { name: name.clone(), is_personal });
        }
        Self { root, ..shape }
    }

    /// The properties of a document that is an object.
    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// Says why a field cannot be a column: it is not in the documents, is of another type, or is personal. Sealed
    /// values can be neither sorted nor searched.
    ///
    /// # Errors
    ///
    /// With the reason.
    pub fn check(&self, field: &Field) -> Result<(), String> {
        let Field { name, path, kind } = field;
        let mut found = vec![&self.root];
        for step in *path {
            let behind = |schema: &&'_ Value| schema.get("properties").and_then(|named| named.get(step)).is_some();
            found = found
                .into_iter()
                .flat_map(|schema| forms(&self.root, schema))
                .filter(behind)
                .map(|schema| &schema["properties"][step])
                .collect();
        }
        let mut found = found.into_iter().flat_map(|schema| forms(&self.root, schema)).peekable();
        if found.peek().is_none() {
            return Err(format!("the field `{name}` is not in its documents"));
        }
        for form in found {
            if is_personal(form) {
                return Err(format!("the field `{name}` is personal: it is stored sealed, and cannot be indexed"));
            }
            let wrong = types(form).find(|found| *found != json_type(*kind) && *found != "null");
            if let Some(wrong) = wrong {
                return Err(format!("the field `{name}` is declared as {kind:?}, and can be of type {wrong}"));
            }
        }
        Ok(())
    }
}

/// The type of a field's values in JSON Schema.
fn json_type(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text | FieldKind::Time => "string",
        FieldKind::Integer => "integer",
        FieldKind::Bool => "boolean",
    }
}

/// The forms that a value may have: a schema, what it refers to, and, where it is a choice, its branches in place of
/// it. A personal field is one form.
fn forms<'a>(root: &'a Value, schema: &'a Value) -> impl Iterator<Item = &'a Value> {
    let (mut open, mut forms) = (vec![schema], Vec::new());
    while let Some(schema) = open.pop() {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        let choice = ["anyOf", "oneOf"].into_iter().find_map(|name| schema.get(name)?.as_array());
        match (reference, choice) {
            (Some(pointer), _) => open.extend(root.pointer(pointer)),
            (None, Some(branches)) if !is_personal(schema) => open.extend(branches),
            _ => forms.push(schema),
        }
    }
    forms.into_iter()
}

/// The types that a form names.
fn types(form: &Value) -> impl Iterator<Item = &str> {
    let (one, several) = match form.get("type") {
        Some(Value::Array(types)) => (None, types.as_slice()),
        one => (one, [].as_slice()),
    };
    one.into_iter().chain(several).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use uuid::Uuid;

    use super::*;
    use crate::Personal;

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only the schema is wanted")]
    enum Status {
        /// It begins.
        Open,
        Closed,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is wanted")]
    struct Money {
        amount: i64,
        precise: f64,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only the schema is wanted")]
    struct Document {
        id: Uuid,
        status: Status,
        total: Money,
        tip: Option<Money>,
        count: Option<u32>,
        open: bool,
        at: DateTime<Utc>,
        name: Personal<String>,
        phone: Option<Personal<String>>,
        lines: Vec<String>,
    }

    fn check(path: &'static [&'static str], kind: FieldKind) -> Result<(), String> {
        Shape::of::<Document>().check(&Field { name: "field", path, kind })
    }

    #[test]
    fn a_field_has_to_be_there_and_of_its_type() {
        let good: [(&[&str], FieldKind); 8] = [
            (&["id"], FieldKind::Text),
            (&["status"], FieldKind::Text),
            (&["total", "amount"], FieldKind::Integer),
            (&["tip", "amount"], FieldKind::Integer),
            (&["count"], FieldKind::Integer),
            (&["open"], FieldKind::Bool),
            (&["at"], FieldKind::Time),
            (&["at"], FieldKind::Text),
        ];
        for (path, kind) in good {
            assert_eq!(check(path, kind), Ok(()), "{path:?} {kind:?}");
        }
        let bad: [(&[&str], FieldKind); 8] = [
            (&["colour"], FieldKind::Text),
            (&["total"], FieldKind::Integer),
            (&["total", "tax"], FieldKind::Integer),
            (&["total", "precise"], FieldKind::Integer),
            (&["id", "amount"], FieldKind::Text),
            (&["status"], FieldKind::Integer),
            (&["open"], FieldKind::Text),
            (&["lines"], FieldKind::Text),
        ];
        for (path, kind) in bad {
            assert!(check(path, kind).is_err(), "{path:?} {kind:?}");
        }
    }

    #[test]
    fn what_is_personal_cannot_be_indexed_and_is_known() {
        for path in [&["name"], &["phone"]] {
            let refused = check(path, FieldKind::Text).expect_err("it is sealed");
            assert!(refused.contains("personal"), "{refused}");
        }
        let shape = Shape::of::<Document>();
        let personal: Vec<_> = shape.properties().iter().filter(|one| one.is_personal).collect();
        assert_eq!(personal.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["name", "phone"]);
        assert_eq!(shape.properties().len(), 10);
        assert!(Shape::of::<u64>().properties().is_empty());
    }
}
