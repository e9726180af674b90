//! The result as a table.

use crate::bench::figures::{Row, Samples};
use crate::bench::goals::Goal;

/// What stands above the columns. The first is text, the others are numbers.
pub(crate) const TITLES: [&str; 9] = ["metric", "value", "unit", "from", "to", "baseline", "ratio", "goal", "met"];

/// A line for each row, the columns under each other.
pub(crate) fn table(rows: &[Row]) -> String {
    let lines: Vec<_> = std::iter::once(TITLES.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; TITLES.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let is_text = matches!(TITLES[column], "metric" | "unit" | "met");
            let cell = if is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text.push_str(&cell);
            text.push_str("  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for (name, remark) in rows.iter().flat_map(remarks) {
        text.push_str(&format!("{name}: {remark}\n"));
    }
    text
}

/// What is to be said of a row beside its numbers.
pub(crate) fn remarks(row: &Row) -> impl Iterator<Item = (&'static str, &str)> {
    let remarks = [&row.load, &row.missed].into_iter().flatten();
    remarks.map(|remark| (row.metric.name, remark.as_str()))
}

/// The cells of a row: of the values the median, the least and the greatest.
pub(crate) fn cells(row: &Row) -> [String; TITLES.len()] {
    let or_dash = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), shown);
    [
        row.metric.name.to_owned(),
        shown(row.value.median()),
        row.metric.unit.to_owned(),
        shown(row.value.min()),
        shown(row.value.max()),
        or_dash(row.baseline.as_ref().map(Samples::median)),
        or_dash(row.ratio()),
        match row.metric.goal {
            Goal::RatioAtLeast(goal) => format!("≥ {goal} ×"),
            Goal::RatioAtMost(goal) => format!("≤ {goal} ×"),
            Goal::AtMost(goal) => format!("≤ {goal}"),
        },
        if row.met() { "yes" } else { "NO" }.to_owned(),
    ]
}

/// A number with what is worth reading of it: three digits, or all before the point, with commas.
fn shown(number: f64) -> String {
    if !number.is_finite() {
        return "-".to_owned();
    }
    let decimals = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    let (whole, rest) = text.find('.').map_or((text.as_str(), ""), |point| text.split_at(point));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::goals::Metric;

    #[test]
    fn numbers_are_shown_with_what_is_worth_reading() {
        let all = [0.456, 1.0, 12.34, 999.4, 1_234.5, 1_234_567.0, f64::NAN].map(shown);
        assert_eq!(all, ["0.46", "1.00", "12.3", "999", "1,234", "1,234,567", "-"]);
    }

    #[test]
    fn columns_stand_under_each_other() {
        const METRICS: [Metric; 2] = [
            Metric { name: "append.c64", unit: "events/s", goal: Goal::RatioAtLeast(6.0), limited_by: "" },
            Metric { name: "start_ms", unit: "ms", goal: Goal::AtMost(300.0), limited_by: "" },
        ];
        let samples = |all: &[f64]| all.iter().copied().collect();
        let rows = [
            Row {
                metric: &METRICS[0],
                value: samples(&[41_000.0, 40_000.0, 43_000.0]),
                baseline: Some(samples(&[7_000.0])),
                missed: None,
                load: None,
            },
            Row {
                metric: &METRICS[1],
                value: samples(&[299.0]),
                baseline: None,
                missed: Some("it was stopped at once".into()),
                load: None,
            },
        ];
        let expected = "\
metric       value  unit        from      to  baseline  ratio   goal  met
append.c64  41,000  events/s  40,000  43,000     7,000   5.86  ≥ 6 ×  NO
start_ms       299  ms           299     299         -      -  ≤ 300  NO
start_ms: it was stopped at once
";
        assert_eq!(table(&rows), expected);
    }
}
