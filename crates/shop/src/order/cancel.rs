//! `order.cancel`

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, NotLoaded, Personal, Reads, Rejection, Role, StreamId,
    account_subject,
};
use daybook_events::{ActivityOrderClosed, OrderCancelled, OrderStatus, StockReleased};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Order, OrderAndStock};

/// Calls an order off and gives its stock back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// The order.
    #[garde(skip)]
    pub order_id: Uuid,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(length(chars, min = 1, max = 500))]
    pub reason: Option<String>,
}

impl Command for CancelOrder {
    const NAME: &'static str = "order.cancel";
    const ACCESS: Access = Access::owner_or(&[Role::Staff]);
    type Model = OrderAndStock;

    fn target(&self, _: &Context) -> StreamId {
        StreamId::new(Order::CATEGORY, self.order_id)
    }

    fn load(&self, reads: &mut Reads<'_>, _: &Context) -> Result<OrderAndStock, NotLoaded> {
        OrderAndStock::load(reads, self.order_id)
    }

    fn owner(&self, model: &OrderAndStock, _: &Context) -> Option<Uuid> {
        model.order.placed.as_ref().map(|placed| placed.customer_id)
    }

    fn handle(&self, model: &OrderAndStock, _: &Context) -> Result<Decision, Rejection> {
        let (Some(placed), Some(activity)) = (&model.order.placed, &model.activity) else {
            return Err(Rejection::not_found("order").field("order_id"));
        };
        match placed.status {
            OrderStatus::Placed | OrderStatus::Confirmed => {}
            OrderStatus::Cancelled => {
                return Err(Rejection::conflict("order_not_cancellable", "The order was cancelled before.")
                    .field("order_id"));
            }
        }
        let cancelled = OrderCancelled {
            customer_id: placed.customer_id,
            reason: self.reason.clone().map(|reason| Personal::new(account_subject(placed.customer_id), reason)),
        };
        let decision = Decision::new().emit(&model.order, cancelled);
        let decision =
            placed.allocations.iter().zip(&model.stock).fold(decision, |decision, (allocation, stock)| {
                decision.emit(stock, StockReleased { order_id: self.order_id, quantity: allocation.quantity })
            });
        Ok(decision.emit(activity, ActivityOrderClosed { order_id: self.order_id }))
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::{NewEvent, Scenario, event};
    use daybook_events::OrderConfirmed;

    use super::*;
    use crate::activity::Activity;
    use crate::order::given::{self, ADA, BOB, MUG, ORDER, TEA, account};
    use crate::stock::StockItem;

    const CANCEL: CancelOrder = CancelOrder { order_id: ORDER, reason: None };

    fn cancelled() -> [NewEvent; 4] {
        [
            event::<Order>(ORDER, OrderCancelled { customer_id: ADA, reason: None }),
            event::<StockItem>(TEA, StockReleased { order_id: ORDER, quantity: 2 }),
            event::<StockItem>(MUG, StockReleased { order_id: ORDER, quantity: 1 }),
            event::<Activity>(ADA, ActivityOrderClosed { order_id: ORDER }),
        ]
    }

    #[test]
    fn a_cancelled_order_gives_its_stock_back() {
        given::order().actor(account(ADA, Role::Customer)).when(CANCEL).then(cancelled());
        given::order().actor(account(BOB, Role::Staff)).when(CANCEL).then(cancelled());
    }

    #[test]
    fn a_confirmed_order_can_be_cancelled() {
        given::order().given::<Order>(ORDER, [OrderConfirmed { customer_id: ADA }]).when(CANCEL).then(cancelled());
    }

    #[test]
    fn stock_is_given_back_once() {
        given::order()
            .given::<Order>(ORDER, [OrderCancelled { customer_id: ADA, reason: None }])
            .when(CANCEL)
            .then_rejected("order_not_cancellable");
    }

    #[test]
    fn the_reason_is_the_customers_personal_data() {
        let command = CancelOrder { reason: Some("I moved house.".into()), ..CANCEL };
        let decision = given::order().actor(account(BOB, Role::Staff)).when(command).decision();
        let payload = decision.events[0].event.encode().expect("JSON").payload;
        let reason = Some(Personal::new(account_subject(ADA), "I moved house.".to_owned()));
        let expected = event::<Order>(ORDER, OrderCancelled { customer_id: ADA, reason });
        assert_eq!(payload, expected.event.encode().expect("JSON").payload);
    }

    #[test]
    fn nobody_cancels_anothers_order_or_learns_of_it() {
        given::order().actor(account(BOB, Role::Customer)).when(CANCEL).then_denied();
        given::order().actor(account(BOB, Role::Analyst)).when(CANCEL).then_denied();
        Scenario::new().actor(account(BOB, Role::Customer)).when(CANCEL).then_denied();
    }

    #[test]
    fn staff_are_told_that_there_is_no_such_order() {
        Scenario::new().actor(account(BOB, Role::Staff)).when(CANCEL).then_rejected("not_found");
    }
}
