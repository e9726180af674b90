//! What is counted: tallies, and groups of them.

use std::collections::BTreeMap;

use daybook_core::{
    Access, Contracts, Envelope, Event, Keys, Metadata, Projection, ProjectionSpec, RecordedEvent, StreamId,
    event_set,
};
use daybook_database::Database;
use daybook_log::{Append, Log, NewRecord, Settings};
use daybook_views::{ProjectionEvent, Views};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The view.
pub const VIEW: &str = "tallies";

/// How many tallies there are, and how many groups of them.
const TALLIES: u64 = 60;
const GROUPS: u64 = 4;

/// Something was counted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// How much.
    pub by: u64,
    /// The document, besides the tally's own, that counts it, too.
    pub group: String,
}

impl Event for Counted {
    const TYPE: &'static str = "tally.counted";
    const VERSION: u32 = 1;
}

event_set! {
    /// What happens to tallies.
    pub enum TallyEvent { Counted }
}

/// A tally, or a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// How many events were folded into it: one that is folded twice, or not at all, is seen here.
    pub events: u64,
    /// What they sum up to.
    pub sum: u64,
    /// In which order they were folded.
    pub digest: u64,
}

impl Tally {
    fn count(&mut self, counted: &Counted) {
        self.events += 1;
        self.sum += counted.by;
        self.digest = self.digest.wrapping_mul(31).wrapping_add(counted.by) >> 1;
    }
}

/// The view of tallies and groups.
struct Tallies;

impl Projection for Tallies {
    type Event = TallyEvent;
    type View = Tally;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: VIEW,
            version: 1,
            summary: "The tallies, and groups of them.",
            category: "tally",
            fields: &[],
            indexes: &[],
            access: Access::anyone(),
            owner: None,
        }
    }

    fn keys(event: &Envelope<'_, TallyEvent>, keys: &mut Keys) {
        let TallyEvent::Counted(counted) = &event.event;
        keys.add(event.record.stream.id());
        keys.add(&counted.group);
    }

    fn apply(_: &str, view: &mut Option<Tally>, event: &Envelope<'_, TallyEvent>) {
        let TallyEvent::Counted(counted) = &event.event;
        view.get_or_insert_default().count(counted);
    }
}

/// Opens the log and the views of it, in one database.
///
/// # Errors
///
/// When the database does not answer.
pub async fn open(database: Database) -> anyhow::Result<(Log, Views)> {
    let log = Log::open(database.clone(), Settings::default()).await?;
    let views = views(database, &log)?;
    Ok((log, views))
}

/// Opens the views of a log in a database.
///
/// # Errors
///
/// When they cannot be stored.
pub fn views(database: Database, log: &Log) -> anyhow::Result<Views> {
    let mut contracts = Contracts::default();
    contracts.add::<TallyEvent>();
    contracts.add::<ProjectionEvent>();
    Ok(Views::open(database, log.clone(), contracts, vec![daybook_core::projection::<Tallies>()])?)
}

/// Some event.
///
/// # Errors
///
/// When it has no JSON form.
fn any_event(dice: &mut crate::Dice) -> anyhow::Result<NewRecord> {
    let counted = Counted { by: 1 + dice.below(1_000), group: format!("group {}", dice.below(GROUPS)) };
    let stream = StreamId::new("tally", dice.below(TALLIES));
    Ok(NewRecord::new(stream, &TallyEvent::from(counted))?)
}

/// An append of any event, which nothing stands in the way of.
///
/// # Errors
///
/// When it has no form to be stored in.
pub fn any_append(dice: &mut crate::Dice) -> anyhow::Result<Append> {
    let metadata = metadata();
    Ok(Append {
        id: String::new(),
        command_id: metadata.command_id,
        events: vec![any_event(dice)?],
        metadata,
        expected: Vec::new(),
        claims: Vec::new(),
        key: None,
        after: Vec::new(),
    })
}

/// What is said of whatever the campaign does.
pub fn metadata() -> Metadata {
    Metadata {
        actor: None,
        client: None,
        command: "campaign".into(),
        command_id: Uuid::now_v7(),
        causation_id: None,
        correlation_id: "campaign".into(),
        traceparent: None,
    }
}

/// Which documents an event is counted in.
///
/// # Errors
///
/// When it cannot be read.
pub fn keys(event: &RecordedEvent) -> anyhow::Result<Vec<String>> {
    Ok(match Envelope::<TallyEvent>::open(event)? {
        Some(Envelope { event: TallyEvent::Counted(counted), record }) => {
            vec![record.stream.id().to_owned(), counted.group]
        }
        None => Vec::new(),
    })
}

/// What all documents have to be.
///
/// # Errors
///
/// When the log cannot be read.
pub async fn plain_fold(log: &Log) -> anyhow::Result<(u64, BTreeMap<String, Tally>)> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut after = daybook_core::Position::START;
    loop {
        let page = log.read(after, 1_000).await?;
        let Some(last) = page.last() else { return Ok((after.get(), tallies)) };
        after = last.position;
        for record in &page {
            if let Some(Envelope { event: TallyEvent::Counted(counted), .. }) =
                Envelope::<TallyEvent>::open(record)?
            {
                for key in keys(record)? {
                    tallies.entry(key).or_default().count(&counted);
                }
            }
        }
    }
}
