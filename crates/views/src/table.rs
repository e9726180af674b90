//! The table of a view, as its projection's declaration has it.

use daybook_core::{Field, ProjectionSpec};

use crate::ViewError;
use crate::criteria::RESERVED;

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
    /// Its indexes, besides that of the keys.
    pub(crate) indexes: Vec<Index>,
}

/// An index. Behind its columns it has the key; and nothing is sorted before everything else in it, on both databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// Its name.
    pub(crate) name: String,
    /// The fields, in their order.
    pub(crate) columns: Vec<&'static str>,
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
            indexes: Vec::new(),
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
            if RESERVED.contains(&field.name) {
                return Err(fail(format!(
                    "the field name `{}` is that of another parameter of queries",
                    field.name
                )));
            }
        }
        if let Some(owner) = spec.owner
            && !spec.fields.iter().any(|field| field.name == owner)
        {
            return Err(fail(format!("the owner `{owner}` is none of its fields")));
        }
        let indexes = table.declared_indexes(spec).map_err(fail)?;
        Ok(Self { indexes, ..table })
    }

    /// One for each declared list, and one for each field: a list that is filtered by it alone is in the order of keys.
    /// Only for the owner that would be too much beside a list of their own, since what one owns is always little.
    fn declared_indexes(&self, spec: &ProjectionSpec) -> Result<Vec<Index>, String> {
        let is_field = |name: &&str| spec.fields.iter().any(|field| field.name == *name);
        let has_own = |owner| spec.indexes.iter().any(|index| index.first() == Some(&owner));
        let single = spec.fields.iter().map(|field| field.name);
        let single = single.filter(|name| Some(*name) != spec.owner || !has_own(*name)).map(|name| vec![name]);
        let mut indexes: Vec<Index> = Vec::new();
        for columns in spec.indexes.iter().map(|columns| columns.to_vec()).chain(single) {
            let name = format!("{}_{}_idx", self.name, columns.join("_"));
            let unknown = columns.iter().find(|name| !is_field(name));
            if let Some(unknown) = unknown {
                return Err(format!("the index of `{unknown}` is of none of its fields"));
            }
            let twice = columns.iter().enumerate().any(|(index, name)| columns[..index].contains(name));
            if columns.is_empty() || twice || indexes.iter().any(|index| index.columns == columns) {
                return Err(format!("the index of `{}` is none, or declared already", columns.join(", ")));
            }
            if name.len() > NAME_BYTES_MAX || indexes.iter().any(|index| index.name == name) {
                return Err(format!("the index name `{name}` is taken, or too long"));
            }
            indexes.push(Index { name, columns });
        }
        Ok(indexes)
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
        ProjectionSpec { name, version: 1, summary: "", category: "order", fields, indexes: &[], access, owner }
    }

    const STATUS: Field = Field { name: "status", path: &["status"], kind: FieldKind::Text };

    #[test]
    fn a_table_is_named_after_its_projection_and_version() {
        let table = Table::new(&spec("orders", &[STATUS], Some("status"))).expect("a good declaration");
        assert_eq!(table.name, "view_orders_v1");
        assert_eq!(index_names(&table), ["view_orders_v1_status_idx"]);
    }

    fn index_names(table: &Table) -> Vec<&str> {
        table.indexes.iter().map(|index| index.name.as_str()).collect()
    }

    #[test]
    fn lists_and_fields_have_indexes_and_an_owner_has_one_for_all() {
        const FIELDS: [Field; 3] = [
            Field { name: "owner", ..STATUS },
            STATUS,
            Field { name: "total", path: &["total"], kind: FieldKind::Integer },
        ];
        let spec = |indexes| ProjectionSpec { indexes, ..spec("o", &FIELDS, Some("owner")) };
        let table = Table::new(&spec(&[&["owner", "total"], &["status", "total"]])).expect("a good declaration");
        let names = ["owner_total", "status_total", "status", "total"].map(|name| format!("view_o_v1_{name}_idx"));
        assert_eq!(index_names(&table), names);
        let table = Table::new(&spec(&[])).expect("a good declaration");
        assert_eq!(table.indexes.len(), 3);
        let bad: [&[&[&str]]; 5] = [
            &[&[]],
            &[&["colour"]],
            &[&["total", "total"]],
            &[&["status"]],
            &[&["owner", "total"], &["owner", "total"]],
        ];
        for indexes in bad {
            assert!(Table::new(&spec(indexes)).is_err(), "{indexes:?}");
        }
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
        const SORT: Field = Field { name: "sort", path: &["a"], kind: FieldKind::Text };
        for fields in [&[QUOTED], &[KEY], &[NO_PATH], &[BAD_PATH], &[LONG], &[SORT]] as [&'static [Field]; 6] {
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
