//! A log and its views, and how tests write to the one and read the other.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use daybook_core::{AnyProjection, Contracts, Event, EventSet, Metadata, Position, RecordedEvent, StreamId};
use daybook_database::Database;
use daybook_log::{Append, Log, NewRecord, Verdict};
use daybook_views::{AtLeast, PageQuery, ProjectionEvent, Projectors, Settings, Status, Views};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::{Added, Closed, CounterEvent, Folded, Moved, Opened};

/// What a test waits for at most.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    /// The views' database.
    pub(crate) database: Database,
    pub(crate) log: Log,
}

impl World {
    pub(crate) async fn new(database: Database) -> Self {
        Self::apart(database.clone(), database).await
    }

    /// One whose log is in another database than its views.
    pub(crate) async fn apart(log: Database, views: Database) -> Self {
        let log = Log::open(log, daybook_log::Settings::default()).await.expect("the log opens");
        Self { database: views, log }
    }

    /// The views as one process has them.
    pub(crate) fn views(&self, projections: &[Arc<dyn AnyProjection>]) -> Views {
        self.views_of::<CounterEvent>(projections)
    }

    /// The views as a process has them whose program knows these events and no others.
    pub(crate) fn views_of<E: EventSet>(&self, projections: &[Arc<dyn AnyProjection>]) -> Views {
        let mut contracts = Contracts::default();
        contracts.add::<E>();
        contracts.add::<ProjectionEvent>();
        let (database, log) = (self.database.clone(), self.log.clone());
        Views::open(database, log, contracts, projections.to_vec()).expect("good declarations")
    }

    /// Appends as one group; the position of the last event.
    pub(crate) async fn append(&self, events: Vec<NewRecord>) -> Position {
        let metadata = metadata();
        let append = Append {
            id: String::new(),
            command_id: metadata.command_id,
            events,
            metadata,
            expected: vec![],
            claims: vec![],
            key: None,
            after: vec![],
        };
        match self.log.append(append).await.expect("a verdict") {
            Verdict::Committed(receipt) => receipt.position,
            other => panic!("not appended: {other:?}"),
        }
    }

    /// Appends `count` events drawn by `dice`, in groups of various sizes; the position of the last one.
    pub(crate) async fn append_any(&self, dice: &mut Dice, count: usize) -> Position {
        let mut events: Vec<NewRecord> = (0..count).map(|_| any_event(dice)).collect();
        let mut last = Position::START;
        while !events.is_empty() {
            let group = dice.below(40) as usize + 1;
            last = self.append(events.drain(..group.min(events.len())).collect()).await;
        }
        last
    }

    /// The whole log.
    pub(crate) async fn history(&self) -> Vec<RecordedEvent> {
        let mut all: Vec<RecordedEvent> = Vec::new();
        loop {
            let after = all.last().map_or(Position::START, |event| event.position);
            let page = self.log.read(after, 1_000).await.expect("readable");
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Asks the views' database for a number.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.database {
            Database::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await,
            Database::Sqlite(file) => sqlx::query_scalar(sql).fetch_one(file.readers()).await,
        }
        .expect("a number")
    }

    /// Runs a statement on the views' database behind everybody's back.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.database {
            Database::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()),
            Database::Sqlite(file) => sqlx::query(sql).execute(file.writer()).await.map(|_| ()),
        }
        .expect("the statement runs");
    }
}

/// The metadata of what a test does.
pub(crate) fn metadata() -> Metadata {
    Metadata {
        actor: None,
        client: None,
        command: "test".into(),
        command_id: Uuid::now_v7(),
        causation_id: None,
        correlation_id: "test".into(),
        traceparent: None,
    }
}

/// Settings for a projector that tests can outlive.
pub(crate) fn quick() -> Settings {
    Settings { lease: Duration::from_millis(400), ..Settings::default() }
}

pub(crate) fn start(views: &Views, page_events_max: usize) -> Projectors {
    Projectors::start(views, Settings { page_events_max, ..quick() })
}

pub(crate) fn at_least(position: Position) -> Option<AtLeast> {
    Some(AtLeast { position, deadline: Instant::now() + LIMIT })
}

/// Everything in the view of counters, page by page, once it has reached `position`.
pub(crate) async fn read_all(views: &Views, position: Position) -> Folded {
    let mut all = Folded::new();
    let mut query = PageQuery { limit: 7, ..PageQuery::default() };
    loop {
        let answer = views.page("counters", &query, at_least(position)).await.expect("in time");
        for document in answer.data.documents {
            let body = serde_json::from_str(document.body.get()).expect("a counter");
            let entry = (body, document.position.get(), document.revision.get());
            assert!(all.insert(document.key, entry).is_none(), "a document was on two pages");
        }
        match answer.data.next {
            Some(next) => query.after = Some(next),
            None => return all,
        }
    }
}

/// Looks until what is found is as `wanted`, and answers it.
pub(crate) async fn found<T: Debug, F: Future<Output = T>>(
    mut look: impl FnMut() -> F,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = look().await;
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "never so: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the status of a projection is as `wanted`.
pub(crate) async fn until(views: &Views, name: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let look = async || {
        let statuses = views.status().await.expect("available");
        statuses.into_iter().find(|one| one.name == name).expect("registered")
    };
    found(look, wanted).await
}

pub(crate) fn event<E: Event>(counter: &str, event: &E) -> NewRecord {
    let payload = serde_json::to_string(event).expect("JSON");
    raw(counter, E::TYPE, E::VERSION, &payload)
}

pub(crate) fn raw(counter: &str, event_type: &str, schema_version: u32, payload: &str) -> NewRecord {
    NewRecord {
        stream: StreamId::new("counter", counter),
        id: Uuid::now_v7(),
        event_type: event_type.into(),
        schema_version,
        payload: payload.into(),
    }
}

fn any_event(dice: &mut Dice) -> NewRecord {
    let counter = format!("c{:02}", dice.below(25));
    match dice.below(10) {
        0 => event(&counter, &Opened { owner: format!("owner {}", dice.below(3)) }),
        1 => event(&counter, &Closed {}),
        2..=4 => event(&counter, &Moved { by: dice.below(9) as i64, to: format!("c{:02}", dice.below(25)) }),
        _ => event(&counter, &Added { by: dice.below(9) as i64 }),
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
