use super::*;
use crate::testing::parse;

#[track_caller]
fn refused(name: &str, value: &str) -> String {
    let Unusable { parameter, reason } = parse(&format!("{name}={value}")).expect_err(value);
    assert_eq!(parameter, name);
    reason
}

fn text(text: &str) -> FieldValue {
    FieldValue::Text(text.into())
}

#[test]
fn filters_are_read_by_their_fields_kinds() {
    let query = "placed_at.lt=2026-01-31T10:15:00.5+01:00&status=placed,paid&total.gte=-5&open=true";
    let criteria = parse(query).expect("all good");
    let values = |name: &str| {
        let filter = criteria.filters.iter().find(|filter| filter.field.name == name).expect(name);
        (filter.operator, filter.values.clone())
    };
    assert_eq!(values("status"), (Operator::Is, vec![text("placed,paid")]));
    assert_eq!(values("total"), (Operator::Gte, vec![FieldValue::Integer(-5)]));
    assert_eq!(values("open"), (Operator::Is, vec![FieldValue::Bool(true)]));
    assert_eq!(values("placed_at"), (Operator::Lt, vec![text("2026-01-31T09:15:00.500000Z")]));
}

#[test]
fn the_order_of_parameters_and_of_values_does_not_matter() {
    let one = parse("status.in=b,a,b&total.gt=1&sort=-total").expect("good");
    let other = parse("sort=-total&total.gt=1&status.in=a,b").expect("good");
    assert_eq!(one, other);
    assert_eq!(one.filters[0].values, [text("a"), text("b")]);
    assert_eq!(one.sort.map(|sort| (sort.field.name, sort.descending)), Some(("total", true)));
}

#[test]
fn times_have_one_form() {
    for (given, stored) in [
        ("2026-01-31T09:15:00Z", "2026-01-31T09:15:00.000000Z"),
        ("2026-01-31t09:15:00.1234567z", "2026-01-31T09:15:00.123456Z"),
        ("2026-01-01T00:30:00+05:30", "2025-12-31T19:00:00.000000Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
    ] {
        assert_eq!(FieldValue::parse(FieldKind::Time, given), Ok(text(stored)), "{given}");
    }
    for bad in
        ["", "2026-01-31", "2026-01-31T09:15:00", "2026-02-30T09:15:00Z", "0000-01-01T00:00:00+01:00", "now"]
    {
        assert!(refused("placed_at", bad).contains("RFC 3339"), "{bad}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_says_what_does() {
    for bad in ["", "x", "1.5", "9223372036854775808", "1e3", " 1"] {
        assert!(refused("total.lt", bad).contains("whole number"), "{bad}");
    }
    for bad in ["", "1", "yes", "TRUE"] {
        assert!(refused("open", bad).contains("`true` or `false`"), "{bad}");
    }
    assert!(refused("total.in", "1,,2").contains("whole number"));
    for bad in ["status.ne", "status.", "status.gt.lt"] {
        let reason = refused(bad, "x");
        assert!(reason.contains("`status`, `status.in`, `status.gt`"), "{reason}");
    }
    assert!(refused("open.gt", "true").ends_with("there is `open`."));
    for bad in ["colour", "note", "key", ".gt", ""] {
        let reason = refused(bad, "x");
        assert!(reason.contains("are `customer_id`, `status`, `total`, `placed_at`, `open`"), "{reason}");
    }
    for bad in ["colour", "-colour", "--total", "total,status", ""] {
        assert!(refused("sort", bad).contains("no indexed field"), "{bad}");
    }
    assert!(parse("sort=total&sort=total").is_err());
    assert!(parse("total.lt=1&total.lt=1").is_err());
    assert!(parse("total=1&total.lt=1&total.in=1").is_ok());
}

#[test]
fn what_is_personal_says_so() {
    for (name, value) in [("email", "a@b.example"), ("email.in", "a"), ("sort", "-email")] {
        assert!(refused(name, value).contains("`email` is personal"), "{name}");
    }
}

#[test]
fn combinations_are_bounded() {
    let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    assert!(parse(&format!("total.in={}", many(COMBINATIONS_MAX))).is_ok());
    assert!(refused("total.in", &many(COMBINATIONS_MAX + 1)).contains("10 values"));
    assert!(parse(&format!("total.in={}&status.in=a,b", many(5))).is_ok());
    assert!(parse(&format!("total.in={}&status.in=a,b,c", many(4))).is_err());
}

/// A list's identity goes into its cursors.
#[test]
fn criteria_are_written_as_what_they_are() {
    let criteria = parse("sort=-total&status.in=a,b&open=true").expect("good");
    let written = serde_json::to_string(&criteria).expect("JSON");
    assert_eq!(
        written,
        r#"{"filters":[{"field":"open","operator":"is","values":[true]},{"field":"status","operator":"in","values":["a","b"]}],"sort":{"field":"total","descending":true}}"#
    );
}
