//! The shop's event contracts: what its history is written in.
//!
//! One file for each category of streams, and one for money. An event names its own aggregate through its stream;
//! only the first event of a stream repeats the id, so that it can be read alone.
//!
//! A contract that was shipped does not change: whatever is added to a payload is a new schema version. Therefore
//! payloads refuse unknown fields, `schemas/` keeps what every version is, and `golden/` samples of each, which must be
//! readable for ever. `README.md` says how to change an event.
//!
//! **Architecture invariant:** nothing is decided here. What the words mean ([`Money`], [`StockLevel`]) is said once, for
//! the shop that decides with them and the projections that show them; what may happen is the shop's alone.

mod activity;
mod customer;
mod money;
mod order;
mod product;
mod stock;
mod time;

pub use activity::{ActivityEvent, ActivityOrderClosed, ActivityOrderOpened};
pub use customer::{CustomerEvent, CustomerForgotten, CustomerProfileUpdated, CustomerRegistered};
pub use money::{Currency, CurrencyError, Money, MoneyError};
pub use order::{OrderCancelled, OrderConfirmed, OrderEvent, OrderLine, OrderPlaced, OrderStatus};
pub use product::{ProductCreated, ProductEvent, TaxCategory};
pub use stock::{StockAllocated, StockEvent, StockLevel, StockReceived, StockReleased};
pub use time::micros;
