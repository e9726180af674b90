//! How many orders each day brought, for staff.

use daybook_core::{Access, Envelope, Field, FieldKind, Keys, Projection, ProjectionSpec, Role};
use daybook_events::{OrderCancelled, OrderPlaced};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A day.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DayView {
    /// The day, in UTC.
    pub day: String,
    /// How many orders were placed.
    pub placed: u64,
    /// How many were cancelled, whenever they had been placed.
    pub cancelled: u64,
}

daybook_core::event_set! {
    /// What the days follow.
    pub enum DaysEvent { OrderPlaced, OrderCancelled }
}

/// The view `days`.
#[derive(Debug)]
pub struct Days;

impl Projection for Days {
    type Event = DaysEvent;
    type View = DayView;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "days",
            version: 1,
            summary: "How many orders each day brought.",
            category: "day",
            fields: &[Field { name: "placed", path: &["placed"], kind: FieldKind::Integer }],
            indexes: &[],
            access: Access::roles(&[Role::Staff]),
            owner: None,
        }
    }

    fn keys(event: &Envelope<'_, DaysEvent>, keys: &mut Keys) {
        keys.add(event.record.recorded_at.format("%Y-%m-%d").to_string());
    }

    fn apply(key: &str, view: &mut Option<DayView>, event: &Envelope<'_, DaysEvent>) {
        let day = view.get_or_insert_with(|| DayView { day: key.to_owned(), placed: 0, cancelled: 0 });
        match &event.event {
            DaysEvent::OrderPlaced(_) => day.placed += 1,
            DaysEvent::OrderCancelled(_) => day.cancelled += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fold::{ADA, History, ORDER, order};

    #[test]
    fn a_day_counts_what_it_brought() {
        let changed = History::new()
            .add("order", ORDER, order())
            .add("order", Uuid::from_u128(2), order())
            .add("order", ORDER, OrderCancelled { customer_id: ADA, reason: None })
            .fold::<Days>();
        let day = r#"{"day":"2026-01-31","placed":2,"cancelled":1}"#;
        assert_eq!(changed[0].body.as_deref(), Some(day));
    }
}
