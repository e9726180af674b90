//! What customers have going on: what decisions about a customer have to know of their orders.

use std::collections::BTreeSet;

use daybook_core::{Aggregate, Snapshots};
use daybook_events::ActivityEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a customer has going on. It has the customer's id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activity {
    /// The orders that were placed and not cancelled. (Once orders are completed, those are not open either.)
    pub open_orders: BTreeSet<Uuid>,
}

impl Aggregate for Activity {
    const CATEGORY: &'static str = "activity";
    type Event = ActivityEvent;

    const SNAPSHOTS: Option<Snapshots<Self>> = Some(Snapshots::every(1_000, 1));

    fn apply(&mut self, event: &ActivityEvent) {
        match event {
            ActivityEvent::ActivityOrderOpened(opened) => self.open_orders.insert(opened.order_id),
            ActivityEvent::ActivityOrderClosed(closed) => self.open_orders.remove(&closed.order_id),
        };
    }

    /// A node of the set is two thirds full.
    fn heap_bytes(&self) -> usize {
        self.open_orders.len() * size_of::<Uuid>() * 3 / 2
    }
}
