//! Comparing a view with the log: with what a plain fold says which documents there are, and what they hold.
//!
//! The fold takes as long as it takes, while the projector goes on; so it goes up to where the view stands first. Then
//! documents and checkpoints are read as one state, and it goes on to each range's checkpoint before they are compared.
//! Only this last part keeps an old state of the database open.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use daybook_core::{Changed, Position};
use daybook_database::Snapshot;
use daybook_log::LogError;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::backup::{Reached, ReachedRange, documents, reached};
use crate::diff::{FieldDifference, differences};
use crate::refold::Refold;
use crate::slices::{SLICES, Slices, slice};
use crate::views::View;
use crate::{ViewError, Views};

/// How many events are folded until that is told.
const STEP: u64 = 50_000;

/// How much of a view is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// As many documents as fit into memory: some slices that are drawn, of a view that is larger. The log is read once.
    Sample,
    /// All documents. The log is read as often as it takes until each of them was in memory once.
    Full,
}

/// What was verified.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The projection.
    pub projection: String,
    /// Its version.
    pub version: u32,
    /// Which generation is served.
    pub generation: u32,
    /// Everything up to there is in what was compared.
    pub position: Position,
    /// How many of the 1,024 slices of all keys were compared.
    pub slices: u16,
    /// How many documents the view has in these.
    pub documents: u64,
    /// How many it has to have.
    pub folded: u64,
    /// How many documents of these slices have dead letters: they are as they were before the first of them.
    pub parked: u64,
    /// How much was found.
    pub findings: u64,
}

/// Something that is not as the log has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// A range of slices stands where this log cannot have brought it.
    Checkpoint {
        /// Its first slice.
        slice_from: u16,
        /// The one behind its last.
        slice_to: u16,
        /// Why it cannot.
        reason: String,
    },
    /// A document is another one than the events make it. `before` is what is stored, `after` what was folded;
    /// `@position` is that of the event that touched it last, and `@revision` that of its stream.
    Differs {
        /// Its key.
        key: String,
        /// In which fields.
        fields: Vec<FieldDifference>,
    },
    /// There has to be a document, and there is none.
    Missing {
        /// Its key.
        key: String,
    },
    /// There is a document, and there must not be.
    Unexpected {
        /// Its key.
        key: String,
    },
}

/// What is told while a view is verified.
#[derive(Debug)]
pub enum Told {
    /// How far some of its documents are folded: from the beginning on, each time that the log is read.
    Folded {
        /// Everything up to there was folded.
        position: Position,
        /// They have to be folded up to there, and then they are compared.
        through: Position,
        /// How many of the 1,024 slices were compared before.
        slices: u16,
    },
    /// Something is not as the log has it.
    Found(Finding),
}

/// Whoever is told, and says whether to go on.
pub type Listener<'a> = &'a mut (dyn FnMut(Told) -> ControlFlow<()> + Send);

/// A document, as a snapshot has it.
#[derive(Deserialize)]
struct Stored {
    key: String,
    body: Value,
    position: Position,
    revision: u64,
}

#[derive(Deserialize)]
struct Letter {
    key: String,
    position: Position,
}

/// How far a view is in one state of its database.
struct Standing(Reached);

impl Standing {
    async fn of(snapshot: &mut Snapshot, view: &View) -> Result<Self, ViewError> {
        let (name, version) = (view.table.projection, view.table.version);
        let all = reached(snapshot).await?;
        let served = all.into_iter().find(|one| one.projection == name && one.version == version);
        let missing = || ViewError::Refused(format!("version {version} of `{name}` is not served yet"));
        served.map(Self).ok_or_else(missing)
    }

    /// Where the range stands that a document is in.
    fn last(&self, key: &str) -> Position {
        let slice = slice(key);
        let is_in = |range: &&ReachedRange| (range.slice_from..range.slice_to).contains(&slice);
        self.0.ranges.iter().find(is_in).map_or(Position::START, |range| range.checkpoint.position)
    }

    fn lowest(&self) -> Position {
        self.0.checkpoints().map(|checkpoint| checkpoint.position).min().unwrap_or_default()
    }

    fn highest(&self) -> Position {
        self.0.checkpoints().map(|checkpoint| checkpoint.position).max().unwrap_or_default()
    }

    /// The documents of some slices that have dead letters, with the first of these.
    fn parked(&self, slices: Slices) -> Result<HashMap<String, Position>, ViewError> {
        let mut first: HashMap<String, Position> = HashMap::new();
        for letter in &self.0.dead_letters {
            let Letter { key, position } = Letter::deserialize(letter).map_err(unreadable)?;
            if slices.contains(slice(&key)) {
                first.entry(key).and_modify(|known| *known = position.min(*known)).or_insert(position);
            }
        }
        Ok(first)
    }
}

/// What was verified so far, and who is told of what is found.
struct Report<'a> {
    verified: Verification,
    listener: Listener<'a>,
    /// What whoever is told said last.
    goes_on: ControlFlow<()>,
}

impl Report<'_> {
    fn tell(&mut self, finding: Finding) {
        self.verified.findings += 1;
        self.goes_on = (self.listener)(Told::Found(finding));
    }

    /// Whether to go on is asked here alone, where no state of the database is kept open.
    fn folded(&mut self, position: Position, through: Position) -> Result<(), ViewError> {
        let told = (self.listener)(Told::Folded { position, through, slices: self.verified.slices });
        match (self.goes_on, told) {
            (ControlFlow::Continue(()), ControlFlow::Continue(())) => Ok(()),
            _ => Err(ViewError::Refused("nobody wants to know any more".to_owned())),
        }
    }
}

impl Views {
    /// Compares a view with the log, and tells each difference as it is met. The documents that are folded take at most
    /// `bytes_max`, but for a single slice that is larger.
    ///
    /// To be awaited to its end: whoever wants no more of it says so when they are told something.
    ///
    /// # Errors
    ///
    /// When there is no such view, this program's version of it is not served, database or log are not available, or
    /// whoever is told wants no more.
    pub async fn verify(
        &self,
        view: &str,
        extent: Extent,
        bytes_max: usize,
        listener: Listener<'_>,
    ) -> Result<Verification, ViewError> {
        let view = self.view(view)?;
        let verified = Verification {
            projection: view.table.projection.to_owned(),
            version: view.table.version,
            generation: 0,
            position: Position::new(u64::MAX),
            slices: 0,
            documents: 0,
            folded: 0,
            parked: 0,
            findings: 0,
        };
        let mut report = Report { verified, listener, goes_on: ControlFlow::Continue(()) };
        self.check_ranges(view, &mut report).await?;
        let mut ahead = vec![Slices { from: 0, to: SLICES }];
        while let Some(slices) = ahead.pop() {
            let width = slices.to - slices.from;
            let limit = if width == 1 { usize::MAX } else { bytes_max };
            if self.verify_slices(view, slices, limit, &mut report).await? {
                continue;
            }
            let middle = slices.from + width / 2;
            let halves = [Slices { to: middle, ..slices }, Slices { from: middle, ..slices }];
            match extent {
                Extent::Full => ahead.extend(halves),
                Extent::Sample => ahead.extend(halves.get(usize::from(Uuid::new_v4().as_bytes()[0] & 1))),
            }
        }
        Ok(report.verified)
    }

    /// Whether the log can have brought each range where it stands.
    async fn check_ranges(&self, view: &View, report: &mut Report<'_>) -> Result<(), ViewError> {
        let mut snapshot = self.database().snapshot().await?;
        let standing = Standing::of(&mut snapshot, view).await;
        snapshot.close().await?;
        for range in standing?.0.ranges {
            match self.log().check(&range.checkpoint).await {
                Ok(()) => {}
                Err(LogError::History(error)) => {
                    let (slice_from, slice_to, reason) = (range.slice_from, range.slice_to, error.to_string());
                    report.tell(Finding::Checkpoint { slice_from, slice_to, reason });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Compares the documents of some slices. `false`, and nothing was compared, when they do not fit.
    async fn verify_slices(
        &self,
        view: &View,
        slices: Slices,
        bytes_max: usize,
        report: &mut Report<'_>,
    ) -> Result<bool, ViewError> {
        let mut snapshot = self.database().snapshot().await?;
        let before = Standing::of(&mut snapshot, view).await;
        snapshot.close().await?;
        let before = before?;
        let wanted = |key: &str| slices.contains(slice(key));
        let mut refold = Refold::new(self, view, before.parked(slices)?).await?;
        let lowest = before.lowest();
        let mut folded = Position::START;
        report.folded(folded, lowest)?;
        while folded < lowest {
            if self.is_closing() {
                return Err(ViewError::Unavailable("this process ends".to_owned()));
            }
            folded = folded.plus(STEP).min(lowest);
            if !refold.go_on(folded, &wanted, &|_| lowest, bytes_max).await? {
                return Ok(false);
            }
            report.folded(folded, lowest)?;
        }
        let mut snapshot = self.database().snapshot().await?;
        let compared = self.compare(&mut snapshot, view, slices, bytes_max, (refold, lowest), report).await;
        snapshot.close().await?;
        compared
    }

    /// Takes a fold to where a snapshot has the view, and compares its documents.
    async fn compare(
        &self,
        snapshot: &mut Snapshot,
        view: &View,
        slices: Slices,
        bytes_max: usize,
        (mut refold, folded_to): (Refold<'_>, Position),
        report: &mut Report<'_>,
    ) -> Result<bool, ViewError> {
        let standing = Standing::of(snapshot, view).await?;
        if standing.lowest() < folded_to {
            return Err(ViewError::Refused("the view was put back while it was verified: verify it again".into()));
        }
        let last = |key: &str| standing.last(key);
        let parked = standing.parked(slices)?;
        let parked_count = parked.len() as u64;
        refold.renew(parked).await?;
        if !refold.go_on(standing.highest(), &|key| slices.contains(slice(key)), &last, bytes_max).await? {
            return Ok(false);
        }
        refold.mend(&last).await?;
        let folded = refold.changed()?.into_iter().filter(|document| document.body.is_some());
        let mut folded: BTreeMap<String, Changed> =
            folded.map(|document| (document.key.clone(), document)).collect();
        drop(refold);
        let verified = &mut report.verified;
        verified.generation = standing.0.number;
        verified.position = verified.position.min(standing.lowest());
        verified.slices += slices.to - slices.from;
        verified.folded += folded.len() as u64;
        verified.parked += parked_count;
        let lines = documents(&view.table.name_of(standing.0.number));
        let mut rows = snapshot.write(&lines);
        while let Some(line) = rows.try_next().await? {
            let stored: Stored = serde_json::from_str(&line).map_err(unreadable)?;
            if !slices.contains(slice(&stored.key)) {
                continue;
            }
            report.verified.documents += 1;
            match folded.remove(&stored.key) {
                None => report.tell(Finding::Unexpected { key: stored.key }),
                Some(document) => {
                    let fields = differing(&stored, &document)?;
                    if !fields.is_empty() {
                        report.tell(Finding::Differs { key: stored.key, fields });
                    }
                }
            }
        }
        folded.into_keys().for_each(|key| report.tell(Finding::Missing { key }));
        Ok(true)
    }
}

/// In what a stored document is not what was folded.
fn differing(stored: &Stored, folded: &Changed) -> Result<Vec<FieldDifference>, ViewError> {
    let body = serde_json::from_str(folded.body.as_deref().unwrap_or("null")).map_err(unreadable)?;
    let mut fields = differences(&stored.body, &body);
    for (name, before, after) in [
        ("@position", stored.position.get(), folded.position.get()),
        ("@revision", stored.revision, folded.revision.get()),
    ] {
        if before != after {
            fields.push(FieldDifference { field: name.to_owned(), before: before.into(), after: after.into() });
        }
    }
    Ok(fields)
}

fn unreadable(error: serde_json::Error) -> ViewError {
    ViewError::from(sqlx::Error::Decode(Box::new(error)))
}
