//! `order.confirm`

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, NotLoaded, Reads, Rejection, Role, StreamId,
};
use daybook_events::{OrderConfirmed, OrderStatus};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Order;

/// Accepts an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct ConfirmOrder {
    /// The order.
    #[garde(skip)]
    pub order_id: Uuid,
}

impl Command for ConfirmOrder {
    const NAME: &'static str = "order.confirm";
    const ACCESS: Access = Access::roles(&[Role::Staff]);
    type Model = Entity<Order>;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Order::CATEGORY, self.order_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<Entity<Order>, NotLoaded> {
        reads.get(self.order_id)
    }

    fn handle(&self, order: &Entity<Order>, _: &Context) -> Result<Decision, Rejection> {
        let Some(placed) = &order.placed else {
            return Err(Rejection::not_found("order").field("order_id"));
        };
        match placed.status {
            OrderStatus::Placed => {
                Ok(Decision::new().emit(order, OrderConfirmed { customer_id: placed.customer_id }))
            }
            OrderStatus::Confirmed | OrderStatus::Cancelled => {
                Err(Rejection::conflict("order_not_confirmable", "The order was confirmed or cancelled before.")
                    .field("order_id"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{Scenario, event};
    use daybook_events::OrderCancelled;

    use super::*;
    use crate::order::given::{self, ADA, BOB, ORDER, account};

    const CONFIRM: ConfirmOrder = ConfirmOrder { order_id: ORDER };

    fn by_staff() -> Scenario {
        given::order().actor(account(BOB, Role::Staff))
    }

    #[test]
    fn an_order_is_confirmed_once() {
        let confirmed = OrderConfirmed { customer_id: ADA };
        by_staff().when(CONFIRM).then([event::<Order>(ORDER, confirmed.clone())]);
        by_staff().given::<Order>(ORDER, [confirmed]).when(CONFIRM).then_rejected("order_not_confirmable");
    }

    #[test]
    fn a_cancelled_order_is_not_confirmed() {
        by_staff()
            .given::<Order>(ORDER, [OrderCancelled { customer_id: ADA, reason: None }])
            .when(CONFIRM)
            .then_rejected("order_not_confirmable");
    }

    #[test]
    fn what_was_never_placed_cannot_be_confirmed() {
        Scenario::new().when(CONFIRM).then_rejected("not_found");
    }

    #[test]
    fn customers_do_not_confirm_their_own_orders() {
        given::order().actor(account(ADA, Role::Customer)).when(CONFIRM).then_denied();
    }
}
