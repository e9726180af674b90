//! The contracts of accounts and sessions are what their schemas say, and samples of every version are read.

use daybook_core::EventSet;
use daybook_core::testing::check_contracts;
use daybook_identity::{AccountEvent, SessionEvent};

#[test]
fn contracts_are_kept() {
    check_contracts(env!("CARGO_MANIFEST_DIR"), &[AccountEvent::TYPES, SessionEvent::TYPES]);
}
