//! What a backup of the views is made of, and how views come to stand behind a log that was restored.
//!
//! A view could always be folded again. With its documents it need not be; and a checkpoint says what its reader has
//! seen, which a log that was restored has to be compared with (invariant L11).

use daybook_core::ProjectionSpec;
use daybook_database::{Database, Lines, Loading, Snapshot, Statements};
use daybook_log::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::ViewError;
use crate::store::store;
use crate::table::Table;

/// How far a projection has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The projection.
    pub projection: String,
    /// Its version.
    pub version: u32,
    /// The last event that it has taken in, and of which log.
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
}

/// The checkpoints. Reading them back in fences whoever writes these views.
const CHECKPOINTS: Lines = Lines {
    postgres: Statements::new(
        "SELECT json_build_object('projection', projection, 'version', version, 'log_id', log_id, 'epoch', epoch, \
            'position', position, 'event_id', event_id)::text \
         FROM projection_checkpoints ORDER BY projection, version",
        "INSERT INTO projection_checkpoints AS held \
            (projection, version, log_id, epoch, position, event_id, lease_epoch, updated_at) \
         SELECT projection, version, log_id, epoch, position, event_id, 1, clock_timestamp() \
         FROM json_to_recordset($1::json) AS line \
            (projection text, version bigint, log_id uuid, epoch bigint, position bigint, event_id uuid) \
         ON CONFLICT (projection, version, slice_from, slice_to) DO UPDATE \
         SET log_id = excluded.log_id, epoch = excluded.epoch, position = excluded.position, \
             event_id = excluded.event_id, lease_owner = NULL, lease_until = NULL, \
             lease_epoch = held.lease_epoch + 1, stopped_reason = NULL, stopped_position = NULL, \
             updated_at = excluded.updated_at",
    ),
    sqlite: Statements::new(
        "SELECT json_object('projection', projection, 'version', version, 'log_id', log_id, 'epoch', epoch, \
            'position', position, 'event_id', event_id) \
         FROM projection_checkpoints ORDER BY projection, version",
        "INSERT INTO projection_checkpoints AS held \
            (projection, version, log_id, epoch, position, event_id, lease_epoch, updated_at) \
         SELECT value->>'projection', value->>'version', value->>'log_id', value->>'epoch', value->>'position', \
            value->>'event_id', 1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
         FROM json_each($1) WHERE TRUE \
         ON CONFLICT (projection, version, slice_from, slice_to) DO UPDATE \
         SET log_id = excluded.log_id, epoch = excluded.epoch, position = excluded.position, \
             event_id = excluded.event_id, lease_owner = NULL, lease_until = NULL, \
             lease_epoch = held.lease_epoch + 1, stopped_reason = NULL, stopped_position = NULL, \
             updated_at = excluded.updated_at",
    ),
};

/// The documents of a view.
fn documents(table: &Table) -> Lines {
    let name = &table.name;
    let postgres = Statements {
        write: format!(
            "SELECT json_build_object('key', key, 'body', body, 'position', position, 'revision', revision)::text \
             FROM {name}"
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
             FROM {name}"
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

/// How far all projections had come in a state of their database.
///
/// # Errors
///
/// When it is away.
pub async fn reached(snapshot: &mut Snapshot) -> Result<Vec<Reached>, ViewError> {
    let lines = snapshot.write_all(&CHECKPOINTS).await?;
    let reached = |line: String| serde_json::from_str(&line).map_err(|error| sqlx::Error::Decode(Box::new(error)));
    Ok(lines.into_iter().map(reached).collect::<Result<_, _>>()?)
}

/// A view that is put behind a log that was restored. Nobody sees anything of it before [`finish`](Self::finish).
pub struct Restoring {
    loading: Loading,
    documents: Option<Lines>,
}

impl Restoring {
    /// Writes documents.
    ///
    /// # Errors
    ///
    /// When the database does not take them.
    pub async fn documents(&mut self, lines: &[String]) -> Result<(), ViewError> {
        match &self.documents {
            Some(table) => Ok(self.loading.read(table, lines).await?),
            None => Ok(()),
        }
    }

    /// Lets the projection go on from there. Whoever writes the view and does not know of this can no longer.
    ///
    /// # Errors
    ///
    /// When the database does not take it.
    pub async fn finish(mut self, reached: &Reached) -> Result<(), ViewError> {
        let line = serde_json::to_string(reached).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        self.loading.read(&CHECKPOINTS, &[line]).await?;
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

    /// The documents of a projection as lines; `None` when this program does not have it in this version.
    pub fn documents(&self, reached: &Reached) -> Option<Lines> {
        self.find(reached).map(documents)
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
        let table = self.find(reached).filter(|_| !as_it_is);
        if let Some(table) = table {
            store(database.clone()).create(table).await?;
        }
        let mut loading = database.load().await?;
        if let Some(table) = table {
            loading.execute(&format!("DELETE FROM {}", table.name)).await?;
        }
        Ok(Restoring { loading, documents: table.map(documents) })
    }
}
