//! Documents with nothing in them but what was asked for (`fields=order_id,total`).

use std::collections::HashMap;

use daybook_core::Shape;
use serde::ser::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::Problem;

/// The properties that a reader wants to have, each once.
#[derive(Debug)]
pub(super) struct Fields(Vec<String>);

impl Fields {
    /// Reads the parameter, when there is one.
    pub(super) fn parse_some(list: Option<String>, shape: &Shape) -> Result<Option<Self>, Problem> {
        list.map(|list| Self::parse(&list, shape)).transpose()
    }

    fn parse(list: &str, shape: &Shape) -> Result<Self, Problem> {
        let mut fields = Vec::new();
        for name in list.split(',') {
            if !shape.properties().iter().any(|property| property.name == name) {
                let known: Vec<_> =
                    shape.properties().iter().map(|property| format!("`{}`", property.name)).collect();
                let detail = match known.as_slice() {
                    [] => "The documents of this view are no objects.".to_owned(),
                    known => format!("A document has no `{name}`. It may have {}.", known.join(", ")),
                };
                return Err(Problem::parameter("fields", detail));
            }
            if !fields.iter().any(|known| known == name) {
                fields.push(name.to_owned());
            }
        }
        Ok(Self(fields))
    }

    /// A document with these alone, those of them that it has.
    pub(super) fn of(&self, document: &RawValue) -> Result<Box<RawValue>, Problem> {
        let all = serde_json::from_str(document.get()).map_err(|error| Problem::internal(&error))?;
        to_raw_value(&Sparse { fields: &self.0, all }).map_err(|error| Problem::internal(&error))
    }
}

struct Sparse<'a> {
    fields: &'a [String],
    all: HashMap<String, &'a RawValue>,
}

impl Serialize for Sparse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().filter_map(|name| Some((name, self.all.get(name)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only the schema is wanted")]
    struct Document {
        id: u64,
        total: Vec<u64>,
        note: Option<String>,
    }

    #[test]
    fn a_sparse_document_has_what_was_asked_for_as_it_is() {
        let fields = Fields::parse("total,note,id,total", &Shape::of::<Document>()).expect("all are there");
        let document = RawValue::from_string(r#"{"id":1,  "total": [1 , 2]}"#.into()).expect("JSON");
        assert_eq!(fields.of(&document).expect("an object").get(), r#"{"total":[1 , 2],"id":1}"#);
    }

    #[test]
    fn what_no_document_has_is_refused() {
        for list in ["", "colour", "id,", "id,colour", "Id", " id"] {
            assert!(Fields::parse(list, &Shape::of::<Document>()).is_err(), "{list:?}");
        }
        assert!(Fields::parse("id", &Shape::of::<u64>()).is_err());
    }
}
