//! What happens to a customer. Stream `customer-<account id>`.

use daybook_core::{Event, Personal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Somebody became a customer: their account was opened.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerRegistered {
    /// The customer; the account has the same id.
    pub customer_id: Uuid,
    /// Their name.
    pub name: Personal<String>,
    /// Their e-mail address.
    pub email: Personal<String>,
}

impl Event for CustomerRegistered {
    const TYPE: &'static str = "customer.registered";
    const VERSION: u32 = 1;
}

/// A customer's profile was changed. What is absent stayed as it was.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerProfileUpdated {
    /// Their new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Personal<String>>,
    /// Their new telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Personal<String>>,
}

impl Event for CustomerProfileUpdated {
    const TYPE: &'static str = "customer.profile_updated";
    const VERSION: u32 = 1;
}

/// A customer was forgotten: what is personal in their history cannot be read any more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerForgotten {}

impl Event for CustomerForgotten {
    const TYPE: &'static str = "customer.forgotten";
    const VERSION: u32 = 1;
}

daybook_core::event_set! {
    /// What happens to a customer.
    pub enum CustomerEvent { CustomerRegistered, CustomerProfileUpdated, CustomerForgotten }
}
