//! A projector that panics, for which only a mistake in the program can be the reason, is started again; what it held is
//! taken over, and no other projection minds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Projectors, Settings};

use crate::domain::{Counters, Openings, plain_fold};
use crate::weighed::Weighed;
use crate::world::{Dice, World, at_least, quick, read_all};

on_both!(&[Schema::Log, Schema::Views], a_projector_that_panics_is_started_again);

/// How often the mistake is made.
const PANICS: u32 = 3;

async fn a_projector_that_panics_is_started_again(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append_any(&mut Dice(31), 60).await;
    let left = Arc::new(AtomicU32::new(PANICS));
    let panics = {
        let left = left.clone();
        move |bytes| {
            let less = |left: u32| left.checked_sub(1);
            let is_counted = bytes == 0 || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err();
            assert!(is_counted, "they cannot be counted");
        }
    };
    let mistaken = Arc::new(Weighed(projection::<Counters<1>>(), Arc::new(panics)));
    let views = world.views(&[mistaken, projection::<Openings>()]);
    let settings = Settings { page_events_max: 5, retry_stopped: Duration::from_millis(20), ..quick() };
    let projectors = Projectors::start(&views, settings);
    views.get("openings", "all", at_least(last)).await.expect("another one flows on");
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    assert_eq!(left.load(Ordering::SeqCst), 0, "it panicked, after what it had written");
    assert!(last > Position::new(5 * u64::from(PANICS)), "and there was more to be done");
    projectors.stop().await;
    assert!(views.status().await.expect("available").iter().all(|one| one.owners.is_empty()), "all is given back");
    world.log.close().await;
}
