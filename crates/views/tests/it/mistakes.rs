//! A projector that panics, for which only a mistake in the program can be the reason, is started again; what it held is
//! taken over, and no other projection minds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daybook_core::{
    AnyProjection, Batch, Changed, DecodeError, Documents, EventType, GivenAway, Misshapen, NotApplied, Position,
    ProjectionSpec, RecordedEvent, Revision, Shape, StreamId, projection,
};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Projectors, Settings};

use crate::domain::{Counters, Openings, plain_fold};
use crate::world::{Dice, World, at_least, quick, read_all};

on_both!(&[Schema::Log, Schema::Views], a_projector_that_panics_is_started_again);

/// How often the mistake is made.
const PANICS: u32 = 3;

/// The counters, whose documents are counted wrong for a while.
struct Mistaken(Arc<dyn AnyProjection>, Arc<AtomicU32>);

struct Miscounted(Box<dyn Documents>, Arc<AtomicU32>);

impl AnyProjection for Mistaken {
    fn spec(&self) -> &ProjectionSpec {
        self.0.spec()
    }

    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    fn event_types(&self) -> &'static [EventType] {
        self.0.event_types()
    }

    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        self.0.schema(generator)
    }

    fn open(
        &self,
        events: Arc<[RecordedEvent]>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Box<dyn Batch>, DecodeError> {
        self.0.open(events, wanted)
    }

    fn streams(&self, key: &str) -> Option<Vec<StreamId>> {
        self.0.streams(key)
    }

    fn documents(&self) -> Box<dyn Documents> {
        Box::new(Miscounted(self.0.documents(), self.1.clone()))
    }
}

impl Documents for Miscounted {
    fn knows(&self, key: &str) -> bool {
        self.0.knows(key)
    }

    fn load(&mut self, key: &str, stored: Option<(&str, Revision)>) -> Result<(), serde_json::Error> {
        self.0.load(key, stored)
    }

    fn fold(&mut self, batch: &mut dyn Batch, until: &dyn Fn(&str) -> Option<Position>) -> Vec<NotApplied> {
        self.0.fold(batch, until)
    }

    fn changed(&mut self) -> Result<Vec<Changed>, Misshapen> {
        self.0.changed()
    }

    fn give_away(&mut self) -> GivenAway {
        self.0.give_away()
    }

    fn bytes(&self) -> usize {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "they cannot be counted");
        self.0.bytes()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

async fn a_projector_that_panics_is_started_again(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append_any(&mut Dice(31), 60).await;
    let left = Arc::new(AtomicU32::new(PANICS));
    let mistaken = Arc::new(Mistaken(projection::<Counters<1>>(), left.clone()));
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
