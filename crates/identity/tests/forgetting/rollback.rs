//! What follows the log notices when it was rolled back, and takes nothing of it for granted (invariant L11).

use daybook_core::account_subject;
use daybook_database::testing::wait_for;
use daybook_database::{Database, Location, on_both};
use daybook_identity::IdentityError;

use crate::{ERASED, forget, restore_key, start, stored_key, without_identity};

on_both!(
    &[Schema::Log, Schema::Keys],
    no_token_is_taken_once_the_log_was_rolled_back,
    who_was_forgotten_in_a_log_that_was_rolled_back_is_forgotten_at_the_next_start,
);

/// Takes the log back to where it ended at a position, as putting an older backup in its place does.
async fn roll_back(database: &Database, position: u64) {
    let delete = format!("DELETE FROM events WHERE position > {position}");
    let sql = sqlx::AssertSqlSafe(match database {
        Database::Postgres(_) => format!(
            "ALTER TABLE events DISABLE TRIGGER events_never_change; {delete}; \
             ALTER TABLE events ENABLE ALWAYS TRIGGER events_never_change"
        ),
        Database::Sqlite(_) => format!("DROP TRIGGER events_never_delete; {delete}"),
    });
    match database {
        Database::Postgres(pool) => sqlx::raw_sql(sql).execute(pool).await.map(drop),
        Database::Sqlite(file) => sqlx::raw_sql(sql).execute(file.writer()).await.map(drop),
    }
    .expect("whoever owns the database can do anything");
}

async fn no_token_is_taken_once_the_log_was_rolled_back(_: Location, database: Database) {
    let process = start(&database).await;
    process.register().await.expect("registers");
    let token = process.login().await.expect("signs in").access_token;
    let head = process.log.head().await.expect("a head").position;
    process.identity.forgotten(head).await.expect("followed");
    process.identity.authenticate(&token).expect("genuine");
    // What stands behind is gone, and perhaps a revocation with it.
    roll_back(&database, 1).await;
    let error = wait_for("a refusal", || async { process.identity.authenticate(&token).err() }).await;
    assert!(matches!(error, IdentityError::Unavailable(_)), "{error}");
    process.stop().await;
}

async fn who_was_forgotten_in_a_log_that_was_rolled_back_is_forgotten_at_the_next_start(
    _: Location,
    database: Database,
) {
    let process = start(&database).await;
    let account_id = process.register().await.expect("registers");
    let key = stored_key(&database, account_id).await;
    let registered = process.log.head().await.expect("a head").position;
    let mut reached = registered;
    for _ in 0..3 {
        process.login().await.expect("signs in");
        reached = process.log.head().await.expect("a head").position;
    }
    process.identity.forgotten(reached).await.expect("followed");
    assert!(reached > registered.plus(1));

    // In the history that goes on, it is decided before where the process was; and something else behind that.
    roll_back(&database, registered.get()).await;
    let (log, _, dispatcher) = without_identity(&database).await;
    let mut position = forget(&dispatcher, account_subject(account_id)).await;
    assert!(position < reached);
    while position <= reached {
        position = forget(&dispatcher, "somebody-without-account".into()).await;
    }
    log.close().await;
    // As if whoever decided it had gone away before it was carried out.
    restore_key(&database, account_id, &key).await;
    let carried_out = process.identity.forgotten(position).await;
    assert!(matches!(carried_out, Err(IdentityError::Unavailable(_))), "{carried_out:?}");
    process.stop().await;

    let process = start(&database).await;
    assert_eq!(process.registered_email().await, ERASED);
    assert_eq!(process.events("account.closed").await.len(), 1);
    process.stop().await;
}
