//! The statement that reads documents. Pure; every name in it was checked when its table was declared, and every value
//! is a parameter.
//!
//! A list is made of *pieces*, each of which is one range of one index: one for each combination of values that `.in`
//! names, and one for the documents that have nothing in the field that is sorted by. Each piece yields its first
//! documents, and [`selected`] puts them in order. So no statement sorts what it has found, however much that is.

use daybook_core::{Position, Revision};

use crate::criteria::{FieldValue, Filter, Operator, Sort};
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

/// A selection's statement and its parameters behind the first two, which are the projection and its version. One
/// statement is one snapshot: documents and position always fit. The position is that of the slowest range of slices.
pub(crate) fn select_sql(dialect: Dialect, table: &Table, selection: &Selection) -> (String, Vec<FieldValue>) {
    let mut parameters = Parameters { before: 2, values: Vec::new() };
    let documents = documents_sql(dialect, table, selection, &mut parameters);
    let sql = format!(
        "SELECT reached.position, d.key, d.body, d.position, d.revision, d.sorted \
         FROM (SELECT coalesce(min(position), 0) AS position FROM projection_checkpoints \
               WHERE projection = $1 AND version = $2) AS reached \
         LEFT JOIN ({documents}) AS d ON TRUE"
    );
    (sql, parameters.values)
}

/// A row of [`select_sql`]: the position; and, where there is a document, its key, body, position and revision, and the
/// value that it is sorted by.
pub(crate) type SelectedRow = (i64, Option<String>, Option<String>, Option<i64>, Option<i64>, Option<String>);

/// Puts the rows of [`select_sql`] together, in order.
pub(crate) fn selected(selection: &Selection, rows: Vec<SelectedRow>) -> Selected {
    let position = Position::from_i64(rows.first().map_or(0, |row| row.0));
    let kind = selection.sort.map(|sort| sort.field.kind);
    let row = |(_, key, body, position, revision, sorted): SelectedRow| {
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
    Selected { position, rows }
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

/// The documents of a selection, piece by piece.
fn documents_sql(dialect: Dialect, table: &Table, selection: &Selection, parameters: &mut Parameters) -> String {
    let Selection { sort, limit, .. } = selection;
    let body = match dialect {
        Dialect::Postgres => "body::text",
        Dialect::Sqlite => "body",
    };
    let sorted = sort.map_or_else(|| "NULL".to_owned(), |sort| column(&sort));
    let order = match sort {
        None => "key".to_owned(),
        Some(sort) if sort.descending => format!("{} DESC NULLS LAST, key DESC", column(sort)),
        Some(sort) => format!("{} NULLS FIRST, key", column(sort)),
    };
    let mut pieces = vec![conditions(dialect, table, selection, parameters)];
    for filter in selection.filters.iter().filter(|filter| filter.operator == Operator::In) {
        let values = filter.values.iter().cloned();
        let alternatives = values.map(|value| vec![compare(filter, "=", parameters.add(value))]).collect();
        pieces = combined(&pieces, alternatives);
    }
    pieces = combined(&pieces, behind(selection, parameters));
    let piece = |conditions: &Vec<String>| {
        let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
        format!(
            "SELECT key, {body} AS body, position, revision, CAST({sorted} AS text) AS sorted FROM {} \
             WHERE {conditions} ORDER BY {order} LIMIT {limit}",
            table.name,
        )
    };
    match pieces.as_slice() {
        [one] => piece(one),
        several => {
            let several: Vec<_> =
                several.iter().map(|one| format!("SELECT * FROM ({}) AS piece", piece(one))).collect();
            several.join(" UNION ALL ")
        }
    }
}

/// What holds in all pieces.
fn conditions(dialect: Dialect, table: &Table, selection: &Selection, parameters: &mut Parameters) -> Vec<String> {
    let mut conditions = Vec::new();
    if let Some(key) = &selection.key {
        conditions.push(format!("key = {}", parameters.add_text(key)));
    }
    match (&selection.owner, table.owner) {
        (Some(owner), Some(column)) => {
            conditions.push(format!("\"{column}\" = {}", parameters.add_text(owner)));
        }
        (Some(_), None) => conditions.push("FALSE".to_owned()),
        (None, _) => {}
    }
    // SQLite has no statistics. What one owner has is always little, so nothing else may tempt it to another index: `+`
    // makes a column an expression that none serves.
    let hidden = if dialect == Dialect::Sqlite && selection.owner.is_some() { "+" } else { "" };
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
            conditions.push(format!("{hidden}{}", compare(filter, operator, parameters.add(value.clone()))));
        }
    }
    conditions
}

/// What is behind the cursor. Where `null` ends or begins, that is two ranges.
fn behind(Selection { sort, after, filters, .. }: &Selection, parameters: &mut Parameters) -> Vec<Vec<String>> {
    let Some(Cursor { key, value }) = after else { return vec![vec![]] };
    let key = parameters.add_text(key);
    let Some(sort) = sort else { return vec![vec![format!("key > {key}")]] };
    let (column, than) = (column(sort), if sort.descending { "<" } else { ">" });
    let is_null = format!("{column} IS NULL");
    // No filter holds where there is nothing.
    let has_nulls = !filters.iter().any(|filter| filter.field == sort.field);
    match value {
        Some(value) => {
            let value = parameters.add(value.clone());
            let rest = vec![format!("({column}, key) {than} ({value}, {key})")];
            if sort.descending && has_nulls { vec![rest, vec![is_null]] } else { vec![rest] }
        }
        None => {
            let rest = vec![is_null, format!("key {than} {key}")];
            if sort.descending { vec![rest] } else { vec![rest, vec![format!("{column} IS NOT NULL")]] }
        }
    }
}

/// Each of `pieces` with each of `alternatives`.
fn combined(pieces: &[Vec<String>], alternatives: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let with = |piece: &Vec<String>| {
        alternatives.iter().map(|more| [piece.as_slice(), more].concat()).collect::<Vec<_>>()
    };
    pieces.iter().flat_map(with).collect()
}

fn column(sort: &Sort) -> String {
    format!("\"{}\"", sort.field.name)
}

fn compare(filter: &Filter, operator: &str, parameter: String) -> String {
    format!("\"{}\" {operator} {parameter}", filter.field.name)
}

#[cfg(test)]
mod tests;
