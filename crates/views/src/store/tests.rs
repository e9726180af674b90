//! What both stores must hold to.

use daybook_core::{Access, Field, FieldKind, ProjectionSpec};
use daybook_database::{Fault, Location, fault, on_both};
use uuid::Uuid;

use super::*;

on_both!(
    &[Schema::Views],
    a_writer_with_an_old_lease_can_write_nothing,
    a_writer_that_starts_from_elsewhere_can_write_nothing,
    a_lease_is_held_by_one_until_it_runs_out,
    a_lease_that_is_given_back_is_free_at_once,
    documents_are_written_changed_and_removed,
    fields_are_columns_of_their_types,
    a_field_of_another_type_is_refused_and_nothing_is_written,
    a_table_can_be_made_by_several_at_once,
    a_selection_is_in_the_order_of_keys,
);

const LONG: Duration = Duration::from_secs(600);

const FIELDS: [Field; 3] = [
    Field { name: "owner", path: &["owner"], kind: FieldKind::Text },
    Field { name: "amount", path: &["total", "amount"], kind: FieldKind::Integer },
    Field { name: "order", path: &["order"], kind: FieldKind::Text },
];

fn table() -> Table {
    let spec = ProjectionSpec {
        name: "orders",
        version: 1,
        summary: "",
        category: "order",
        fields: &FIELDS,
        indexes: &[],
        access: Access::anyone(),
        owner: Some("owner"),
    };
    Table::new(&spec).expect("a good declaration")
}

fn at(position: u64) -> Checkpoint {
    let event_id = Uuid::from_u128(u128::from(position));
    Checkpoint { log_id: Uuid::from_u128(7), epoch: 3, position: Position::new(position), event_id }
}

fn put(key: &str, body: &str) -> Changed {
    let (position, revision) = (Position::new(5), Revision::new(2));
    Changed { key: key.into(), body: Some(body.into()), position, revision }
}

fn gone(key: &str) -> Changed {
    Changed { body: None, ..put(key, "") }
}

async fn ready(database: Database) -> (Arc<dyn Store>, Table, Lease) {
    let (store, table) = (store(database), table());
    store.create(&table).await.expect("the table is made");
    let lease = store.acquire(&table, "a", LONG, &at(0)).await.expect("an answer").expect("the lease is free");
    (store, table, lease)
}

async fn all(store: &dyn Store, table: &Table, selection: Selection) -> Vec<String> {
    let selection = Selection { limit: 100, ..selection };
    let selected = store.select(table, &selection).await.expect("an answer");
    selected.rows.into_iter().map(|row| row.key).collect()
}

async fn a_writer_with_an_old_lease_can_write_nothing(_: Location, database: Database) {
    let (store, table, old) = ready(database).await;
    store.release(&table, old.epoch, None).await.expect("given back");
    let new = store.acquire(&table, "b", LONG, &at(0)).await.expect("an answer").expect("the lease is free");
    assert_eq!(new.epoch, old.epoch + 1);

    let commit = |epoch| {
        let (store, table) = (store.clone(), table.clone());
        async move { store.commit(&table, epoch, Position::START, &at(5), &[put("k", "{}")], LONG).await }
    };
    assert!(!commit(old.epoch).await.expect("an answer"));
    let selected = store.select(&table, &Selection { limit: 1, ..Selection::default() }).await.expect("an answer");
    assert!(selected.rows.is_empty());
    assert_eq!(selected.position, Position::START);

    // Nor can it give the lease back that is another's now.
    store.release(&table, old.epoch, None).await.expect("an answer");
    assert!(store.acquire(&table, "c", LONG, &at(0)).await.expect("an answer").is_none());
    assert!(commit(new.epoch).await.expect("an answer"));
}

async fn a_writer_that_starts_from_elsewhere_can_write_nothing(_: Location, database: Database) {
    let (store, table, lease) = ready(database).await;
    let written = store.commit(&table, lease.epoch, Position::new(1), &at(5), &[put("k", "{}")], LONG).await;
    assert!(!written.expect("an answer"));
    assert!(all(store.as_ref(), &table, Selection::default()).await.is_empty());
}

async fn a_lease_is_held_by_one_until_it_runs_out(_: Location, database: Database) {
    let (store, table, first) = ready(database).await;
    assert!(store.acquire(&table, "b", LONG, &at(0)).await.expect("an answer").is_none());
    assert_eq!(store.progress().await.expect("an answer")[0].owner.as_deref(), Some("a"));
    // Its own holder may take it anew.
    let again = store.acquire(&table, "a", LONG, &at(0)).await.expect("an answer").expect("its own lease");
    assert_eq!(again.epoch, first.epoch + 1);

    store.renew("a", Duration::from_millis(1)).await.expect("renewed, for a moment");
    let taken = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(lease) = store.acquire(&table, "b", LONG, &at(0)).await.expect("an answer") {
                break lease;
            }
        }
    });
    assert_eq!(taken.await.expect("it runs out").epoch, again.epoch + 1);
    // Renewing does not bring back what was lost.
    store.renew("a", LONG).await.expect("an answer");
    assert_eq!(store.progress().await.expect("an answer")[0].owner.as_deref(), Some("b"));
}

async fn a_lease_that_is_given_back_is_free_at_once(_: Location, database: Database) {
    let (store, table, lease) = ready(database).await;
    assert!(store.commit(&table, lease.epoch, Position::START, &at(5), &[], LONG).await.expect("an answer"));
    let stopped = Stopped { position: Position::new(6), reason: "broken".into() };
    store.release(&table, lease.epoch, Some(&stopped)).await.expect("given back");
    let progress = store.progress().await.expect("an answer").remove(0);
    assert_eq!((progress.owner, progress.stopped), (None, Some(stopped)));

    // The next holder goes on where the view is, whatever the log's beginning, and tries anew.
    let next = store.acquire(&table, "b", LONG, &at(0)).await.expect("an answer").expect("the lease is free");
    assert_eq!(next.checkpoint, at(5));
    assert_eq!(store.progress().await.expect("an answer")[0].stopped, None);
}

async fn documents_are_written_changed_and_removed(_: Location, database: Database) {
    let (store, table, lease) = ready(database).await;
    let body = r#"{"note":"ä \"quoted\" \\ 'single' \n line"}"#;
    let first = [put("a", body), put("b", "{}"), put("c", "{}")];
    assert!(store.commit(&table, lease.epoch, Position::START, &at(5), &first, LONG).await.expect("an answer"));
    let second = [put("a", r#"{"note":"new"}"#), gone("b"), gone("never")];
    assert!(store.commit(&table, lease.epoch, Position::new(5), &at(6), &second, LONG).await.expect("an answer"));

    let keys: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let stored = store.stored(&table, &keys).await.expect("an answer");
    let json = |key: &str| -> serde_json::Value { serde_json::from_str(&stored[key].0).expect("JSON") };
    assert_eq!(stored.len(), 2);
    assert_eq!((json("a"), stored["a"].1), (serde_json::json!({"note": "new"}), Revision::new(2)));
    assert_eq!(json("c"), serde_json::json!({}));

    assert!(
        store
            .commit(&table, lease.epoch, Position::new(6), &at(7), &[put("a", body)], LONG)
            .await
            .expect("an answer")
    );
    let selection = Selection { key: Some("a".into()), limit: 1, ..Selection::default() };
    let selected = store.select(&table, &selection).await.expect("an answer");
    let row = &selected.rows[0];
    assert_eq!((selected.position, row.position), (Position::new(7), Position::new(5)));
    let read: serde_json::Value = serde_json::from_str(&row.body).expect("JSON");
    assert_eq!(read, serde_json::from_str::<serde_json::Value>(body).expect("JSON"));
}

async fn fields_are_columns_of_their_types(_: Location, database: Database) {
    let (store, table, lease) = ready(database.clone()).await;
    let documents = [
        put("a", r#"{"owner":"me","order":"x","total":{"amount":9}}"#),
        put("b", r#"{"owner":null,"total":{"amount":10}}"#),
        put("c", r#"{"total":{}}"#),
    ];
    assert!(
        store.commit(&table, lease.epoch, Position::START, &at(5), &documents, LONG).await.expect("an answer")
    );
    let sql = "SELECT key, owner, amount, \"order\" FROM view_orders_v1 ORDER BY amount, key";
    type Columns = (String, Option<String>, Option<i64>, Option<String>);
    let rows: Vec<Columns> = match &database {
        Database::Postgres(pool) => {
            let sql = sql.replace("amount, key", "amount NULLS FIRST, key");
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await
        }
        Database::Sqlite(file) => sqlx::query_as(sql).fetch_all(file.readers()).await,
    }
    .expect("an answer");
    let row = |key: &str, owner: Option<&str>, amount, order: Option<&str>| {
        (key.to_owned(), owner.map(str::to_owned), amount, order.map(str::to_owned))
    };
    assert_eq!(
        rows,
        [row("c", None, None, None), row("a", Some("me"), Some(9), Some("x")), row("b", None, Some(10), None)]
    );
}

async fn a_field_of_another_type_is_refused_and_nothing_is_written(_: Location, database: Database) {
    let (store, table, lease) = ready(database).await;
    for body in [
        r#"{"owner":1}"#,
        r#"{"owner":true}"#,
        r#"{"owner":{}}"#,
        r#"{"total":{"amount":"9"}}"#,
        r#"{"total":{"amount":1.5}}"#,
        r#"{"total":{"amount":true}}"#,
    ] {
        let documents = [put("fine", "{}"), put("bad", body)];
        let refused = store.commit(&table, lease.epoch, Position::START, &at(5), &documents, LONG).await;
        assert_eq!(fault(&refused.expect_err(body)), Fault::Data, "{body}");
    }
    let selected = store.select(&table, &Selection { limit: 9, ..Selection::default() }).await.expect("an answer");
    assert_eq!((selected.position, selected.rows.len()), (Position::START, 0));
}

async fn a_table_can_be_made_by_several_at_once(_: Location, database: Database) {
    let (store, table) = (store(database), table());
    assert!(store.columns(&table).await.expect("an answer").is_empty());
    let mut makers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, table) = (store.clone(), table.clone());
        makers.spawn(async move { store.create(&table).await });
    }
    for made in makers.join_all().await {
        made.expect("the table is there");
    }
    assert!(table.has(&store.columns(&table).await.expect("an answer")));
}

async fn a_selection_is_in_the_order_of_keys(_: Location, database: Database) {
    let (store, table, lease) = ready(database).await;
    let mine = r#"{"owner":"me"}"#;
    // In the order of bytes, which is no language's.
    let documents = [put("B", mine), put("a", "{}"), put("ab", mine), put("a-b", mine), put("é", mine)];
    assert!(
        store.commit(&table, lease.epoch, Position::START, &at(5), &documents, LONG).await.expect("an answer")
    );
    let store = store.as_ref();
    assert_eq!(all(store, &table, Selection::default()).await, ["B", "a", "a-b", "ab", "é"]);
    let after = Some(Cursor { key: "a".into(), value: None });
    let owner = Some("me".to_owned());
    let behind_a = Selection { after: after.clone(), ..Selection::default() };
    assert_eq!(all(store, &table, behind_a).await, ["a-b", "ab", "é"]);
    let own = Selection { owner: owner.clone(), ..Selection::default() };
    assert_eq!(all(store, &table, own).await, ["B", "a-b", "ab", "é"]);
    let own_behind_a = Selection { owner: owner.clone(), after, ..Selection::default() };
    assert_eq!(all(store, &table, own_behind_a).await, ["a-b", "ab", "é"]);

    let nobodys = Table { owner: None, ..table.clone() };
    assert!(all(store, &nobodys, Selection { owner, ..Selection::default() }).await.is_empty());
}
