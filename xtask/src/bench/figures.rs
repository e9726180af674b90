//! From repeated measurements to a row of the result.

use serde::Serialize;

use crate::bench::goals::{Goal, Metric};

/// What was measured of one thing, again and again.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// The middle one; the mean of the two in the middle when there are two.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        }
    }

    /// The least.
    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The greatest.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// A metric, as it was found.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) metric: &'static Metric,
    pub(crate) value: Samples,
    /// What a ratio is to.
    pub(crate) baseline: Option<Samples>,
    /// Why it is not what was to be measured, whatever its value.
    pub(crate) missed: Option<String>,
    /// At which load it was measured, where that is found out.
    pub(crate) load: Option<String>,
}

impl Row {
    /// Value by baseline, medians both.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let baseline = self.baseline.as_ref()?;
        Some(self.value.median() / baseline.median()).filter(|ratio| ratio.is_finite())
    }

    /// Whether the goal is reached.
    pub(crate) fn met(&self) -> bool {
        self.missed.is_none()
            && match self.metric.goal {
                Goal::RatioAtLeast(goal) => self.ratio().is_some_and(|ratio| ratio >= goal),
                Goal::RatioAtMost(goal) => self.ratio().is_some_and(|ratio| ratio <= goal),
                Goal::AtMost(goal) => self.value.median() <= goal,
            }
    }

    /// As `--json` writes it.
    pub(crate) fn to_json(&self) -> JsonRow {
        let number = |value: f64| value.is_finite().then(|| (value * 1_000.0).round() / 1_000.0);
        JsonRow {
            bench: self.metric.bench(),
            metric: self.metric.name,
            value: number(self.value.median()),
            unit: self.metric.unit,
            baseline: self.baseline.as_ref().map(Samples::median).and_then(number),
            ratio: self.ratio().and_then(number),
            goal: self.metric.goal.number(),
            met: self.met(),
            missed: self.missed.clone(),
            load: self.load.clone(),
        }
    }
}

/// A row of the JSON file.
#[derive(Debug, Serialize)]
pub(crate) struct JsonRow {
    bench: &'static str,
    metric: &'static str,
    value: Option<f64>,
    unit: &'static str,
    baseline: Option<f64>,
    ratio: Option<f64>,
    goal: f64,
    met: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RATIO: Metric =
        Metric { name: "append.c64", unit: "events/s", goal: Goal::RatioAtLeast(6.0), limited_by: "" };
    const LIMIT: Metric =
        Metric { name: "append.c64.p99_ms", unit: "ms", goal: Goal::AtMost(4.0), limited_by: "" };

    fn samples(samples: &[f64]) -> Samples {
        samples.iter().copied().collect()
    }

    fn row(metric: &'static Metric, value: &[f64], baseline: Option<&[f64]>) -> Row {
        Row { metric, value: samples(value), baseline: baseline.map(samples), missed: None, load: None }
    }

    #[test]
    fn the_median_is_the_middle_one_whatever_the_order() {
        assert_eq!(samples(&[9.0, 1.0, 5.0]).median(), 5.0);
        assert_eq!(samples(&[9.0, 1.0, 5.0, 3.0]).median(), 4.0);
        assert_eq!((samples(&[9.0, 1.0, 5.0]).min(), samples(&[9.0, 1.0, 5.0]).max()), (1.0, 9.0));
        assert!(samples(&[]).median().is_nan());
    }

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let baseline = samples(&[90.0, 100.0, 500.0]);
        let row =
            |value| Row { metric: &RATIO, value, baseline: Some(baseline.clone()), missed: None, load: None };
        assert!(row(samples(&[1.0, 600.0, 601.0])).met());
        assert!(!row(samples(&[1.0, 599.0, 9_999.0])).met());
    }

    #[test]
    fn a_row_in_json_has_its_eight_fields() {
        let ratio = row(&RATIO, &[610.0004], Some(&[100.0]));
        assert_eq!(
            serde_json::to_value(ratio.to_json()).expect("JSON"),
            json!({
                "bench": "append", "metric": "append.c64", "value": 610.0, "unit": "events/s", "baseline": 100.0,
                "ratio": 6.1, "goal": 6.0, "met": true,
            })
        );
        let limit = row(&LIMIT, &[5.0], None);
        assert_eq!(
            serde_json::to_value(limit.to_json()).expect("JSON"),
            json!({
                "bench": "append", "metric": "append.c64.p99_ms", "value": 5.0, "unit": "ms", "baseline": null,
                "ratio": null, "goal": 4.0, "met": false,
            })
        );
    }

    #[test]
    fn what_was_not_measured_meets_no_goal() {
        let nothing = row(&LIMIT, &[], None);
        assert!(!nothing.met());
        assert!(nothing.to_json().value.is_none());
        for baseline in [&[][..], &[0.0]] {
            assert!(!row(&RATIO, &[1.0], Some(baseline)).met());
        }
    }

    #[test]
    fn what_was_missed_meets_no_goal_and_is_said() {
        let missed = Row { missed: Some("too slow".into()), ..row(&LIMIT, &[1.0], None) };
        assert!(row(&LIMIT, &[1.0], None).met() && !missed.met());
        assert_eq!(serde_json::to_value(missed.to_json()).expect("JSON")["missed"], "too slow");
    }
}
