//! The table of a view, as its projection's declaration has it.

use daybook_core::{Field, ProjectionSpec};

use crate::ViewError;

/// The columns that every view has; no field can be named like one of them.
pub(crate) const COLUMNS: [&str; 4] = ["key", "body", "position", "revision"];

/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;

/// A view's table. All names in it were checked, so that they can be put into SQL.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// The projection's name.
    pub(crate) projection: &'static str,
    /// The projection's version.
    pub(crate) version: u32,
    /// The table's name.
    pub(crate) name: String,
    /// The indexed fields.
    pub(crate) fields: &'static [Field],
    /// The column that holds the owner, when documents have owners.
    pub(crate) owner: Option<&'static str>,
}

impl Table {
    /// Checks a declaration and names its table.
    pub(crate) fn new(spec: &ProjectionSpec) -> Result<Self, ViewError> {
        let fail = |reason: String| ViewError::Spec { projection: spec.name, reason };
        let table = Self {
            projection: spec.name,
            version: spec.version,
            name: format!("view_{}_v{}", spec.name, spec.version),
            fields: spec.fields,
            owner: spec.owner,
        };
        if !is_name(spec.name) {
            return Err(fail("its name has to match [a-z][a-z0-9_]*".into()));
        }
        for (index, field) in spec.fields.iter().enumerate() {
            if !is_name(field.name) {
                return Err(fail(format!("the field name `{}` has to match [a-z][a-z0-9_]*", field.name)));
            }
            if COLUMNS.contains(&field.name) || spec.fields[..index].iter().any(|f| f.name == field.name) {
                return Err(fail(format!("the field name `{}` is taken", field.name)));
            }
            if field.path.is_empty() || !field.path.iter().all(|step| is_step(step)) {
                return Err(fail(format!("the path of `{}` has to be of names", field.name)));
            }
            if table.index_name(field).len() > NAME_BYTES_MAX {
                return Err(fail(format!("its name and that of `{}` are too long together", field.name)));
            }
        }
        if let Some(owner) = spec.owner
            && !spec.fields.iter().any(|field| field.name == owner)
        {
            return Err(fail(format!("the owner `{owner}` is none of its fields")));
        }
        Ok(table)
    }

    /// The name of a field's index.
    pub(crate) fn index_name(&self, field: &Field) -> String {
        format!("{}_{}_idx", self.name, field.name)
    }

    /// Whether a table with `columns` is the one that is declared. It is not when fields were changed and the version
    /// was not raised.
    pub(crate) fn has(&self, columns: &[String]) -> bool {
        let declared = COLUMNS.into_iter().chain(self.fields.iter().map(|field| field.name));
        columns.len() == declared.clone().count()
            && declared.into_iter().all(|name| columns.iter().any(|column| column == name))
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_step(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use daybook_core::{Access, FieldKind};

    use super::*;

    fn spec(name: &'static str, fields: &'static [Field], owner: Option<&'static str>) -> ProjectionSpec {
        let access = Access::anyone();
        ProjectionSpec { name, version: 1, summary: "", category: "order", fields, access, owner }
    }

    const STATUS: Field = Field { name: "status", path: &["status"], kind: FieldKind::Text };

    #[test]
    fn a_table_is_named_after_its_projection_and_version() {
        let table = Table::new(&spec("orders", &[STATUS], Some("status"))).expect("a good declaration");
        assert_eq!(table.name, "view_orders_v1");
        assert_eq!(table.index_name(&STATUS), "view_orders_v1_status_idx");
    }

    #[test]
    fn what_does_not_belong_into_sql_is_refused() {
        const QUOTED: Field = Field { name: "a\"b", path: &["a"], kind: FieldKind::Text };
        const KEY: Field = Field { name: "key", path: &["a"], kind: FieldKind::Text };
        const NO_PATH: Field = Field { name: "a", path: &[], kind: FieldKind::Text };
        const BAD_PATH: Field = Field { name: "a", path: &["a'}"], kind: FieldKind::Text };
        const LONG: Field = Field {
            name: "a_name_that_goes_on_and_on_for_fifty_characters_ah",
            path: &["a"],
            kind: FieldKind::Text,
        };
        for name in ["", "Orders", "1orders", "orders;", "order-lines"] {
            assert!(Table::new(&spec(name, &[], None)).is_err(), "{name}");
        }
        for fields in [&[QUOTED], &[KEY], &[NO_PATH], &[BAD_PATH], &[LONG]] as [&'static [Field]; 5] {
            assert!(Table::new(&spec("orders", fields, None)).is_err(), "{fields:?}");
        }
        assert!(Table::new(&spec("orders", &[STATUS, STATUS], None)).is_err());
        assert!(Table::new(&spec("orders", &[STATUS], Some("owner"))).is_err());
    }

    #[test]
    fn a_table_with_other_columns_is_not_the_declared_one() {
        let table = Table::new(&spec("orders", &[STATUS], None)).expect("a good declaration");
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(table.has(&columns(&["key", "status", "body", "position", "revision"])));
        assert!(!table.has(&columns(&["key", "body", "position", "revision"])));
        assert!(!table.has(&columns(&["key", "state", "body", "position", "revision"])));
    }
}
