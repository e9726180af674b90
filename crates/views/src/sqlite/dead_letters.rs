//! What a commit does about dead letters.

use sqlx::SqliteConnection;

use crate::store::Commit;

/// Removes those that are none any more, and writes those that are.
pub(crate) async fn write(connection: &mut SqliteConnection, commit: &Commit<'_>) -> Result<(), sqlx::Error> {
    if let Some(revived) = commit.revived {
        sqlx::query("DELETE FROM view_dead_letters WHERE generation = $1 AND key = $2 AND position <= $3")
            .bind(commit.generation)
            .bind(&revived.key)
            .bind(revived.through.to_i64())
            .execute(&mut *connection)
            .await?;
    }
    for letter in commit.parked {
        sqlx::query(
            "INSERT INTO view_dead_letters (generation, key, position, event_id, event_type, error, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) \
             ON CONFLICT (generation, key, position) DO UPDATE SET error = excluded.error",
        )
        .bind(commit.generation)
        .bind(&letter.key)
        .bind(letter.position.to_i64())
        .bind(letter.event_id.hyphenated())
        .bind(&letter.event_type)
        .bind(letter.error.as_deref())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
