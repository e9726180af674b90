//! A process with an API and projectors: it appends, projects, and reads what it and others have appended. Without clients,
//! it is one that projects.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use daybook_core::Position;
use daybook_database::{Database, Location, Options};
use daybook_kafka::TopicSource;
use daybook_log::{Log, Source, Verdict};
use daybook_views::{AtLeast, Projectors, Settings, ViewError, Views};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::check::{Answered, Note, Shown};
use super::domain::{self, VIEW};
use super::feed;
use crate::Dice;
use crate::writer::orders_from_stdin;

/// How long a projector's lease lasts: short, so that a process that is frozen loses it.
pub const LEASE: Duration = Duration::from_millis(400);

/// How long a reader waits for what it wants to see.
const WAIT: Duration = Duration::from_secs(20);

/// How a process works.
#[derive(Debug, Clone)]
pub struct ProcessPlan {
    /// Where log and views are.
    pub database: Location,
    /// Where it notes down what it was shown.
    pub notes: PathBuf,
    /// What its dice start from.
    pub seed: u64,
    /// How many clients it has.
    pub clients: usize,
    /// The topic that its projectors read, if it is not the log that they do.
    pub topic: Option<daybook_kafka::Settings>,
}

/// How the projectors of a campaign work: in pages that are soon full, and with little memory.
pub fn projectors() -> Settings {
    Settings {
        lease: LEASE,
        page_events_max: 20,
        shards: 4,
        memory_bytes_max: 8 << 10,
        rebuild_bytes_max: 6 << 10,
        rebuild_page_events: 50,
        ..Settings::default()
    }
}

/// Works until its standard input closes.
///
/// # Errors
///
/// When it cannot go on, for another reason than that the database is away.
pub async fn run(plan: ProcessPlan) -> anyhow::Result<()> {
    let ProcessPlan { database, notes, seed, clients, topic } = plan;
    let database = Database::connect(&database, &Options::default()).await?;
    let (log, views) = domain::open(database).await?;
    let notes = Notes::open(&notes)?;
    feed::note_down(&notes).map_err(|error| anyhow!("{error}"))?;
    let desk = Desk { log: log.clone(), views: views.clone(), notes };
    let source = topic.map(|topic| Arc::new(TopicSource::new(topic)) as Arc<dyn Source>);
    let projectors = Projectors::start(&views, Settings { source, ..projectors() });
    let mut dice = Dice::new(seed);
    let mut clients: JoinSet<_> = (0..clients).map(|_| desk.clone().work(dice.fork())).collect();
    let mut orders = orders_from_stdin();
    tokio::select! {
        // It is told nothing, until there is nobody who could tell it anything.
        _ = orders.recv() => {}
        () = log.ended() => bail!("the appender has ended"),
        Some(ended) = clients.join_next() => ended??,
    }
    clients.shutdown().await;
    projectors.stop().await;
    log.close().await;
    Ok(())
}

/// Where clients append and read.
#[derive(Clone)]
struct Desk {
    log: Log,
    views: Views,
    notes: Notes,
}

/// What a process notes down. Cheap to clone.
#[derive(Clone)]
pub(super) struct Notes(Arc<Mutex<File>>);

impl Notes {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(File::options().create(true).append(true).open(path)?))))
    }

    pub(super) fn write(&self, note: &Note) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{note}\n").as_bytes())
    }
}

impl Desk {
    async fn work(self, mut dice: Dice) -> anyhow::Result<()> {
        let mut shown = Shown::default();
        loop {
            // What it appended itself, or what somebody else did.
            let wanted = match dice.one_in(3) {
                true => self.newest().await?,
                false => self.append(&mut dice).await?,
            };
            if let Some((position, keys)) = wanted {
                let key = dice.pick(&keys);
                self.read(key, Some(position), &mut shown).await?;
                if dice.one_in(2) {
                    self.read(key, None, &mut shown).await?;
                }
            }
            sleep(dice.ms(0, 8)).await;
        }
    }

    async fn append(&self, dice: &mut Dice) -> anyhow::Result<Option<(Position, Vec<String>)>> {
        match self.log.append(domain::any_append(dice)?).await {
            Ok(Verdict::Committed(receipt)) => {
                let event = self.log.event(receipt.position).await?.context("it was acknowledged")?;
                Ok(Some((receipt.position, domain::keys(&event)?)))
            }
            Ok(other) => bail!("nothing stands in its way, and yet: {other:?}"),
            // Nobody knows, or it is not done: then there is nothing to see.
            Err(_) => Ok(None),
        }
    }

    /// The newest event, whoever appended it.
    async fn newest(&self) -> anyhow::Result<Option<(Position, Vec<String>)>> {
        let position = self.log.head().await?.position;
        let Some(event) = self.log.event(position).await? else { return Ok(None) };
        let keys = domain::keys(&event)?;
        Ok((!keys.is_empty()).then_some((position, keys)))
    }

    /// Reads a document that was changed at `wanted`, and has to show it.
    async fn read(&self, key: &str, wanted: Option<Position>, shown: &mut Shown) -> anyhow::Result<()> {
        let at_least = wanted.map(|position| AtLeast { position, deadline: Instant::now() + WAIT });
        let answer = match self.views.get(VIEW, key, at_least).await {
            Ok(answer) => answer,
            Err(ViewError::NotYet { reached }) => {
                let late = format!("`{key}` at {wanted:?} is not there after {WAIT:?}: {reached}");
                return Ok(self.notes.write(&Note::Breach(late))?);
            }
            Err(error) => {
                let failed = format!("`{key}` could not be read: {error}");
                return Ok(self.notes.write(&Note::Breach(failed))?);
            }
        };
        let found = match &answer.data {
            Some(document) => Some((serde_json::from_str(document.body.get())?, document.position)),
            None => None,
        };
        Ok(self.notes.write(&shown.judge(&Answered { key, wanted, position: answer.position, found }))?)
    }
}
