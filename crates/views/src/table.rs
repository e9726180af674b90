//! The table of a view, as its projection's declaration has it.

use daybook_core::{Field, ProjectionSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ViewError;
use crate::generation::Generation;

/// The columns that every view has; no field can be named like one of them.
pub(crate) const COLUMNS: [&str; 4] = ["key", "body", "position", "revision"];

/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;

/// What the numbers of generations add to a name, in bytes.
const NUMBER_BYTES_MAX: usize = "_g4294967295".len();

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
}

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
            if table.index_name(field).len() + NUMBER_BYTES_MAX > NAME_BYTES_MAX {
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

    /// The name of the table of one of this version's generations.
    pub(crate) fn name_of(&self, number: u32) -> String {
        format!("{}_g{number}", self.name)
    }

    /// The name of a field's index.
    pub(crate) fn index_name(&self, field: &Field) -> String {
        format!("{}_{}_idx", self.name, field.name)
    }

    /// The table of a generation. One that another version of the program declared has the fields and the owner that
    /// both know.
    pub(crate) fn of(&self, generation: &Generation) -> Self {
        let name = format!("view_{}_v{}_g{}", self.projection, generation.version, generation.number);
        let declared: Declaration = serde_json::from_str(&generation.declaration).unwrap_or_default();
        let is_there = |field: &Field| declared.fields.contains(&json(field));
        let fields: Vec<Field> = self.fields.iter().filter(|field| is_there(field)).copied().collect();
        let owner = self.owner.filter(|owner| {
            declared.owner.as_deref() == Some(owner) && fields.iter().any(|field| field.name == *owner)
        });
        Self { projection: self.projection, version: generation.version, name, fields, owner }
    }

    /// What is declared, as it is kept with a generation.
    pub(crate) fn declaration(&self) -> String {
        let fields = self.fields.iter().map(json).collect();
        let declaration = Declaration { fields, owner: self.owner.map(str::to_owned) };
        serde_json::to_string(&declaration).unwrap_or_default()
    }

    /// Whether a generation has what is declared. It has not when fields were changed and the version was not raised.
    pub(crate) fn is_declared_like(&self, generation: &Generation) -> bool {
        self.declaration() == generation.declaration
    }
}

/// What a program declared of a view.
#[derive(Default, Serialize, Deserialize)]
struct Declaration {
    fields: Vec<Value>,
    owner: Option<String>,
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

    fn generation(declaration: String) -> Generation {
        Generation {
            id: 1,
            projection: "orders".into(),
            version: 1,
            number: 3,
            phase: Phase::Live,
            paused: false,
            confirm_diff: false,
            shards: 8,
            target: Position::START,
            replayed: Position::START,
            declaration,
            report: None,
            started_by: String::new(),
            started_at: DateTime::UNIX_EPOCH,
            phase_at: DateTime::UNIX_EPOCH,
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
        assert_eq!((served.fields, served.owner), (vec![STATUS], None));
        assert_eq!(old.of(&generation).owner, Some("status"));
    }
}
