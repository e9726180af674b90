//! Moving a generation that is built from phase to phase. Whoever holds its first slice does so; each step holds only if
//! the generation is as it was seen.

use daybook_core::Position;
use serde_json::{Value, json};

use super::{Halt, Worker};
use crate::diff::{FieldDifference, differences};
use crate::generation::{Generation, Phase, served};
use crate::store::rebuilds::{Comparison, Difference};

/// How many differing documents a report names.
const REPORTED_MAX: usize = 20;

impl Worker {
    /// Does the next step, when it can be done: whether it was.
    pub(super) async fn advance(&mut self, generations: &[Generation]) -> Result<bool, Halt> {
        let (id, phase) = (self.generation.id, self.generation.phase);
        let live = served(generations, self.view.table.version).cloned();
        match (phase, &live) {
            (Phase::CatchUp, Some(live)) if self.lowest_of(&[id]).await? >= self.lowest_of(&[live.id]).await? => {
                Ok(self.store.set_phase(id, phase, Phase::Verify).await?)
            }
            (Phase::Verify, Some(live)) if self.generation.report.is_none() => {
                let Some(report) = self.compare(live).await? else { return Ok(false) };
                let differs = report["differing"] != json!(0);
                let held = differs && self.generation.confirm_diff;
                let to = if held { Phase::Held } else { Phase::Verify };
                let ends = self.store.end_verify(id, &report.to_string(), to).await?;
                Ok(ends && !held && self.cut_over(Some(live)).await?)
            }
            (Phase::Held, _) if self.generation.confirm_diff => Ok(false),
            (Phase::Verify | Phase::Held, live) => self.cut_over(live.as_ref()).await,
            (Phase::CatchUp, None) => self.cut_over(None).await,
            _ => Ok(false),
        }
    }

    async fn cut_over(&mut self, live: Option<&Generation>) -> Result<bool, Halt> {
        let (id, phase) = (self.generation.id, self.generation.phase);
        let old = live.map(|live| (live.id, live.version == self.generation.version));
        // When it is behind, or somebody was faster, it is tried again with the next look.
        let is_served = self.store.cut_over((id, phase), old).await?;
        if is_served {
            tracing::info!(table = self.table.name, "it is served from now on");
            self.view.generations_changed.send_replace(());
        }
        Ok(is_served)
    }

    async fn lowest_of(&mut self, generations: &[i64]) -> Result<Position, Halt> {
        let progress = self.store.progress(generations).await?;
        Ok(progress.iter().map(|range| range.position).min().unwrap_or_default())
    }

    /// Compares the generation with the one that is served; `None` when it is not known yet in what they differ. What
    /// differs may just be folded further in one than in the other: it counts when it differs in the same way once the
    /// one behind has passed the one ahead. One of an older version differs anyway, and may not be fed any more: nothing
    /// waits for that.
    async fn compare(&mut self, live: &Generation) -> Result<Option<Value>, Halt> {
        let id = self.generation.id;
        let table = self.view.table.of(live);
        let passed = self.suspected.as_ref().map(|before| before.positions.1);
        if let Some(passed) = passed
            && self.lowest_of(&[id, live.id]).await? < passed
        {
            return Ok(None);
        }
        let now = self.store.compare((live.id, &table), (id, &self.table)).await?;
        let (lowest, highest) = now.positions;
        let is_older = live.version != self.generation.version;
        let differences: Vec<&Difference> = match &self.suspected {
            _ if now.differing == 0 || lowest == highest || is_older => now.differences.iter().collect(),
            Some(before) => {
                now.differences.iter().filter(|difference| before.differences.contains(difference)).collect()
            }
            None => {
                self.suspected = Some(now);
                return Ok(None);
            }
        };
        let report = report(&now, &differences);
        self.suspected = None;
        Ok(Some(report))
    }
}

fn report(compared: &Comparison, differences: &[&Difference]) -> Value {
    let [served, built] = compared.digests;
    // More than were looked at: all of those count.
    let unseen = compared.differing - compared.differences.len() as u64;
    let samples: Vec<Value> = differences.iter().take(REPORTED_MAX).map(|one| sample(one)).collect();
    json!({
        "position": compared.positions.0,
        "served": compared.served,
        "built": compared.built,
        "differing": differences.len() as u64 + unseen,
        "undecided": compared.undecided,
        "digests": {"served": served.to_string(), "built": built.to_string()},
        "samples": samples,
    })
}

/// A document that differs, and in which of its fields.
fn sample(Difference { key, served, built }: &Difference) -> Value {
    let parsed = |body: &Option<String>| {
        body.as_ref().map_or(Value::Null, |body| serde_json::from_str(body).unwrap_or_default())
    };
    let (served, built) = (parsed(served), parsed(built));
    let field = |one: FieldDifference| json!({"field": one.field, "served": one.before, "built": one.after});
    let fields: Vec<Value> = differences(&served, &built).into_iter().map(field).collect();
    json!({"key": key, "fields": fields})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_names_the_fields_that_differ() {
        let difference = Difference {
            key: "k".into(),
            served: Some(r#"{"a":1,"b":{"c":2,"d":3}}"#.into()),
            built: Some(r#"{"b":{"c":2,"d":4},"e":5}"#.into()),
        };
        let fields = json!([
            {"field": "a", "served": 1, "built": null},
            {"field": "b.d", "served": 3, "built": 4},
            {"field": "e", "served": null, "built": 5},
        ]);
        assert_eq!(sample(&difference), json!({"key": "k", "fields": fields}));
    }
}
