mod laws;
mod plans;

use super::*;
use crate::testing::{parse, table};

fn selection(query: &str) -> Selection {
    let criteria = parse(query).expect("a good query");
    Selection { filters: criteria.filters, sort: criteria.sort, limit: 21, ..Selection::default() }
}

fn cursor(key: &str, value: Option<FieldValue>) -> Option<Cursor> {
    Some(Cursor { key: key.into(), value })
}

/// Holds in every piece.
const AND_THERE: &str = " AND body IS NOT NULL";

/// The pieces' conditions and their order.
fn pieces(dialect: Dialect, selection: &Selection) -> Vec<String> {
    let (sql, _) = select_sql(dialect, &table(), selection);
    let pieces = sql.split("FROM view_orders_v1 WHERE ").skip(1);
    let piece = |piece: &str| piece.split(" LIMIT 21").next().expect("it is limited").replace(AND_THERE, "");
    pieces.map(piece).collect()
}

fn postgres(selection: &Selection) -> Vec<String> {
    pieces(Dialect::Postgres, selection)
}

#[test]
fn a_list_without_criteria_is_in_the_order_of_keys() {
    assert_eq!(postgres(&selection("")), ["body IS NOT NULL ORDER BY key"]);
    let behind = Selection { after: cursor("k", None), ..selection("") };
    assert_eq!(postgres(&behind), ["key > $4 ORDER BY key"]);
}

#[test]
fn values_are_parameters() {
    let query = "status=it's&total.gte=7&open=true&sort=placed_at";
    let (sql, parameters) = select_sql(Dialect::Postgres, &table(), &selection(query));
    let text = FieldValue::Text("it's".into());
    assert_eq!(parameters, [FieldValue::Bool(true), text, FieldValue::Integer(7)]);
    assert!(
        sql.contains(r#""open" = $4 AND body IS NOT NULL AND "total" >= $6 ORDER BY"#) && !sql.contains("it's"),
        "{sql}"
    );
}

const DOWN: &str = r#"ORDER BY "status" DESC NULLS LAST, "placed_at" DESC NULLS LAST, key DESC"#;

#[test]
fn each_value_of_several_is_a_piece() {
    assert_eq!(
        postgres(&selection("status.in=a,b&open=true&sort=-placed_at")),
        [
            format!(r#""status" <= $5 AND "status" >= $5 AND "open" = $4 {DOWN}"#),
            format!(r#""status" <= $6 AND "status" >= $6 AND "open" = $4 {DOWN}"#),
        ]
    );
    assert_eq!(postgres(&selection("status.in=a,b&total.in=1,2,3")).len(), 6);
}

#[test]
fn a_list_goes_on_in_the_index_and_what_has_no_value_is_a_piece_of_its_own() {
    let some = || Some(FieldValue::Integer(5));
    let behind = |query: &str, value| Selection { after: cursor("k", value), ..selection(query) };
    let up = r#"ORDER BY "total" NULLS FIRST, key"#;
    let down = r#"ORDER BY "total" DESC NULLS LAST, key DESC"#;
    let cases: [(&str, Option<FieldValue>, &[String]); 5] = [
        ("sort=total", some(), &[format!(r#"("total", key) > ($5, $4) {up}"#)]),
        (
            "sort=total",
            None,
            &[format!(r#""total" IS NULL AND key > $4 {up}"#), format!(r#""total" IS NOT NULL {up}"#)],
        ),
        (
            "sort=-total",
            some(),
            &[format!(r#"("total", key) < ($5, $4) {down}"#), format!(r#""total" IS NULL {down}"#)],
        ),
        ("sort=-total", None, &[format!(r#""total" IS NULL AND key < $4 {down}"#)]),
        // Where a filter is on the same field, there is nothing without a value.
        ("sort=-total&total.gt=1", some(), &[format!(r#"("total", key) < ($6, $5) AND "total" > $4 {down}"#)]),
    ];
    for (query, value, expected) in cases {
        assert_eq!(postgres(&behind(query, value)), expected, "{query}");
    }
}

#[test]
fn an_index_that_serves_a_list_is_walked_within_bounds() {
    let first = selection("status=a&placed_at.lt=2026-01-31T09:15:00Z&sort=-placed_at");
    let before = r#"AND "placed_at" < $4"#;
    assert_eq!(
        postgres(&first),
        [format!(r#"("status", "placed_at") < ($5, $4) AND "status" >= $5 {before} {DOWN}"#)]
    );
    let value = || Some(FieldValue::Text("2026-01-01T00:00:00.000000Z".into()));
    let next = Selection { after: cursor("k", value()), ..first };
    assert_eq!(
        postgres(&next),
        [format!(r#"("status", "placed_at", key) < ($5, $7, $6) AND "status" >= $5 {before} {DOWN}"#)]
    );
    // Within one value, the documents are in the order of their keys.
    let by_key = Selection { after: cursor("k", None), ..selection("status=a") };
    let order = r#"ORDER BY "status" NULLS FIRST, key"#;
    assert_eq!(postgres(&by_key), [format!(r#"("status", key) > ($4, $5) AND "status" <= $4 {order}"#)]);
}

#[test]
fn what_one_owns_is_found_by_the_owner() {
    let own = Selection { owner: Some("me".into()), ..selection("status=a&sort=-placed_at") };
    let order = r#""placed_at" DESC NULLS LAST, key DESC"#;
    let bounds = r#""customer_id" <= $4 AND "customer_id" >= $4"#;
    let expected = format!(r#"{bounds} AND "status" = $5 ORDER BY "customer_id" DESC NULLS LAST, {order}"#);
    assert_eq!(postgres(&own), [expected]);
    let expected = format!(r#""customer_id" = $4 AND +"status" = $5 ORDER BY {order}"#);
    assert_eq!(pieces(Dialect::Sqlite, &own), [expected]);
    let nobodys = Table { owner: None, ..table() };
    let (sql, _) = select_sql(Dialect::Postgres, &nobodys, &own);
    assert!(sql.contains("FALSE ORDER BY"), "{sql}");
}

#[test]
fn there_are_few_different_limits() {
    assert_eq!([1, 10, 11, 20, 21, 50, 99, 100].map(rows_for), [11, 11, 21, 21, 51, 51, 101, 101]);
}

#[test]
fn rows_are_put_in_order_and_cut_to_the_limit() {
    let row = |key: &str, sorted: Option<&str>| {
        let [key, body] = [key, "{}"].map(|text| Some(text.to_owned()));
        (9, Some(3), key, body, Some(1), Some(1), sorted.map(str::to_owned))
    };
    let rows = || vec![row("b", Some("10")), row("a", Some("10")), row("c", Some("9")), row("d", None)];
    let keys = |query: &str, limit| {
        let selected = selected(&Selection { limit, ..selection(query) }, rows());
        assert_eq!((selected.position.get(), selected.served), (9, Some(3)));
        selected.rows.into_iter().map(|row| row.key).collect::<String>()
    };
    assert_eq!(keys("", 9), "abcd");
    assert_eq!(keys("sort=total", 9), "dcab");
    assert_eq!(keys("sort=-total", 3), "bac");
    let none = selected(&selection(""), vec![(7, None, None, None, None, None, None)]);
    assert_eq!((none.position.get(), none.rows.len()), (7, 0));
}
