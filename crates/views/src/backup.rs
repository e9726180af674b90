//! What a backup of the views is made of, and how views come to stand behind a log that was restored.
//!
//! A view could always be folded again. With its documents it need not be; and a checkpoint says what its reader has
//! seen, which a log that was restored has to be compared with (invariant L11).

use daybook_core::ProjectionSpec;
use daybook_database::{Database, Lines, Loading, Snapshot, Statements};
use daybook_log::Checkpoint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ViewError;
use crate::generation::{Generation, Phase};
use crate::slices::SLICES;
use crate::store::generations::NewGeneration;
use crate::store::upkeep::KNOWN_OF_DOCUMENTS;
use crate::store::{Store, store};
use crate::table::Table;

/// How far a view has come that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The projection.
    pub projection: String,
    /// Its version.
    pub version: u32,
    /// Which generation of the projection it is.
    pub(crate) number: u32,
    /// How far each range of its slices has come: each event behind that is still to be taken in, by it alone.
    pub ranges: Vec<ReachedRange>,
    /// What could not be applied to its documents.
    pub(crate) dead_letters: Vec<Value>,
}

/// How far a range of slices has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedRange {
    pub(crate) slice_from: u16,
    pub(crate) slice_to: u16,
    /// The last event that it has taken in, and of which log.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
}

impl Reached {
    /// The checkpoints of its ranges.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.ranges.iter().map(|range| &range.checkpoint)
    }

    /// The same view, its ranges with other checkpoints.
    #[must_use]
    pub fn with(&self, checkpoint: impl Fn(&Checkpoint) -> Checkpoint) -> Self {
        let mut moved = self.clone();
        for range in &mut moved.ranges {
            range.checkpoint = checkpoint(&range.checkpoint);
        }
        moved
    }

    /// The view before it has taken anything in.
    #[must_use]
    pub fn anew(&self, start: Checkpoint) -> Self {
        let ranges = vec![ReachedRange { slice_from: 0, slice_to: SLICES, checkpoint: start }];
        Self { ranges, dead_letters: Vec::new(), ..self.clone() }
    }
}

/// The views that are served.
const SERVED: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('projection', projection, 'version', version, 'number', number, \
            'ranges', (SELECT json_agg(json_build_object('slice_from', slice_from, 'slice_to', slice_to, \
                'log_id', log_id, 'epoch', epoch, 'position', position, 'event_id', event_id) ORDER BY slice_from) \
                FROM view_ranges WHERE generation = view.generation), \
            'dead_letters', (SELECT coalesce(json_agg(json_build_object('key', key, 'position', position, \
                'event_id', event_id, 'event_type', event_type, 'error', error, 'created_at', created_at)), '[]') \
                FROM view_dead_letters WHERE generation = view.generation))::text \
         FROM view_generations AS view WHERE phase = 'live' ORDER BY projection, version",
        "",
    ),
    sqlite: Statements::new(
        "SELECT json_object('projection', projection, 'version', version, 'number', number, \
            'ranges', json((SELECT json_group_array(json_object('slice_from', slice_from, 'slice_to', slice_to, \
                'log_id', log_id, 'epoch', epoch, 'position', position, 'event_id', event_id)) \
                FROM view_ranges WHERE generation = view.generation)), \
            'dead_letters', json((SELECT json_group_array(json_object('key', key, 'position', position, \
                'event_id', event_id, 'event_type', event_type, 'error', error, 'created_at', created_at)) \
                FROM view_dead_letters WHERE generation = view.generation))) \
         FROM view_generations AS view WHERE phase = 'live' ORDER BY projection, version",
        "",
    ),
};

/// The ranges of a generation.
fn ranges(generation: i64) -> Lines {
    let columns = "slice_from, slice_to, log_id, epoch, position, event_id";
    let insert = format!("INSERT INTO view_ranges (generation, {columns}, lease_epoch, updated_at)");
    let postgres = format!(
        "{insert} SELECT {generation}, {columns}, 1, clock_timestamp() FROM json_to_recordset($1::json) AS line \
         (slice_from integer, slice_to integer, log_id uuid, epoch bigint, position bigint, event_id uuid)"
    );
    let sqlite = format!(
        "{insert} SELECT {generation}, value->>'slice_from', value->>'slice_to', value->>'log_id', value->>'epoch', \
            value->>'position', value->>'event_id', 1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM json_each($1)"
    );
    read_only(postgres, sqlite)
}

/// The dead letters of a generation.
fn dead_letters(generation: i64) -> Lines {
    let columns = "key, position, event_id, event_type, error, created_at";
    let insert = format!("INSERT INTO view_dead_letters (generation, {columns})");
    let postgres = format!(
        "{insert} SELECT {generation}, {columns} FROM json_to_recordset($1::json) AS line (key text, position bigint, \
         event_id uuid, event_type text, error text, created_at timestamptz)"
    );
    let sqlite = format!(
        "{insert} SELECT {generation}, value->>'key', value->>'position', value->>'event_id', value->>'event_type', \
            value->>'error', value->>'created_at' FROM json_each($1)"
    );
    read_only(postgres, sqlite)
}

fn read_only(postgres: String, sqlite: String) -> Lines {
    let statements = |read: String| Statements { write: "".into(), read: read.into() };
    Lines { postgres: statements(postgres), sqlite: statements(sqlite) }
}

/// The documents of a view.
pub(crate) fn documents(name: &str) -> Lines {
    let postgres = Statements {
        write: format!(
            "SELECT json_build_object('key', key, 'body', body, 'position', position, 'revision', revision)::text \
             FROM {name} WHERE body IS NOT NULL"
        )
        .into(),
        read: format!(
            "INSERT INTO {name} (key, body, position, revision) SELECT key, body, position, revision \
             FROM json_to_recordset($1::json) AS line (key text, body jsonb, position bigint, revision bigint)"
        )
        .into(),
    };
    let sqlite = Statements {
        write: format!(
            "SELECT json_object('key', key, 'body', json(body), 'position', position, 'revision', revision) \
             FROM {name} WHERE body IS NOT NULL"
        )
        .into(),
        read: format!(
            "INSERT INTO {name} (key, body, position, revision) \
             SELECT value->>'key', value->'body', value->>'position', value->>'revision' FROM json_each($1)"
        )
        .into(),
    };
    Lines { postgres, sqlite }
}

/// How far all views that are served had come in a state of their database.
///
/// # Errors
///
/// When it is away.
pub async fn reached(snapshot: &mut Snapshot) -> Result<Vec<Reached>, ViewError> {
    let lines = snapshot.write_all(&SERVED).await?;
    let reached = |line: String| serde_json::from_str(&line).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    Ok(lines.into_iter().map(reached).collect::<Result<_, _>>()?)
}

/// A view that is put behind a log that was restored. Nobody sees anything of it before [`finish`](Self::finish).
pub struct Restoring {
    loading: Loading,
    /// The generation that takes the place of the one that is there.
    generation: Option<i64>,
    /// Those that go, and their tables.
    outlived: Vec<(i64, String)>,
    documents: Lines,
}

impl Restoring {
    /// Writes documents.
    ///
    /// # Errors
    ///
    /// When the database does not take them.
    pub async fn documents(&mut self, lines: &[String]) -> Result<(), ViewError> {
        Ok(self.loading.read(&self.documents, lines).await?)
    }

    /// Lets the projection go on from there. Whoever writes the view and does not know of this can no longer.
    ///
    /// # Errors
    ///
    /// When the database does not take it.
    pub async fn finish(mut self, reached: &Reached) -> Result<(), ViewError> {
        let Reached { projection, version, .. } = reached;
        let same = format!("projection = '{projection}' AND version = {version}");
        // None but the one that is served is put behind the log: those that are built are begun again.
        let given_up = format!(
            "UPDATE view_generations SET phase = CASE phase WHEN 'retired' THEN 'dropped' ELSE 'aborted' END \
             WHERE {same} AND phase IN ('replay', 'catch_up', 'verify', 'held', 'retired')"
        );
        match self.generation {
            Some(generation) => {
                let lines = |rows: Vec<serde_json::Result<String>>| {
                    let encoded = rows.into_iter().collect::<Result<Vec<_>, _>>();
                    encoded.map_err(|error| sqlx::Error::Encode(Box::new(error)))
                };
                let rows = lines(reached.ranges.iter().map(serde_json::to_string).collect())?;
                self.loading.execute(&format!("DELETE FROM view_ranges WHERE generation = {generation}")).await?;
                self.loading.read(&ranges(generation), &rows).await?;
                let rows = lines(reached.dead_letters.iter().map(serde_json::to_string).collect())?;
                self.loading.read(&dead_letters(generation), &rows).await?;
                let others = format!("{given_up} AND generation <> {generation}");
                self.loading.execute(&others).await?;
                for (phase, which) in
                    [("dropped", "phase = 'live'".to_owned()), ("live", format!("generation = {generation}"))]
                {
                    let sql = format!("UPDATE view_generations SET phase = '{phase}' WHERE {same} AND {which}");
                    self.loading.execute(&sql).await?;
                }
            }
            None => {
                self.loading.execute(&given_up).await?;
                for ReachedRange { slice_from, checkpoint, .. } in &reached.ranges {
                    let Checkpoint { log_id, epoch, .. } = checkpoint;
                    let sql = format!(
                        "UPDATE view_ranges SET log_id = '{log_id}', epoch = {epoch}, lease_epoch = lease_epoch + 1, \
                            lease_owner = NULL, lease_until = NULL, stopped_reason = NULL, stopped_position = NULL \
                         WHERE slice_from = {slice_from} AND generation = \
                            (SELECT generation FROM view_generations WHERE {same} AND phase = 'live')"
                    );
                    self.loading.execute(&sql).await?;
                }
            }
        }
        for (id, table) in &self.outlived {
            self.loading.execute(&format!("DROP TABLE IF EXISTS {table}")).await?;
            for known in KNOWN_OF_DOCUMENTS {
                self.loading.execute(&format!("DELETE FROM {known} WHERE generation = {id}")).await?;
            }
        }
        Ok(self.loading.commit().await?)
    }
}

/// The tables of the views that a program has.
pub struct Tables(Vec<Table>);

impl Tables {
    /// Those of `projections`.
    ///
    /// # Errors
    ///
    /// [`ViewError::Spec`] when one cannot be stored.
    pub fn of<'a>(projections: impl Iterator<Item = &'a ProjectionSpec>) -> Result<Self, ViewError> {
        projections.map(Table::new).collect::<Result<_, _>>().map(Self)
    }

    fn find(&self, reached: &Reached) -> Option<&Table> {
        let is_it = |table: &&Table| table.projection == reached.projection && table.version == reached.version;
        self.0.iter().find(is_it)
    }

    /// The documents of a view as lines; `None` when this program does not have it in this version.
    pub fn documents(&self, reached: &Reached) -> Option<Lines> {
        self.find(reached).map(|table| documents(&table.name_of(reached.number)))
    }

    /// Begins to put a view behind a log that was restored: with the documents that it has, when `as_it_is`, and else
    /// with none. A projection that this program does not have can only stay as it is.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn restore(
        &self,
        database: &Database,
        reached: &Reached,
        as_it_is: bool,
    ) -> Result<Restoring, ViewError> {
        let store = store(database.clone());
        let generations = store.generations(&reached.projection).await?;
        let table = self.find(reached);
        let generation = match table.filter(|_| !as_it_is) {
            Some(table) => begin(&*store, table, reached).await?,
            None => None,
        };
        let goes = |one: &&Generation| {
            let is_replaced = one.phase == Phase::Live && generation.is_some();
            one.version == reached.version && (one.phase.is_built() || one.phase == Phase::Retired || is_replaced)
        };
        let outlived = generations.iter().filter(goes);
        let outlived = outlived.filter_map(|one| Some((one.id, table?.name_of(one.number)))).collect();
        let number = generation.as_ref().map_or(reached.number, |generation| generation.number);
        let name = self.find(reached).map(|table| table.name_of(number)).unwrap_or_default();
        let (generation, documents) = (generation.map(|generation| generation.id), documents(&name));
        Ok(Restoring { loading: database.load().await?, generation, outlived, documents })
    }
}

/// Begins a generation that nobody serves yet, in place of any that is being built.
async fn begin(store: &dyn Store, table: &Table, reached: &Reached) -> Result<Option<Generation>, ViewError> {
    let Some(range) = reached.ranges.first() else { return Ok(None) };
    let new = NewGeneration {
        phase: Phase::Retired,
        shards: 1,
        confirm_diff: false,
        started_by: "restore".to_owned(),
        start: range.checkpoint,
    };
    Ok(store.begin(table, &new).await?)
}
