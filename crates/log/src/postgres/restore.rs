//! Making a log from a backup.

use daybook_core::RecordedEvent;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::sql::event_columns;

/// Keeps all who append out until the transaction ends, and answers where the log ends.
pub(crate) async fn lock(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT FROM log_identity FOR UPDATE").execute(&mut *connection).await?;
    // A statement of its own: one that waited for the lock still sees the log as it was when it began to wait.
    sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events").fetch_one(connection).await
}

/// Inserts events as they are.
pub(crate) async fn insert(connection: &mut PgConnection, events: &[RecordedEvent]) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "INSERT INTO events (",
        event_columns!(),
        ") SELECT position, stream, revision, id, type, schema_version, recorded_at, metadata::json, payload::json \
         FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::int[], $7::timestamptz[], \
            $8::text[], $9::text[]) AS line (",
        event_columns!(),
        ")"
    ))
    .bind(events.iter().map(|event| event.position.to_i64()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.stream.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.revision.to_i64()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.schema_version.cast_signed()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.metadata.get()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.payload.get()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets it be another log, which whoever appended to the one before notices.
pub(crate) async fn set_identity(
    connection: &mut PgConnection,
    log_id: Uuid,
    epoch: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE log_identity SET log_id = $1, epoch = $2, fence = gen_random_uuid(), \
            turn_of = NULL, turn_at = NULL, turn_until = NULL",
    )
    .bind(log_id)
    .bind(epoch.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}
