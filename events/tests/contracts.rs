//! The shop's contracts are what their schemas say, and samples of every version are read.

use daybook_core::EventSet;
use daybook_core::testing::check_contracts;
use daybook_events::{ActivityEvent, CustomerEvent, OrderEvent, ProductEvent, StockEvent};

#[test]
fn contracts_are_kept() {
    let sets =
        [ActivityEvent::TYPES, CustomerEvent::TYPES, ProductEvent::TYPES, StockEvent::TYPES, OrderEvent::TYPES];
    check_contracts(env!("CARGO_MANIFEST_DIR"), &sets);
}
