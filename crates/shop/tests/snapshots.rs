//! States are kept in the form that their version says.

use daybook_core::testing::check_snapshots;
use daybook_events::{ActivityOrderClosed, ActivityOrderOpened, StockAllocated, StockReceived};
use daybook_shop::{Activity, StockItem};
use uuid::Uuid;

#[test]
fn snapshots_of_stock_are_kept_in_the_form_of_their_version() {
    let events = [
        StockReceived { quantity: 5 }.into(),
        StockAllocated { order_id: Uuid::from_u128(1), quantity: 2 }.into(),
    ];
    check_snapshots::<StockItem>(env!("CARGO_MANIFEST_DIR"), &events);
}

#[test]
fn snapshots_of_activity_are_kept_in_the_form_of_their_version() {
    let [one, two, three] = [1, 2, 3].map(Uuid::from_u128);
    let opened = |order_id| ActivityOrderOpened { order_id }.into();
    let events = [opened(one), opened(two), opened(three), ActivityOrderClosed { order_id: two }.into()];
    check_snapshots::<Activity>(env!("CARGO_MANIFEST_DIR"), &events);
}
