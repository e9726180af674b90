//! Projectors that read the newest events beside the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{JsonText, Position, RecordedEvent, projection};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Checkpoint, Source, Tail, Taken};
use daybook_views::{Projectors, Settings, Views};
use tokio::sync::watch;

use crate::domain::{Added, Counters, plain_fold};
use crate::world::{Dice, LIMIT, World, at_least, event, quick, raw, read_all, start, until};

on_both!(
    &[Schema::Log, Schema::Views],
    what_is_there_is_read_there,
    what_is_missing_is_read_from_the_log,
    what_comes_late_is_read_from_the_log_until_it_comes_in_time,
    what_cannot_be_opened_is_read_from_the_log,
    what_cannot_be_taken_in_as_it_is_there_is_read_from_the_log,
    what_cannot_be_taken_in_from_the_log_either_stops_it,
    what_the_log_does_not_say_stops_it,
    another_one_goes_on_where_one_that_read_the_log_was,
);

/// A place that a test puts events into.
#[derive(Debug, Clone, Default)]
struct Board(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<Vec<RecordedEvent>>,
    taken: Mutex<Vec<Position>>,
    is_broken: bool,
    changed: watch::Sender<()>,
}

impl Board {
    fn put(&self, events: impl IntoIterator<Item = RecordedEvent>) {
        let mut all = self.0.events.lock().expect("not poisoned");
        all.extend(events);
        all.sort_by_key(|event| event.position);
        drop(all);
        self.0.changed.send_replace(());
    }

    /// The positions that were taken out, in that order.
    fn taken(&self) -> Vec<u64> {
        self.0.taken.lock().expect("not poisoned").iter().map(|position| position.get()).collect()
    }
}

impl Source for Board {
    fn name(&self) -> &'static str {
        "board"
    }

    fn open(&self, _: &Checkpoint, _: Option<DateTime<Utc>>) -> Box<dyn Tail> {
        Box::new(Reading { changed: self.0.changed.subscribe(), board: self.0.clone() })
    }
}

struct Reading {
    board: Arc<Shared>,
    changed: watch::Receiver<()>,
}

#[async_trait]
impl Tail for Reading {
    fn take(&mut self, after: Position, through: Position, limit: usize) -> Taken {
        if self.board.is_broken {
            return Taken::Failed("it is broken".to_owned());
        }
        let all = self.board.events.lock().expect("not poisoned");
        let rest = || all.iter().filter(|event| event.position > after);
        let due = (after.get() + 1..=through.get()).zip(rest());
        let events = due.take_while(|(due, event)| event.position.get() == *due).map(|(_, event)| event.clone());
        let events: Vec<_> = events.take(limit).collect();
        if events.is_empty() {
            let first = rest().next().map(|event| event.position);
            return Taken::Nothing { first, is_at_end: true, moved: Instant::now() };
        }
        self.board.taken.lock().expect("not poisoned").extend(events.iter().map(|event| event.position));
        Taken::Events(events)
    }

    fn newest(&self) -> Position {
        let all = self.board.events.lock().expect("not poisoned");
        all.last().map_or(Position::START, |event| event.position)
    }

    async fn arrived(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

fn project(views: &Views, board: &Board, page_events_max: usize) -> Projectors {
    let source: Arc<dyn Source> = Arc::new(board.clone());
    Projectors::start(views, Settings { page_events_max, source: Some(source), ..quick() })
}

fn views(world: &World) -> Views {
    world.views(&[projection::<Counters<1>>()])
}

async fn what_is_there_is_read_there(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    let mut dice = Dice(3);
    world.append_any(&mut dice, 50).await;
    board.put(world.history().await);
    let views = views(&world);
    let projectors = project(&views, &board, 7);
    let last = world.append_any(&mut dice, 50).await;
    board.put(world.history().await.split_off(50));
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    assert_eq!(board.taken(), (1..=100).collect::<Vec<_>>());
    projectors.stop().await;
}

async fn what_is_missing_is_read_from_the_log(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    let last = world.append_any(&mut Dice(4), 60).await;
    let is_there = |event: &RecordedEvent| (11..=20).contains(&event.position.get()) || event.position.get() > 30;
    board.put(world.history().await.into_iter().filter(is_there));
    let views = views(&world);
    let projectors = project(&views, &board, 7);
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    assert_eq!(board.taken(), (11..=20).chain(31..=60).collect::<Vec<_>>());
    projectors.stop().await;
}

async fn what_comes_late_is_read_from_the_log_until_it_comes_in_time(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    let views = views(&world);
    let projectors = project(&views, &board, 7);
    let add = || world.append(vec![event("x", &Added { by: 1 })]);
    let begun = Instant::now();
    views.get("counters", "x", at_least(add().await)).await.expect("in time");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1), "it is waited for: {waited:?}");
    let begun = Instant::now();
    for _ in 0..3 {
        views.get("counters", "x", at_least(add().await)).await.expect("in time");
    }
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(3), "it is not waited for again and again: {waited:?}");
    assert!(board.taken().is_empty());
    let deadline = Instant::now() + LIMIT;
    while board.taken().is_empty() {
        assert!(Instant::now() < deadline, "what is there in time is not taken");
        let added = add().await;
        board.put(world.history().await.pop());
        views.get("counters", "x", at_least(added)).await.expect("in time");
    }
    let last = add().await;
    board.put(world.history().await.pop());
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    projectors.stop().await;
}

async fn what_cannot_be_opened_is_read_from_the_log(_: Location, database: Database) {
    let world = World::new(database).await;
    let board = Board(Arc::new(Shared { is_broken: true, ..Shared::default() }));
    let views = views(&world);
    let projectors = project(&views, &board, 7);
    let last = world.append_any(&mut Dice(5), 60).await;
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    projectors.stop().await;
}

async fn what_cannot_be_taken_in_as_it_is_there_is_read_from_the_log(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    let last = world.append_any(&mut Dice(9), 60).await;
    let mut events = world.history().await;
    events[0].payload = JsonText::new("{");
    for event in &mut events[9..12] {
        event.payload = JsonText::new(r#"["\u0000"]"#);
    }
    events[20].event_type = "counter.invented".to_owned();
    events[30].schema_version = 9;
    // No act of operators, though it says so.
    events[40].event_type = "daybook.dead_letter.retried".to_owned();
    events[59].payload = JsonText::new("");
    board.put(events);
    let views = views(&world);
    let projectors = project(&views, &board, 7);
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    let taken: BTreeSet<u64> = board.taken().into_iter().collect();
    assert_eq!(taken, (1..=60).collect(), "behind it, what is there is looked for there again");
    projectors.stop().await;
}

async fn what_cannot_be_taken_in_from_the_log_either_stops_it(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    world.append_any(&mut Dice(10), 20).await;
    let bad = world.append(vec![raw("x", "counter.added", 1, r#"{"by":"one"}"#)]).await;
    world.append_any(&mut Dice(11), 20).await;
    board.put(world.history().await);
    let views = views(&world);
    let projectors = project(&views, &board, 7);
    let status = until(&views, "counters", |status| status.stopped.is_some()).await;
    assert_eq!(status.stopped.map(|stopped| stopped.position), Some(bad));
    assert_eq!(status.position.plus(1), bad);
    projectors.stop().await;
}

/// What was there before the projector began is not taken for the log's if the log holds something else there (L11).
async fn what_the_log_does_not_say_stops_it(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    world.append_any(&mut Dice(6), 20).await;
    let mut events = world.history().await;
    events[9].id = uuid::Uuid::from_u128(7);
    board.put(events);
    let views = views(&world);
    let projectors = project(&views, &board, 10);
    let status = until(&views, "counters", |status| status.stopped.is_some()).await;
    assert!(status.stopped.is_some_and(|stopped| stopped.reason.contains("rolled back")));
    assert_eq!(status.position, Position::START);
    projectors.stop().await;
}

async fn another_one_goes_on_where_one_that_read_the_log_was(_: Location, database: Database) {
    let (world, board) = (World::new(database).await, Board::default());
    let mut dice = Dice(8);
    let views = views(&world);
    let mut last = Position::START;
    for round in 0..4 {
        let projectors = if round % 2 == 0 { start(&views, 7) } else { project(&views, &board, 7) };
        last = world.append_any(&mut dice, 25).await;
        if round % 2 == 1 {
            board.put(world.history().await.split_off(round * 25));
        }
        read_all(&views, last).await;
        projectors.stop().await;
    }
    assert_eq!(read_all(&views, last).await, plain_fold(&world.history().await));
    assert_eq!(board.taken(), (26..=50).chain(76..=100).collect::<Vec<_>>());
}
