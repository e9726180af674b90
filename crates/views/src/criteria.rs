//! What a list is filtered and sorted by: the grammar of a query's parameters. Pure.
//!
//! `status=placed&total.gte=1000&sort=-placed_at`: a declared field by its name, with an operator behind a dot unless
//! it is equality; and one field to sort by. Nothing else is served by an index, so nothing else can be asked.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use daybook_core::{AnyProjection, Field, FieldKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The parameters of queries that are no fields. No field can be named like one of them.
pub(crate) const RESERVED: [&str; 6] = ["at", "cursor", "fields", "limit", "min_position", SORT];

/// The parameter that says how a list is sorted.
const SORT: &str = "sort";

/// The most lists that `.in` may make of one: each combination of values is a search of its own.
pub const COMBINATIONS_MAX: usize = 10;

/// What a list is filtered and sorted by. As it is, everything in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Criteria {
    /// All of them have to hold.
    pub(crate) filters: Vec<Filter>,
    /// What it is sorted by, before the key.
    pub(crate) sort: Option<Sort>,
}

/// A condition on a field. A document that has `null` there, or nothing, meets none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Filter {
    #[serde(serialize_with = "name_of")]
    pub(crate) field: Field,
    pub(crate) operator: Operator,
    /// One, but for [`Operator::In`]; then each once.
    pub(crate) values: Vec<FieldValue>,
}

/// The field that a list is sorted by. Documents with the same value are in the order of their keys, backwards where
/// the list is. `null` comes before everything else, and so last in a list that goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Sort {
    #[serde(serialize_with = "name_of")]
    pub(crate) field: Field,
    pub(crate) descending: bool,
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operator {
    /// Equal.
    Is,
    /// Equal to one of several.
    In,
    /// Greater, or later.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less, or earlier.
    Lt,
    /// Less or equal.
    Lte,
}

/// A value of a field, as its column holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum FieldValue {
    Bool(bool),
    Integer(i64),
    /// A text; or a time, in the form that sorts as text.
    Text(String),
}

/// A parameter that a list can be filtered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name: the field's, and the operator behind a dot.
    pub name: String,
    /// The field.
    pub field: Field,
    /// How it is compared.
    pub operator: Operator,
}

/// A parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unusable {
    /// Its name.
    pub parameter: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl Operator {
    /// Those that a field of a kind can be compared with.
    fn of(kind: FieldKind) -> &'static [Self] {
        match kind {
            FieldKind::Text | FieldKind::Integer | FieldKind::Time => {
                &[Self::Is, Self::In, Self::Gt, Self::Gte, Self::Lt, Self::Lte]
            }
            FieldKind::Bool => &[Self::Is],
        }
    }

    /// What stands behind the dot.
    fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Is => None,
            Self::In => Some("in"),
            Self::Gt => Some("gt"),
            Self::Gte => Some("gte"),
            Self::Lt => Some("lt"),
            Self::Lte => Some("lte"),
        }
    }
}

impl FieldValue {
    /// Reads a value of this kind; `Err` says what it should be.
    fn parse(kind: FieldKind, text: &str) -> Result<Self, &'static str> {
        match kind {
            FieldKind::Text => Ok(Self::Text(text.to_owned())),
            FieldKind::Integer => text.parse().map(Self::Integer).map_err(|_| "a whole number of 64 bits"),
            FieldKind::Bool => text.parse().map(Self::Bool).map_err(|_| "`true` or `false`"),
            FieldKind::Time => {
                let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
                let time = time.filter(|time| (0..=9_999).contains(&time.year()));
                time.map(Self::time).ok_or(
                    "a time of RFC 3339, like `2026-01-31T09:15:00Z` or `2026-01-31T10:15:00%2B01:00` (a `+` is \
                     `%2B` in an address)",
                )
            }
        }
    }

    /// As it is stored; what is finer than a microsecond is cut off.
    fn time(time: DateTime<Utc>) -> Self {
        Self::Text(time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
    }

    /// What a field's column holds of a document that has this there.
    fn of_json(kind: FieldKind, value: &Value) -> Option<Self> {
        match kind {
            FieldKind::Text | FieldKind::Time => value.as_str().map(|text| Self::Text(text.to_owned())),
            FieldKind::Integer => value.as_i64().map(Self::Integer),
            FieldKind::Bool => value.as_bool().map(Self::Bool),
        }
    }

    /// Reads what a database has made a column's value into.
    pub(crate) fn of_column(kind: FieldKind, text: String) -> Option<Self> {
        match (kind, text.as_str()) {
            (FieldKind::Text | FieldKind::Time, _) => Some(Self::Text(text)),
            (FieldKind::Integer, digits) => digits.parse().map(Self::Integer).ok(),
            (FieldKind::Bool, "true" | "1") => Some(Self::Bool(true)),
            (FieldKind::Bool, "false" | "0") => Some(Self::Bool(false)),
            (FieldKind::Bool, _) => None,
        }
    }
}

impl Filter {
    fn holds(&self, value: &FieldValue) -> bool {
        self.values.iter().any(|wanted| match self.operator {
            Operator::Is | Operator::In => value == wanted,
            Operator::Gt => value > wanted,
            Operator::Gte => value >= wanted,
            Operator::Lt => value < wanted,
            Operator::Lte => value <= wanted,
        })
    }
}

/// The parameters that a list with these fields can be filtered by.
pub fn parameters(fields: &[Field]) -> impl Iterator<Item = Parameter> {
    fields.iter().flat_map(|field| {
        Operator::of(field.kind).iter().map(|operator| {
            let suffix = operator.suffix().map(|suffix| format!(".{suffix}")).unwrap_or_default();
            Parameter { name: format!("{}{suffix}", field.name), field: *field, operator: *operator }
        })
    })
}

impl Criteria {
    /// Reads the parameters that are about a view's fields, as names and values.
    ///
    /// # Errors
    ///
    /// [`Unusable`] with the first that is none of the view's, comes twice, or has a value that does not fit.
    pub fn parse<'a>(
        projection: &dyn AnyProjection,
        pairs: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<Self, Unusable> {
        let mut criteria = Self::default();
        for (name, value) in pairs {
            let read = if name == SORT {
                criteria.sort_by(projection, &value)
            } else {
                criteria.filter_by(projection, &name, &value)
            };
            read.map_err(|reason| Unusable { parameter: name.into_owned(), reason })?;
        }
        criteria.filters.sort_unstable();
        Ok(criteria)
    }

    /// Whether every document meets them.
    pub fn is_any(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether a list is sorted by a field.
    pub fn is_sorted(&self) -> bool {
        self.sort.is_some()
    }

    /// Whether a document meets them: as it would come in a list.
    pub fn matches(&self, document: &Value) -> bool {
        self.filters.iter().all(|filter| {
            let value = filter.field.path.iter().try_fold(document, |json, name| json.get(name));
            let value = value.and_then(|value| FieldValue::of_json(filter.field.kind, value));
            value.is_some_and(|value| filter.holds(&value))
        })
    }

    fn sort_by(&mut self, projection: &dyn AnyProjection, value: &str) -> Result<(), String> {
        let (name, descending) = match value.strip_prefix('-') {
            Some(name) => (name, true),
            None => (value, false),
        };
        let field = projection.spec().fields.iter().find(|field| field.name == name);
        let field = *field.ok_or_else(|| not_indexed(projection, name))?;
        match self.sort.replace(Sort { field, descending }) {
            None => Ok(()),
            Some(_) => Err("A list is sorted by one field.".into()),
        }
    }

    fn filter_by(&mut self, projection: &dyn AnyProjection, name: &str, value: &str) -> Result<(), String> {
        let found = parameters(projection.spec().fields).find(|parameter| parameter.name == name);
        let Some(Parameter { field, operator, .. }) = found else { return Err(unknown(projection, name)) };
        if self.filters.iter().any(|filter| filter.field == field && filter.operator == operator) {
            return Err("It may be given once.".into());
        }
        let texts: Vec<_> = if operator == Operator::In { value.split(',').collect() } else { vec![value] };
        let values = texts.into_iter().map(|text| FieldValue::parse(field.kind, text)).collect::<Result<_, _>>();
        let mut values: Vec<_> = values.map_err(|wanted| format!("`{}` is {wanted}.", field.name))?;
        values.sort_unstable();
        values.dedup();
        self.filters.push(Filter { field, operator, values });
        let combinations: usize = self.filters.iter().map(|filter| filter.values.len()).product();
        if combinations > COMBINATIONS_MAX {
            return Err(format!("`.in` takes {COMBINATIONS_MAX} values, or as many combinations of values."));
        }
        Ok(())
    }
}

/// Why nothing is known under a parameter's name, and what is.
fn unknown(projection: &dyn AnyProjection, parameter: &str) -> String {
    let (name, suffix) = parameter.split_once('.').unwrap_or((parameter, ""));
    match projection.spec().fields.iter().find(|field| field.name == name) {
        Some(field) => {
            let known: Vec<_> = parameters(&[*field]).map(|parameter| format!("`{}`", parameter.name)).collect();
            format!("`{name}` cannot be compared with `{suffix}`: there is {}.", known.join(", "))
        }
        None => not_indexed(projection, name),
    }
}

/// Why a list cannot be filtered or sorted by something, and what it can be by.
fn not_indexed(projection: &dyn AnyProjection, name: &str) -> String {
    let known: Vec<_> = projection.spec().fields.iter().map(|field| format!("`{}`", field.name)).collect();
    let known = match known.as_slice() {
        [] => "this view has no indexed fields".to_owned(),
        known => format!("the indexed fields are {}", known.join(", ")),
    };
    let is_personal = |property: &&daybook_core::Property| property.name == name && property.is_personal;
    match projection.shape().properties().iter().find(is_personal) {
        Some(_) => format!(
            "`{name}` is personal: it is stored sealed, and can be neither filtered nor sorted by; {known}."
        ),
        None => format!("There is no indexed field `{name}`: {known}."),
    }
}

fn name_of<S: serde::Serializer>(field: &Field, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(field.name)
}

#[cfg(test)]
mod tests;
