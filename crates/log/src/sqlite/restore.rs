//! Making a log from a backup.

use daybook_core::RecordedEvent;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::time;
use crate::sql::event_columns;

/// The most events of one statement: each number of rows is a statement of its own, which the connection remembers.
const ROWS_MAX: usize = 64;

/// Where the log ends.
pub(crate) async fn newest(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events").fetch_one(connection).await
}

/// Inserts events as they are.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    events: &[RecordedEvent],
) -> Result<(), sqlx::Error> {
    for events in events.chunks(ROWS_MAX) {
        let mut sql = QueryBuilder::<Sqlite>::new(concat!("INSERT INTO events (", event_columns!(), ") "));
        sql.push_values(events, |mut row, event| {
            row.push_bind(event.position.to_i64())
                .push_bind(event.stream.as_str().to_owned())
                .push_bind(event.revision.to_i64())
                .push_bind(event.id.to_string())
                .push_bind(event.event_type.clone())
                .push_bind(event.schema_version)
                .push_bind(time::to_text(event.recorded_at))
                .push_bind(event.metadata.get().to_owned())
                .push_bind(event.payload.get().to_owned());
        });
        sql.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Lets it be another log.
pub(crate) async fn set_identity(
    connection: &mut SqliteConnection,
    log_id: Uuid,
    epoch: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE log_identity SET log_id = $1, epoch = $2")
        .bind(log_id.to_string())
        .bind(epoch.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}
