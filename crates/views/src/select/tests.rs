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

/// The pieces' conditions and their order.
fn pieces(dialect: Dialect, selection: &Selection) -> Vec<String> {
    let (sql, _) = select_sql(dialect, &table(), selection);
    let pieces = sql.split("FROM view_orders_v1 WHERE ").skip(1);
    pieces.map(|piece| piece.split(" LIMIT 21").next().expect("it is limited").to_owned()).collect()
}

fn postgres(selection: &Selection) -> Vec<String> {
    pieces(Dialect::Postgres, selection)
}

#[test]
fn a_list_without_criteria_is_in_the_order_of_keys() {
    assert_eq!(postgres(&selection("")), ["TRUE ORDER BY key"]);
    let behind = Selection { after: cursor("k", None), ..selection("") };
    assert_eq!(postgres(&behind), ["key > $3 ORDER BY key"]);
}

#[test]
fn values_are_parameters() {
    let (sql, parameters) =
        select_sql(Dialect::Postgres, &table(), &selection("status=it's&total.gte=7&open=true"));
    let text = FieldValue::Text("it's".into());
    assert_eq!(parameters, [FieldValue::Bool(true), text, FieldValue::Integer(7)]);
    assert!(sql.contains(r#"WHERE "open" = $3 AND "status" = $4 AND "total" >= $5 ORDER BY key"#), "{sql}");
    assert!(!sql.contains("it's"), "{sql}");
}

#[test]
fn each_value_of_several_is_a_piece() {
    assert_eq!(
        postgres(&selection("status.in=a,b&open=true&sort=-placed_at")),
        [
            r#""open" = $3 AND "status" = $4 ORDER BY "placed_at" DESC NULLS LAST, key DESC"#,
            r#""open" = $3 AND "status" = $5 ORDER BY "placed_at" DESC NULLS LAST, key DESC"#,
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
        ("sort=total", some(), &[format!(r#"("total", key) > ($4, $3) {up}"#)]),
        (
            "sort=total",
            None,
            &[format!(r#""total" IS NULL AND key > $3 {up}"#), format!(r#""total" IS NOT NULL {up}"#)],
        ),
        (
            "sort=-total",
            some(),
            &[format!(r#"("total", key) < ($4, $3) {down}"#), format!(r#""total" IS NULL {down}"#)],
        ),
        ("sort=-total", None, &[format!(r#""total" IS NULL AND key < $3 {down}"#)]),
        // Where a filter is on the same field, there is nothing without a value.
        ("sort=-total&total.gt=1", some(), &[format!(r#""total" > $3 AND ("total", key) < ($5, $4) {down}"#)]),
    ];
    for (query, value, expected) in cases {
        assert_eq!(postgres(&behind(query, value)), expected, "{query}");
    }
}

#[test]
fn what_one_owns_is_found_by_the_owner() {
    let own = Selection { owner: Some("me".into()), ..selection("status=a&sort=-placed_at") };
    let order = r#"ORDER BY "placed_at" DESC NULLS LAST, key DESC"#;
    assert_eq!(postgres(&own), [format!(r#""customer_id" = $3 AND "status" = $4 {order}"#)]);
    assert_eq!(pieces(Dialect::Sqlite, &own), [format!(r#""customer_id" = $3 AND +"status" = $4 {order}"#)]);
    let nobodys = Table { owner: None, ..table() };
    let (sql, _) = select_sql(Dialect::Postgres, &nobodys, &own);
    assert!(sql.contains("WHERE FALSE AND"), "{sql}");
}

#[test]
fn there_are_few_different_limits() {
    assert_eq!([1, 10, 11, 20, 21, 50, 99, 100].map(rows_for), [11, 11, 21, 21, 51, 51, 101, 101]);
}

#[test]
fn rows_are_put_in_order_and_cut_to_the_limit() {
    let row = |key: &str, sorted: Option<&str>| {
        let [key, body] = [key, "{}"].map(|text| Some(text.to_owned()));
        (9, key, body, Some(1), Some(1), sorted.map(str::to_owned))
    };
    let rows = || vec![row("b", Some("10")), row("a", Some("10")), row("c", Some("9")), row("d", None)];
    let keys = |query: &str, limit| {
        let selected = selected(&Selection { limit, ..selection(query) }, rows());
        assert_eq!(selected.position.get(), 9);
        selected.rows.into_iter().map(|row| row.key).collect::<String>()
    };
    assert_eq!(keys("", 9), "abcd");
    assert_eq!(keys("sort=total", 9), "dcab");
    assert_eq!(keys("sort=-total", 3), "bac");
    let none = selected(&selection(""), vec![(7, None, None, None, None, None)]);
    assert_eq!((none.position.get(), none.rows.len()), (7, 0));
}
