//! Customers and what they did, each for themselves and for staff.

use chrono::{DateTime, Utc};
use daybook_core::{Access, Envelope, Field, FieldKind, Keys, Personal, Projection, ProjectionSpec, Role};
use daybook_events::{CustomerForgotten, CustomerProfileUpdated, CustomerRegistered, OrderCancelled, OrderPlaced};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A customer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CustomerView {
    /// The customer; their account has the same id.
    pub customer_id: Uuid,
    /// Their name.
    pub name: Personal<String>,
    /// Their e-mail address.
    pub email: Personal<String>,
    /// Their telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Personal<String>>,
    /// When they became a customer.
    #[serde(with = "daybook_events::micros")]
    #[schemars(with = "DateTime<Utc>")]
    pub registered_at: DateTime<Utc>,
    /// Whether they were forgotten: what is personal above is erased then.
    pub forgotten: bool,
    /// How many orders they placed.
    pub orders_placed: u64,
    /// How many of these were cancelled.
    pub orders_cancelled: u64,
}

daybook_core::event_set! {
    /// What the customers follow.
    pub enum CustomersEvent {
        CustomerRegistered, CustomerProfileUpdated, CustomerForgotten, OrderPlaced, OrderCancelled,
    }
}

/// The view `customers`.
#[derive(Debug)]
pub struct Customers;

impl Projection for Customers {
    type Event = CustomersEvent;
    type View = CustomerView;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "customers",
            version: 2,
            summary: "Customers: oneself, or everybody for staff.",
            category: "customer",
            fields: &[
                Field { name: "customer_id", path: &["customer_id"], kind: FieldKind::Text },
                Field { name: "registered_at", path: &["registered_at"], kind: FieldKind::Time },
                Field { name: "forgotten", path: &["forgotten"], kind: FieldKind::Bool },
                Field { name: "orders_placed", path: &["orders_placed"], kind: FieldKind::Integer },
                Field { name: "orders_cancelled", path: &["orders_cancelled"], kind: FieldKind::Integer },
            ],
            indexes: &[],
            access: Access::owner_or(&[Role::Staff]),
            owner: Some("customer_id"),
        }
    }

    fn keys(event: &Envelope<'_, CustomersEvent>, keys: &mut Keys) {
        match &event.event {
            CustomersEvent::CustomerRegistered(_)
            | CustomersEvent::CustomerProfileUpdated(_)
            | CustomersEvent::CustomerForgotten(_) => {
                keys.add(event.record.stream.id());
            }
            CustomersEvent::OrderPlaced(placed) => keys.add(placed.customer_id),
            CustomersEvent::OrderCancelled(cancelled) => keys.add(cancelled.customer_id),
        }
    }

    fn apply(_: &str, view: &mut Option<CustomerView>, event: &Envelope<'_, CustomersEvent>) {
        match (&event.event, view) {
            (CustomersEvent::CustomerRegistered(registered), view) => {
                *view = Some(CustomerView {
                    customer_id: registered.customer_id,
                    name: registered.name.clone(),
                    email: registered.email.clone(),
                    phone: None,
                    registered_at: event.record.recorded_at,
                    forgotten: false,
                    orders_placed: 0,
                    orders_cancelled: 0,
                });
            }
            (CustomersEvent::CustomerProfileUpdated(updated), Some(customer)) => {
                if let Some(name) = &updated.name {
                    customer.name = name.clone();
                }
                if let Some(phone) = &updated.phone {
                    customer.phone = Some(phone.clone());
                }
            }
            (CustomersEvent::CustomerForgotten(_), Some(customer)) => {
                customer.forgotten = true;
            }
            (CustomersEvent::OrderPlaced(_), Some(customer)) => customer.orders_placed += 1,
            (CustomersEvent::OrderCancelled(_), Some(customer)) => customer.orders_cancelled += 1,
            // Nobody does anything before they are a customer: see `order.place`.
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fold::{ADA, History, ORDER, ada, document, order, subject};

    fn personal(value: &str) -> Personal<String> {
        Personal::new(subject(ADA), value.to_owned())
    }

    #[test]
    fn a_profile_keeps_what_an_update_leaves_out() {
        let phone = CustomerProfileUpdated { name: None, phone: Some(personal("+44 20 7946 0123")) };
        let name = CustomerProfileUpdated { name: Some(personal("Ada King")), phone: None };
        let changed =
            History::new().add("customer", ADA, ada()).add("customer", ADA, phone).add("customer", ADA, name);
        let document = document(&changed.fold::<Customers>(), ADA);
        assert_eq!(document["name"], "Ada King");
        assert_eq!(document["email"], "ada@example.com");
        assert_eq!(document["phone"], "+44 20 7946 0123");
    }

    #[test]
    fn who_was_forgotten_stays_and_says_so() {
        let changed = History::new()
            .add("customer", ADA, ada())
            .add("customer", ADA, CustomerForgotten {})
            .fold::<Customers>();
        let document = document(&changed, ADA);
        assert_eq!((&document["forgotten"], &document["name"]), (&json!(true), &json!("Ada")));
        assert_eq!(changed[0].revision.get(), 2);
    }

    #[test]
    fn orders_are_counted_and_do_not_move_the_customers_revision() {
        let changed = History::new()
            .add("customer", ADA, ada())
            .add("order", ORDER, order())
            .add("order", Uuid::from_u128(2), order())
            .add("order", ORDER, OrderCancelled { customer_id: ADA, reason: None })
            .fold::<Customers>();
        let document = document(&changed, ADA);
        assert_eq!((&document["orders_placed"], &document["orders_cancelled"]), (&json!(2), &json!(1)));
        assert_eq!((changed[0].revision.get(), changed[0].position.get()), (1, 4));
    }
}
