//! How much memory a rebuild takes: a program of its own, since it is looked at as a whole.

use std::time::Duration;

use daybook_core::{
    Access, Contracts, Envelope, Event, Keys, Metadata, Position, Projection, ProjectionSpec, StreamId, event_set,
    projection,
};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Log, NewRecord, Verdict};
use daybook_views::{AtLeast, Phase, ProjectionEvent, Projectors, Settings, Views};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

on_both!(&[Schema::Log, Schema::Views], a_rebuild_takes_as_much_memory_as_it_may_and_not_as_much_as_its_view);

/// The view takes several times as much as its rebuild may.
const DOCUMENTS: usize = 8_000;
const NOTE_BYTES: usize = 4_200;
const BOUND: usize = 2 << 20;

/// What may be taken beside the documents: pages that were read ahead, and as many again that are being written; what the
/// allocator keeps, and what SQLite does.
const BESIDE: usize = 13 << 20;

const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Noted {
    note: String,
}

impl Event for Noted {
    const TYPE: &'static str = "note.noted";
    const VERSION: u32 = 1;
}

event_set! {
    enum NoteEvent { Noted }
}

struct Notes;

impl Projection for Notes {
    type Event = NoteEvent;
    type View = Noted;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "notes",
            version: 1,
            summary: "The notes.",
            category: "note",
            fields: &[],
            indexes: &[],
            access: Access::anyone(),
            owner: None,
        }
    }

    fn keys(event: &Envelope<'_, NoteEvent>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn apply(_: &str, view: &mut Option<Noted>, event: &Envelope<'_, NoteEvent>) {
        let NoteEvent::Noted(noted) = &event.event;
        *view = Some(noted.clone());
    }
}

/// One test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn a_rebuild_takes_as_much_memory_as_it_may_and_not_as_much_as_its_view(_: Location, database: Database) {
    let _alone = ALONE.lock().await;
    let log = Log::open(database.clone(), daybook_log::Settings::default()).await.expect("the log opens");
    let last = append(&log).await;
    let mut contracts = Contracts::default();
    contracts.add::<NoteEvent>();
    contracts.add::<ProjectionEvent>();
    let views =
        Views::open(database, log.clone(), contracts, vec![projection::<Notes>()]).expect("it is declared well");
    let settings = Settings {
        page_events_max: 200,
        memory_bytes_max: 1 << 20,
        rebuild_bytes_max: BOUND,
        rebuild_page_events: 200,
        ..Settings::default()
    };
    let projectors = Projectors::start(&views, settings);
    let there = AtLeast { position: last, deadline: Instant::now() + LIMIT };
    views.get("notes", "", Some(there)).await.expect("in time");
    let before = memory("VmRSS");
    // The most is counted anew from here.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux lets us");
    views.rebuild("notes", false, &metadata()).await.expect("begun");
    let deadline = Instant::now() + LIMIT;
    while views.generations("notes").await.expect("available")[1].phase != Phase::Live {
        assert!(Instant::now() < deadline, "it is never there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let taken = memory("VmHWM").saturating_sub(before);
    let view = DOCUMENTS * NOTE_BYTES;
    assert!(view > 2 * (BOUND + BESIDE), "the view is too small to tell");
    assert!(taken < BOUND + BESIDE, "{taken} bytes were taken for a view of {view}");
    projectors.stop().await;
    log.close().await;
}

async fn append(log: &Log) -> Position {
    let note = serde_json::to_string(&Noted { note: "n".repeat(NOTE_BYTES) }).expect("JSON");
    let mut last = Position::START;
    for group in 0..DOCUMENTS / 100 {
        let event = |number| NewRecord {
            stream: StreamId::new("note", number),
            id: Uuid::now_v7(),
            event_type: Noted::TYPE.into(),
            schema_version: 1,
            payload: note.clone(),
        };
        let append = Append {
            id: String::new(),
            command_id: Uuid::now_v7(),
            events: (group * 100..(group + 1) * 100).map(event).collect(),
            metadata: metadata(),
            expected: vec![],
            claims: vec![],
            key: None,
            after: vec![],
        };
        match log.append(append).await.expect("a verdict") {
            Verdict::Committed(receipt) => last = receipt.position,
            other => panic!("not appended: {other:?}"),
        }
    }
    last
}

fn metadata() -> Metadata {
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

/// A line of what the kernel says of this process, in bytes.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("such a line");
    let kib: usize = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    kib << 10
}
