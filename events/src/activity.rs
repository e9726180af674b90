//! What a customer has going on. Stream `activity-<account id>`, apart from the customer's own, so that an order is no
//! change of their profile.

use daybook_core::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An order of theirs was placed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivityOrderOpened {
    /// The order.
    pub order_id: Uuid,
}

impl Event for ActivityOrderOpened {
    const TYPE: &'static str = "activity.order_opened";
    const VERSION: u32 = 1;
}

/// Nothing more is to be done about an order of theirs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivityOrderClosed {
    /// The order.
    pub order_id: Uuid,
}

impl Event for ActivityOrderClosed {
    const TYPE: &'static str = "activity.order_closed";
    const VERSION: u32 = 1;
}

daybook_core::event_set! {
    /// What a customer has going on.
    pub enum ActivityEvent { ActivityOrderOpened, ActivityOrderClosed }
}
