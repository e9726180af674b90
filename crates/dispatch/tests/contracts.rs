//! The contracts of refusals and openings are what their schemas say, and samples of every version are read.

use daybook_core::EventSet;
use daybook_core::testing::check_contracts;
use daybook_dispatch::{OpeningEvent, RefusalEvent};

#[test]
fn contracts_are_kept() {
    check_contracts(env!("CARGO_MANIFEST_DIR"), &[RefusalEvent::TYPES, OpeningEvent::TYPES]);
}
