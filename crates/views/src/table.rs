//! The table of a view, as its projection's declaration has it.

use daybook_core::{Field, FieldKind, ProjectionSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ViewError;
use crate::criteria::RESERVED;
use crate::generation::Generation;
use crate::store::Selection;

/// The columns that every view has; no field can be named like one of them.
pub(crate) const COLUMNS: [&str; 4] = ["key", "body", "position", "revision"];

/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;

/// What the numbers of generations add to a name, in bytes.
const NUMBER_BYTES_MAX: usize = "_g4294967295".len();

/// The most bytes that the texts of an index take, with the key. PostgreSQL takes 2,704 of a row in an index, and of these
/// the row itself has up to 16, and each of up to 32 columns up to 8 beside its text.
const INDEXED_BYTES_MAX: usize = 2_400;

/// A view's table. All names in it were checked, so that they can be put into SQL.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// The projection's name.
    pub(crate) projection: &'static str,
    /// The projection's version.
    pub(crate) version: u32,
    /// The table's name: that of a generation's, once it is [of](Self::of) one.
    pub(crate) name: String,
    /// The indexed fields.
    pub(crate) fields: Vec<Field>,
    /// The column that holds the owner, when documents have owners.
    pub(crate) owner: Option<&'static str>,
    /// Its indexes, besides that of the keys.
    pub(crate) indexes: Vec<Index>,
}

/// An index, as the fields that it has, in their order. Behind them it has the key; and nothing is sorted before
/// everything else in it, on both databases.
pub(crate) type Index = Vec<&'static str>;

impl Table {
    /// Checks a declaration and names its table.
    pub(crate) fn new(spec: &ProjectionSpec) -> Result<Self, ViewError> {
        let fail = |reason: String| ViewError::Spec { projection: spec.name, reason };
        let table = Self {
            projection: spec.name,
            version: spec.version,
            name: format!("view_{}_v{}", spec.name, spec.version),
            fields: spec.fields.to_vec(),
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

    /// The name of the table of one of this version's generations.
    pub(crate) fn name_of(&self, number: u32) -> String {
        format!("{}_g{number}", self.name)
    }

    /// The name of an index.
    pub(crate) fn index_name(&self, index: &Index) -> String {
        format!("{}_{}_idx", self.name, index.join("_"))
    }

    /// What refuses documents that would not fit into the key or an index, whichever the database: as columns of SQL. It is
    /// known of each document as it is written, be it that the index is made only later.
    pub(crate) fn limits(&self) -> String {
        let is_text = |name: &str| {
            let field = self.fields.iter().find(|field| field.name == name);
            field.is_some_and(|field| matches!(field.kind, FieldKind::Text | FieldKind::Time))
        };
        let limit = |index: &Index| {
            let texts = index.iter().filter(|name| is_text(name));
            let texts: String = texts.map(|name| format!(" + coalesce(octet_length(\"{name}\"), 0)")).collect();
            let name = if index.is_empty() { "key".to_owned() } else { index.join("_") };
            format!(", CONSTRAINT too_long_for_{name} CHECK (octet_length(key){texts} <= {INDEXED_BYTES_MAX})")
        };
        std::iter::once(&Index::new()).chain(&self.indexes).map(limit).collect()
    }

    /// One for each declared list, and one for each field: a list that is filtered by it alone is in the order of keys.
    /// Only for the owner that would be too much beside a list of their own, since what one owns is always little.
    fn declared_indexes(&self, spec: &ProjectionSpec) -> Result<Vec<Index>, String> {
        let is_field = |name: &&str| spec.fields.iter().any(|field| field.name == *name);
        let has_own = |owner| spec.indexes.iter().any(|index| index.first() == Some(&owner));
        let single = spec.fields.iter().map(|field| field.name);
        let single = single.filter(|name| Some(*name) != spec.owner || !has_own(*name)).map(|name| vec![name]);
        let mut indexes: Vec<Index> = Vec::new();
        for index in spec.indexes.iter().map(|columns| columns.to_vec()).chain(single) {
            let name = self.index_name(&index);
            let unknown = index.iter().find(|name| !is_field(name));
            if let Some(unknown) = unknown {
                return Err(format!("the index of `{unknown}` is of none of its fields"));
            }
            let twice = index.iter().enumerate().any(|(nth, name)| index[..nth].contains(name));
            if index.is_empty() || twice || indexes.contains(&index) {
                return Err(format!("the index of `{}` is none, or declared already", index.join(", ")));
            }
            let is_taken = indexes.iter().any(|other| self.index_name(other) == name);
            if name.len() + NUMBER_BYTES_MAX > NAME_BYTES_MAX || is_taken {
                return Err(format!("the index name `{name}` is taken, or too long"));
            }
            indexes.push(index);
        }
        Ok(indexes)
    }

    /// The table of a generation. One that another version of the program declared has the fields, the owner and the
    /// indexes that both know.
    pub(crate) fn of(&self, generation: &Generation) -> Self {
        let name = format!("view_{}_v{}_g{}", self.projection, generation.version, generation.number);
        let declared: Declaration = serde_json::from_str(&generation.declaration).unwrap_or_default();
        let is_there = |field: &Field| declared.fields.contains(&json(field));
        let fields: Vec<Field> = self.fields.iter().filter(|field| is_there(field)).copied().collect();
        let owner = self.owner.filter(|owner| {
            declared.owner.as_deref() == Some(owner) && fields.iter().any(|field| field.name == *owner)
        });
        let indexes = self.indexes.iter().filter(|index| declared.indexes.iter().any(|other| other == *index));
        let (projection, version, indexes) = (self.projection, generation.version, indexes.cloned().collect());
        Self { projection, version, name, fields, owner, indexes }
    }

    /// A field that a selection names and the table has not, because an older version of the program made it.
    pub(crate) fn lacks(&self, selection: &Selection) -> Option<Field> {
        let sorted = selection.sort.map(|sort| sort.field);
        let mut named = selection.filters.iter().map(|filter| filter.field).chain(sorted);
        named.find(|field| !self.fields.contains(field))
    }

    /// What is declared, as it is kept with a generation.
    pub(crate) fn declaration(&self) -> String {
        let fields = self.fields.iter().map(json).collect();
        let indexes = self.indexes.iter().map(|index| index.iter().map(|name| (*name).to_owned()).collect());
        let declaration = Declaration { fields, owner: self.owner.map(str::to_owned), indexes: indexes.collect() };
        serde_json::to_string(&declaration).unwrap_or_default()
    }

    /// Whether a generation has the fields and the owner that are declared. It has not when these were changed and the
    /// version was not raised. Indexes may change: they come with the next generation.
    pub(crate) fn is_declared_like(&self, generation: &Generation) -> bool {
        serde_json::from_str(&generation.declaration).is_ok_and(|declared: Declaration| {
            declared.owner.as_deref() == self.owner && declared.fields.into_iter().eq(self.fields.iter().map(json))
        })
    }
}

/// What a program declared of a view.
#[derive(Default, Serialize, Deserialize)]
struct Declaration {
    fields: Vec<Value>,
    owner: Option<String>,
    indexes: Vec<Vec<String>>,
}

fn json(field: &Field) -> Value {
    serde_json::to_value(field).unwrap_or_default()
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
    use chrono::DateTime;
    use daybook_core::{Access, FieldKind, Position};

    use super::*;
    use crate::generation::Phase;

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

    fn index_names(table: &Table) -> Vec<String> {
        table.indexes.iter().map(|index| table.index_name(index)).collect()
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

    fn generation(declaration: String) -> Generation {
        Generation {
            id: 1,
            projection: "orders".into(),
            version: 1,
            number: 3,
            phase: Phase::Live,
            paused: false,
            confirm_diff: false,
            replayed: Position::START,
            declaration,
            report: None,
            started_by: String::new(),
            started_at: DateTime::UNIX_EPOCH,
            phase_at: DateTime::UNIX_EPOCH,
            paused_at: None,
            paused_seconds: 0.0,
            seen_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_table_of_an_older_version_has_the_fields_that_both_know() {
        const NEW: Field = Field { name: "total", path: &["total"], kind: FieldKind::Integer };
        let old = Table::new(&spec("orders", &[STATUS], Some("status"))).expect("a good declaration");
        let new = Table::new(&ProjectionSpec { version: 2, ..spec("orders", &[NEW, STATUS], Some("total")) });
        let new = new.expect("a good declaration");
        let generation = generation(old.declaration());
        assert!(old.is_declared_like(&generation) && !new.is_declared_like(&generation));
        let served = new.of(&generation);
        assert_eq!(served.name, "view_orders_v1_g3");
        assert_eq!((served.fields, served.owner, served.indexes), (vec![STATUS], None, vec![vec!["status"]]));
        assert_eq!(old.of(&generation).owner, Some("status"));
    }
}
