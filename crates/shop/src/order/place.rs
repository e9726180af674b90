//! `order.place`

use daybook_core::{
    Access, Aggregate, Command, Context, Decision, Entity, NotLoaded, Reads, Rejection, Role, StreamId,
};
use daybook_events::{ActivityOrderOpened, Money, MoneyError, OrderLine, OrderPlaced, StockAllocated};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Order;
use crate::activity::Activity;
use crate::customer::Customer;
use crate::product::Product;
use crate::stock::StockItem;

/// Places an order for whoever sends it. Its lines are taken as a whole or not at all.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The order's id; left out, a new one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub order_id: Option<Uuid>,
    /// What is ordered, each product on one line.
    // An event's line has at most 65,535 bytes; fifty lines with the longest names fit with room for a breakdown.
    #[garde(length(min = 1, max = 50), dive)]
    pub lines: Vec<PlaceOrderLine>,
}

/// One line of an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrderLine {
    /// The product.
    #[garde(skip)]
    pub product_id: Uuid,
    /// How many of it.
    #[garde(range(min = 1, max = 1_000_000))]
    pub quantity: i64,
}

/// What [`PlaceOrder`] decides over.
#[derive(Debug)]
pub struct Placing {
    order: Entity<Order>,
    /// `None` when no account sends the command.
    customer: Option<(Entity<Customer>, Entity<Activity>)>,
    /// Of each line, in their order.
    products: Vec<Entity<Product>>,
    /// Of each line, in their order.
    stock: Vec<Entity<StockItem>>,
}

impl PlaceOrder {
    fn order_id(&self, context: &Context) -> Uuid {
        self.order_id.unwrap_or(context.fresh_id)
    }
}

impl Command for PlaceOrder {
    const NAME: &'static str = "order.place";
    const ACCESS: Access = Access::roles(&[Role::Customer, Role::Staff]);
    type Model = Placing;

    fn target(&self, context: &Context) -> StreamId {
        StreamId::new(Order::CATEGORY, self.order_id(context))
    }

    fn load(&self, reads: &mut Reads<'_>, context: &Context) -> Result<Placing, NotLoaded> {
        let order = match self.order_id {
            Some(chosen) => reads.get(chosen),
            None => Ok(Entity::absent(context.fresh_id)),
        };
        let customer = context.actor.account().map(|id| (reads.get(id), reads.get(id)));
        let customer = customer.map(|(customer, activity)| Ok((customer?, activity?))).transpose();
        let products = reads.all(self.lines.iter().map(|line| line.product_id));
        let stock = reads.all(self.lines.iter().map(|line| line.product_id));
        Ok(Placing { order: order?, customer: customer?, products: products?, stock: stock? })
    }

    fn handle(&self, model: &Placing, context: &Context) -> Result<Decision, Rejection> {
        let (customer_id, activity) = match (&model.customer, context.actor.account()) {
            (Some((customer, activity)), Some(id)) if customer.exists() && !customer.forgotten => (id, activity),
            _ => return Err(Rejection::rule("no_customer", "Only a customer can place an order.")),
        };
        if model.order.exists() {
            return Err(
                Rejection::conflict("order_exists", "An order with this id was placed before.").field("order_id")
            );
        }
        let lines = self.priced_lines(model)?;
        let total = sum(&lines)?;
        let order_id = self.order_id(context);
        let placed = OrderPlaced {
            order_id,
            customer_id,
            pricing_policy: OrderPlaced::PRICING_POLICY,
            lines,
            total,
            placed_at: context.now,
        };
        let decision = Decision::new().emit(&model.order, placed);
        let decision = self.lines.iter().zip(&model.stock).fold(decision, |decision, (line, stock)| {
            decision.emit(stock, StockAllocated { order_id, quantity: line.quantity })
        });
        Ok(decision.emit(activity, ActivityOrderOpened { order_id }))
    }
}

impl PlaceOrder {
    fn priced_lines(&self, model: &Placing) -> Result<Vec<OrderLine>, Rejection> {
        let mut priced = Vec::with_capacity(self.lines.len());
        for (index, ((line, product), stock)) in
            self.lines.iter().zip(&model.products).zip(&model.stock).enumerate()
        {
            let no = |code, message: String, field| {
                Err(Rejection::rule(code, message).field(format!("lines[{index}].{field}")))
            };
            if self.lines[..index].iter().any(|earlier| earlier.product_id == line.product_id) {
                return no("duplicate_line", "The same product is on an earlier line.".into(), "product_id");
            }
            let Some(listing) = &product.listing else {
                return no("unknown_product", "There is no such product.".into(), "product_id");
            };
            let left = stock.saleable().max(0);
            if line.quantity > left {
                return no("out_of_stock", format!("There are {left} left of `{}`.", listing.sku), "quantity");
            }
            priced.push(OrderLine {
                product_id: line.product_id,
                sku: listing.sku.clone(),
                name: listing.name.clone(),
                quantity: line.quantity,
                unit_price: listing.price,
                total: listing.price.times(line.quantity).map_err(|error| not_priced(&error, index))?,
            });
        }
        Ok(priced)
    }
}

fn sum(lines: &[OrderLine]) -> Result<Money, Rejection> {
    let Some((first, others)) = lines.split_first() else {
        return Err(Rejection::rule("no_lines", "An order has at least one line.").field("lines"));
    };
    others.iter().enumerate().try_fold(first.total, |sum, (index, line)| {
        sum.plus(line.total).map_err(|error| not_priced(&error, index + 1))
    })
}

fn not_priced(error: &MoneyError, line: usize) -> Rejection {
    match error {
        MoneyError::Mixed(one, other) => {
            let message = format!("An order is in one currency, and this one has prices in {one} and {other}.");
            Rejection::rule("mixed_currencies", message).field(format!("lines[{line}].product_id"))
        }
        MoneyError::Overflow => Rejection::rule("total_too_large", "The order comes to more than can be charged.")
            .field(format!("lines[{line}].quantity")),
    }
}

#[cfg(test)]
mod tests;
