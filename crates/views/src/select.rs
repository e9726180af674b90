//! The statement that reads documents. Pure; every name in it was checked when its table was declared, and every value
//! is a parameter.
//!
//! A list is made of *pieces*, each of which is one range of one index: one for each combination of values that `.in`
//! names, and one for the documents that have nothing in the field that is sorted by. Each piece yields its first
//! documents, and [`selected`] puts them in order. So no statement sorts what it has found, however much that is.

use daybook_core::{Position, Revision};

use crate::criteria::{FieldValue, Operator, Sort};
use crate::query::Cursor;
use crate::store::{Row, Selected, Selection};
use crate::table::Table;

/// How many rows are asked for when a page is to have up to one fewer, so that there are few different statements.
const ROWS: [u32; 4] = [11, 21, 51, 101];

/// How many rows to ask for, for a page of `limit` documents and to know whether there are more.
pub(crate) fn rows_for(limit: u32) -> u32 {
    ROWS.into_iter().find(|rows| *rows > limit).unwrap_or(limit + 1)
}

/// In what the databases differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// A selection's statement and its parameters behind the first three, which are the generation, the projection and the
/// program's version of it. One statement is one snapshot: documents, position and what is served always fit. The position
/// is that of the slowest range of slices.
pub(crate) fn select_sql(dialect: Dialect, table: &Table, selection: &Selection) -> (String, Vec<FieldValue>) {
    let mut parameters = Parameters { before: 3, values: Vec::new() };
    let documents = documents_sql(dialect, table, selection, &mut parameters);
    let sql = format!(
        "SELECT reached.position, reached.served, d.key, d.body, d.position, d.revision, d.sorted \
         FROM (SELECT coalesce(min(position), 0) AS position, \
                      (SELECT generation FROM view_generations \
                       WHERE projection = $2 AND version <= $3 AND phase = 'live' \
                       ORDER BY version DESC LIMIT 1) AS served \
               FROM view_ranges WHERE generation = $1) AS reached \
         LEFT JOIN ({documents}) AS d ON TRUE"
    );
    (sql, parameters.values)
}

/// A row of [`select_sql`]: the position and the generation that is served; and, where there is a document, its key, body,
/// position and revision, and the value that it is sorted by.
pub(crate) type SelectedRow =
    (i64, Option<i64>, Option<String>, Option<String>, Option<i64>, Option<i64>, Option<String>);

/// Puts the rows of [`select_sql`] together, in order.
pub(crate) fn selected(selection: &Selection, rows: Vec<SelectedRow>) -> Selected {
    let position = Position::from_i64(rows.first().map_or(0, |row| row.0));
    let served = rows.first().and_then(|row| row.1);
    let kind = selection.sort.map(|sort| sort.field.kind);
    let row = |(_, _, key, body, position, revision, sorted): SelectedRow| {
        Some(Row {
            key: key?,
            body: body?,
            position: Position::from_i64(position?),
            revision: Revision::from_i64(revision?),
            sorted: kind.zip(sorted).and_then(|(kind, value)| FieldValue::of_column(kind, value)),
        })
    };
    let mut rows: Vec<Row> = rows.into_iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.sorted, &a.key).cmp(&(&b.sorted, &b.key)));
    if selection.sort.is_some_and(|sort| sort.descending) {
        rows.reverse();
    }
    rows.truncate(selection.limit as usize);
    Selected { position, served, rows }
}

/// The parameters of a statement, behind those that others have `before`.
struct Parameters {
    before: usize,
    values: Vec<FieldValue>,
}

impl Parameters {
    /// Adds a value, and says how the statement refers to it.
    fn add(&mut self, value: FieldValue) -> String {
        self.values.push(value);
        format!("${}", self.before + self.values.len())
    }

    fn add_text(&mut self, text: &str) -> String {
        self.add(FieldValue::Text(text.to_owned()))
    }
}

/// A column and the parameter that it has to be equal to.
type Equal = (&'static str, String);

/// A part of a list, in its order.
enum Range {
    /// All of it.
    Whole,
    /// What is behind a document with this value, where the list is sorted by one, and this key.
    Behind(Option<String>, String),
    /// What has nothing in the field that is sorted by, behind this key.
    Nothing(Option<String>),
    /// What has something there.
    Something,
}

/// The documents of a selection, piece by piece.
fn documents_sql(dialect: Dialect, table: &Table, selection: &Selection, parameters: &mut Parameters) -> String {
    let list = List::new(dialect, table, selection, parameters);
    let mut combinations = vec![list.equal.clone()];
    for filter in selection.filters.iter().filter(|filter| filter.operator == Operator::In) {
        let values: Vec<_> = filter.values.iter().map(|value| parameters.add(value.clone())).collect();
        let with = |equal: Vec<Equal>| {
            let with = move |value: &String| [equal.as_slice(), &[(filter.field.name, value.clone())]].concat();
            values.iter().map(with).collect::<Vec<_>>()
        };
        combinations = combinations.into_iter().flat_map(with).collect();
    }
    let ranges = ranges(selection, parameters);
    let pieces = combinations.iter().flat_map(|equal| ranges.iter().map(|range| list.piece(equal, range)));
    match pieces.collect::<Vec<_>>().as_slice() {
        [one] => one.clone(),
        several => {
            let several: Vec<_> = several.iter().map(|one| format!("SELECT * FROM ({one}) AS piece")).collect();
            several.join(" UNION ALL ")
        }
    }
}

/// The parts of a list behind its cursor. Where `null` ends or begins, there are two.
fn ranges(Selection { sort, after, filters, .. }: &Selection, parameters: &mut Parameters) -> Vec<Range> {
    let Some(Cursor { key, value }) = after else { return vec![Range::Whole] };
    let key = parameters.add_text(key);
    let Some(sort) = sort else { return vec![Range::Behind(None, key)] };
    // No filter holds where there is nothing.
    let has_nothing = !filters.iter().any(|filter| filter.field == sort.field);
    match value {
        Some(value) => {
            let rest = Range::Behind(Some(parameters.add(value.clone())), key);
            if sort.descending && has_nothing { vec![rest, Range::Nothing(None)] } else { vec![rest] }
        }
        None if sort.descending => vec![Range::Nothing(Some(key))],
        None => vec![Range::Nothing(Some(key)), Range::Something],
    }
}

/// What holds in all pieces of a list.
struct List<'a> {
    dialect: Dialect,
    table: &'a Table,
    selection: &'a Selection,
    /// What the owner and filters are equal to.
    equal: Vec<Equal>,
    /// Whatever else has to hold.
    conditions: Vec<String>,
    /// Where the field that is sorted by has to be: the operator and the parameter.
    bounds: Vec<(&'static str, String)>,
}

impl<'a> List<'a> {
    fn new(dialect: Dialect, table: &'a Table, selection: &'a Selection, parameters: &mut Parameters) -> Self {
        // What was removed is there without a body.
        let (equal, conditions, bounds) = (Vec::new(), vec!["body IS NOT NULL".to_owned()], Vec::new());
        let mut list = Self { dialect, table, selection, equal, conditions, bounds };
        if let Some(key) = &selection.key {
            list.conditions.push(format!("key = {}", parameters.add_text(key)));
        }
        match (&selection.owner, table.owner) {
            (Some(owner), Some(column)) => list.equal.push((column, parameters.add_text(owner))),
            (Some(_), None) => list.conditions.push("FALSE".to_owned()),
            (None, _) => {}
        }
        for filter in &selection.filters {
            let operator = match filter.operator {
                Operator::Is => "=",
                Operator::Gt => ">",
                Operator::Gte => ">=",
                Operator::Lt => "<",
                Operator::Lte => "<=",
                Operator::In => continue,
            };
            for value in &filter.values {
                let (column, parameter) = (filter.field.name, parameters.add(value.clone()));
                if operator == "=" {
                    list.equal.push((column, parameter));
                    continue;
                }
                list.conditions.push(format!("{}\"{column}\" {operator} {parameter}", list.hidden()));
                if selection.sort.is_some_and(|sort| sort.field == filter.field) {
                    list.bounds.push((operator, parameter));
                }
            }
        }
        list
    }

    /// SQLite has no statistics. What one owns is always little, so nothing else may tempt it to another index: `+`
    /// makes a column an expression that none serves.
    fn hidden(&self) -> &'static str {
        if self.dialect == Dialect::Sqlite && self.selection.owner.is_some() { "+" } else { "" }
    }

    /// The columns of an index that has what is equal, and then what the list is sorted by: those before that.
    fn prefix(&self, equal: &[Equal]) -> Vec<Equal> {
        let sorted = self.selection.sort.map(|sort| sort.field.name);
        let owner = self.selection.owner.as_ref().and(self.table.owner);
        let mut best = Vec::new();
        for index in &self.table.indexes {
            let (prefix, last) = match (sorted, index.split_last()) {
                (Some(sorted), Some((last, prefix))) => (prefix, *last == sorted),
                _ => (index.as_slice(), true),
            };
            let of = |column: &&'static str| equal.iter().find(|(name, _)| name == column).cloned();
            let Some(found) = prefix.iter().map(of).collect::<Option<Vec<_>>>() else { continue };
            let is_own = owner.is_none() || owner == prefix.first().copied();
            if last && is_own && found.len() > best.len() {
                best = found;
            }
        }
        best
    }

    /// The statement of a piece.
    fn piece(&self, equal: &[Equal], range: &Range) -> String {
        let Selection { sort, limit, .. } = self.selection;
        let sorted = sort.map(|sort| quoted(sort.field.name));
        let prefix = match range {
            Range::Whole | Range::Behind(..) if self.dialect == Dialect::Postgres => self.prefix(equal),
            _ => Vec::new(),
        };
        let mut conditions = self.bounded(&prefix, range);
        for (column, parameter) in equal.iter().filter(|one| !prefix.contains(one)) {
            let is_owner = self.selection.owner.is_some() && self.table.owner == Some(*column);
            let hidden = if is_owner { "" } else { self.hidden() };
            conditions.push(format!("{hidden}{} = {parameter}", quoted(column)));
        }
        conditions.extend(self.conditions.iter().cloned());
        let (nulls, key) = match sort {
            Some(Sort { descending: true, .. }) => (" DESC NULLS LAST", "key DESC"),
            _ => (" NULLS FIRST", "key"),
        };
        let order = prefix.iter().map(|(column, _)| quoted(column)).chain(sorted.clone());
        let order: Vec<_> = order.map(|column| column + nulls).chain([key.to_owned()]).collect();
        format!(
            "SELECT key, {} AS body, position, revision, CAST({} AS text) AS sorted FROM {} WHERE {} ORDER BY {} \
             LIMIT {limit}",
            match self.dialect {
                Dialect::Postgres => "body::text",
                Dialect::Sqlite => "body",
            },
            sorted.as_deref().unwrap_or("NULL"),
            self.table.name,
            conditions.join(" AND "),
            order.join(", "),
        )
    }

    /// Where a range begins and ends.
    ///
    /// For PostgreSQL, what is equal in the index before the sorted field is written as a range too, and sorted by. It
    /// would otherwise take it for a constant, and rather walk through the whole index of the sorted field until it has
    /// met enough documents: its statistics do not know, say, that all orders which are still open are young ones. SQLite,
    /// without statistics, takes the index with the most columns that are equal.
    fn bounded(&self, prefix: &[Equal], range: &Range) -> Vec<String> {
        let sorted = self.selection.sort.map(|sort| quoted(sort.field.name));
        let (up, down) = match self.selection.sort {
            Some(Sort { descending: true, .. }) => ("<", ">"),
            _ => (">", "<"),
        };
        let tuple = |operator: &str, further: &[(String, &String)]| {
            let (mut columns, mut values): (Vec<_>, Vec<_>) =
                prefix.iter().map(|(column, value)| (quoted(column), value.as_str())).unzip();
            columns.extend(further.iter().map(|(column, _)| column.clone()));
            values.extend(further.iter().map(|(_, value)| value.as_str()));
            match columns.as_slice() {
                [] => None,
                [column] => Some(format!("{column} {operator} {}", values[0])),
                columns => Some(format!("({}) {operator} ({})", columns.join(", "), values.join(", "))),
            }
        };
        // The bound that a filter sets on a side of the sorted field, or else that of what is equal before it.
        let side = |direction: &str| {
            if prefix.is_empty() {
                return None;
            }
            let bound = self.bounds.iter().find(|(operator, _)| operator.starts_with(direction));
            match (bound, &sorted) {
                (Some((operator, value)), Some(sorted)) => tuple(operator, &[(sorted.clone(), value)]),
                _ => tuple(&format!("{direction}="), &[]),
            }
        };
        let key = || "key".to_owned();
        let mut bounds = Vec::new();
        match (range, sorted.clone()) {
            (Range::Whole, _) => bounds.extend([side(up), side(down)].into_iter().flatten()),
            (Range::Behind(value, last), sorted) => {
                let mut further: Vec<_> = sorted.zip(value.as_ref()).into_iter().collect();
                further.push((key(), last));
                bounds.extend([tuple(up, &further), side(down)].into_iter().flatten());
            }
            (Range::Nothing(last), Some(sorted)) => {
                bounds.push(format!("{sorted} IS NULL"));
                bounds.extend(last.iter().map(|last| format!("key {up} {last}")));
            }
            (Range::Something, Some(sorted)) => bounds.push(format!("{sorted} IS NOT NULL")),
            // A list in the order of keys has no such ranges.
            (Range::Nothing(_) | Range::Something, None) => {}
        }
        bounds
    }
}

fn quoted(column: &str) -> String {
    format!("\"{column}\"")
}

#[cfg(test)]
mod tests;
