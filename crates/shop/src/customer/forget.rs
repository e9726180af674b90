//! `customer.forget`

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, NotLoaded, Reads, Rejection, StreamId, account_subject,
};
use daybook_events::CustomerForgotten;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Customer, customer_or_sender};
use crate::activity::Activity;

/// Forgets a customer: nothing personal of theirs can be read any more, by anybody, and their account is closed. It
/// cannot be undone. Their orders stay, without them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct ForgetCustomer {
    /// The customer; left out, whoever sends the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub customer_id: Option<Uuid>,
}

impl ForgetCustomer {
    fn customer_id(&self, context: &Context) -> Uuid {
        customer_or_sender(self.customer_id, context)
    }
}

impl Command for ForgetCustomer {
    const NAME: &'static str = "customer.forget";
    /// Nobody but themselves, and administrators.
    const ACCESS: Access = Access::owner_or(&[]);
    type Model = (Entity<Customer>, Entity<Activity>);

    fn target(&self, context: &Context) -> StreamId {
        StreamId::new(Customer::CATEGORY, self.customer_id(context))
    }

    fn load(&self, reads: &mut Reads<'_>, context: &Context) -> Result<Self::Model, NotLoaded> {
        let id = self.customer_id(context);
        let (customer, activity) = (reads.get(id), reads.get(id));
        Ok((customer?, activity?))
    }

    fn owner(&self, _: &Self::Model, context: &Context) -> Option<Uuid> {
        Some(self.customer_id(context))
    }

    fn handle(&self, (customer, activity): &Self::Model, context: &Context) -> Result<Decision, Rejection> {
        if !customer.exists() {
            return Err(Rejection::not_found("customer").field("customer_id"));
        }
        if customer.forgotten {
            return Ok(Decision::new());
        }
        let open = activity.open_orders.len();
        if open > 0 {
            let message = format!("Orders of theirs are open ({open}): cancel them first.");
            return Err(Rejection::conflict("orders_open", message).field("customer_id"));
        }
        let subject = account_subject(self.customer_id(context));
        Ok(Decision::new().emit(customer, CustomerForgotten {}).forget(subject))
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Actor, Personal, Role, Scenario, SubjectEvent};
    use daybook_events::{ActivityOrderClosed, ActivityOrderOpened, CustomerEvent, CustomerRegistered};

    use super::*;

    const ADA: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);
    const ORDER: Uuid = Uuid::from_u128(3);

    fn given_ada(actor: Uuid, role: Role) -> Scenario {
        let personal = |value: &str| Personal::new(account_subject(ADA), value.to_owned());
        let registered =
            CustomerRegistered { customer_id: ADA, name: personal("Ada"), email: personal("ada@example.com") };
        Scenario::new().given::<Customer>(ADA, [registered]).actor(Actor::Account { id: actor, roles: vec![role] })
    }

    fn forget(customer_id: Option<Uuid>) -> ForgetCustomer {
        ForgetCustomer { customer_id }
    }

    #[track_caller]
    fn assert_forgotten(decision: &Decision) {
        let [customer, subject] = &decision.events[..] else { panic!("not two events: {decision:?}") };
        assert_eq!(customer.stream, StreamId::new("customer", ADA));
        let event = customer.event.as_any().downcast_ref::<CustomerEvent>();
        assert!(matches!(event, Some(CustomerEvent::CustomerForgotten(_))), "{decision:?}");
        let event = subject.event.as_any().downcast_ref::<SubjectEvent>().expect("the engine's own event");
        assert_eq!(event.subject(), account_subject(ADA));
        assert_eq!(subject.stream.as_str(), format!("daybook.subject-account-{ADA}"));
    }

    #[test]
    fn a_customer_is_forgotten_by_themselves_and_by_administrators() {
        assert_forgotten(&given_ada(ADA, Role::Customer).when(forget(None)).decision());
        assert_forgotten(&given_ada(ADA, Role::Customer).when(forget(Some(ADA))).decision());
        assert_forgotten(&given_ada(BOB, Role::Admin).when(forget(Some(ADA))).decision());
        for role in [Role::Customer, Role::Staff, Role::Analyst, Role::Operator] {
            given_ada(BOB, role).when(forget(Some(ADA))).then_denied();
        }
        given_ada(BOB, Role::Admin).when(forget(None)).then_rejected("not_found");
    }

    #[test]
    fn nobody_is_forgotten_while_an_order_of_theirs_is_open() {
        let opened =
            || given_ada(ADA, Role::Customer).given::<Activity>(ADA, [ActivityOrderOpened { order_id: ORDER }]);
        opened().when(forget(None)).then_rejected("orders_open");
        let closed = opened().given::<Activity>(ADA, [ActivityOrderClosed { order_id: ORDER }]);
        assert_forgotten(&closed.when(forget(None)).decision());
    }

    #[test]
    fn nobody_is_forgotten_twice() {
        given_ada(BOB, Role::Admin)
            .given::<Customer>(ADA, [CustomerForgotten {}])
            .when(forget(Some(ADA)))
            .then([]);
    }
}
