//! Customers. A customer and their account have the same id.

mod forget;

use daybook_core::{
    Access, AccountOpened, Aggregate, Command, Context, Decision, Entity, NotLoaded, Personal, Reads, Rejection,
    Role, StreamId, account_subject,
};
use daybook_events::{CustomerEvent, CustomerProfileUpdated, CustomerRegistered};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::text::one_line;

pub use forget::ForgetCustomer;

/// A customer. A profile is personal, and decisions cannot read it.
#[derive(Debug, Clone, Default)]
pub struct Customer {
    /// Whether nothing personal is known of them any more.
    pub forgotten: bool,
}

impl Aggregate for Customer {
    const CATEGORY: &'static str = "customer";
    type Event = CustomerEvent;

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::CustomerRegistered(_) | CustomerEvent::CustomerProfileUpdated(_) => {}
            CustomerEvent::CustomerForgotten(_) => self.forgotten = true,
        }
    }
}

/// Everybody who opens an account becomes a customer with it.
pub(crate) fn on_account_opened(account: &AccountOpened) -> Decision {
    let customer = Entity::<Customer>::absent(account.account_id);
    Decision::new().emit(
        &customer,
        CustomerRegistered {
            customer_id: account.account_id,
            name: account.name.clone(),
            email: account.email.clone(),
        },
    )
}

/// How an account's holder is forgotten.
pub(crate) fn forget_account(account_id: Uuid) -> (&'static str, Value) {
    (ForgetCustomer::NAME, json!({"customer_id": account_id}))
}

/// The customer that a command names, or whoever sends it. A part of the system that names none means nobody: an id that
/// was just drawn.
fn customer_or_sender(customer_id: Option<Uuid>, context: &Context) -> Uuid {
    customer_id.or_else(|| context.actor.account()).unwrap_or(context.fresh_id)
}

/// Changes a customer's profile. What is left out stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct UpdateCustomer {
    /// The customer; left out, whoever sends the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub customer_id: Option<Uuid>,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(length(chars, min = 1, max = 100), inner(custom(one_line)))]
    pub name: Option<String>,
    /// Their telephone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(pattern(r"^\+?[0-9 ()./-]{3,30}$"))]
    pub phone: Option<String>,
}

impl UpdateCustomer {
    fn customer_id(&self, context: &Context) -> Uuid {
        customer_or_sender(self.customer_id, context)
    }
}

impl Command for UpdateCustomer {
    const NAME: &'static str = "customer.update";
    const ACCESS: Access = Access::owner_or(&[Role::Staff]);
    type Model = Entity<Customer>;

    fn target(&self, context: &Context) -> StreamId {
        StreamId::new(Customer::CATEGORY, self.customer_id(context))
    }

    fn load(&self, reads: &mut Reads<'_>, context: &Context) -> Result<Entity<Customer>, NotLoaded> {
        reads.get(self.customer_id(context))
    }

    fn owner(&self, _: &Entity<Customer>, context: &Context) -> Option<Uuid> {
        Some(self.customer_id(context))
    }

    fn handle(&self, customer: &Entity<Customer>, context: &Context) -> Result<Decision, Rejection> {
        if !customer.exists() {
            return Err(Rejection::not_found("customer").field("customer_id"));
        }
        if customer.forgotten {
            let message = "This customer was forgotten.";
            return Err(Rejection::conflict("customer_forgotten", message).field("customer_id"));
        }
        if self.name.is_none() && self.phone.is_none() {
            return Ok(Decision::new());
        }
        let subject = account_subject(self.customer_id(context));
        let personal = |value: &Option<String>| value.clone().map(|value| Personal::new(&subject, value));
        let updated = CustomerProfileUpdated { name: personal(&self.name), phone: personal(&self.phone) };
        Ok(Decision::new().emit(customer, updated))
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Actor, Scenario, event};
    use daybook_events::CustomerForgotten;

    use super::*;

    const ADA: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    fn registered(customer_id: Uuid) -> CustomerRegistered {
        let personal = |value: &str| Personal::new(account_subject(customer_id), value.to_owned());
        CustomerRegistered { customer_id, name: personal("Ada"), email: personal("ada@example.com") }
    }

    fn given_ada(actor: Uuid, role: Role) -> Scenario {
        Scenario::new()
            .given::<Customer>(ADA, [registered(ADA)])
            .actor(Actor::Account { id: actor, roles: vec![role] })
    }

    fn rename(customer_id: Option<Uuid>) -> UpdateCustomer {
        UpdateCustomer { customer_id, name: Some("Ada King".into()), phone: None }
    }

    fn renamed() -> CustomerProfileUpdated {
        CustomerProfileUpdated { name: Some(Personal::new(account_subject(ADA), "Ada King".into())), phone: None }
    }

    #[test]
    fn opening_an_account_begins_a_customer() {
        let CustomerRegistered { name, email, .. } = registered(ADA);
        let decision = on_account_opened(&AccountOpened { account_id: ADA, name, email });
        let streams: Vec<_> = decision.events.iter().map(|new| new.stream.to_string()).collect();
        assert_eq!(streams, [format!("customer-{ADA}")]);
    }

    #[test]
    fn a_customer_changes_their_own_profile() {
        for customer_id in [None, Some(ADA)] {
            let update = rename(customer_id);
            given_ada(ADA, Role::Customer).when(update).then([event::<Customer>(ADA, renamed())]);
        }
    }

    #[test]
    fn nobody_but_staff_changes_anothers_profile() {
        given_ada(BOB, Role::Customer).when(rename(Some(ADA))).then_denied();
        given_ada(BOB, Role::Analyst).when(rename(Some(ADA))).then_denied();
        given_ada(BOB, Role::Staff).when(rename(Some(ADA))).then([event::<Customer>(ADA, renamed())]);
    }

    #[test]
    fn who_is_no_customer_has_no_profile() {
        given_ada(BOB, Role::Staff).when(rename(None)).then_rejected("not_found");
        Scenario::new().when(rename(None)).then_rejected("not_found");
    }

    #[test]
    fn who_was_forgotten_gets_no_new_profile() {
        let forgotten = given_ada(BOB, Role::Staff).given::<Customer>(ADA, [CustomerForgotten {}]);
        forgotten.when(rename(Some(ADA))).then_rejected("customer_forgotten");
    }

    #[test]
    fn an_update_of_nothing_changes_nothing() {
        let nothing = UpdateCustomer { customer_id: None, name: None, phone: None };
        given_ada(ADA, Role::Customer).when(nothing).then([]);
    }

    #[test]
    fn a_telephone_number_looks_like_one() {
        for (phone, valid) in
            [("+44 20 7946-0123", true), ("(030) 12/34", true), ("12", false), ("call me", false)]
        {
            let update = UpdateCustomer { customer_id: None, name: None, phone: Some(phone.into()) };
            assert_eq!(update.validate().is_ok(), valid, "{phone}");
        }
    }
}
