//! What both stores must hold to.

mod copying;
mod pausing;
mod piecewise;

use daybook_core::{Access, Field, FieldKind, ProjectionSpec};
use daybook_database::testing::{Backend, run};
use daybook_database::{Fault, Location, Schema, fault, on_both};

use super::*;
use crate::generation::Phase;
use crate::mark::Mark;
use crate::ranges::Range;
use crate::testing::{LONG, Ready, new};

on_both!(
    &[Schema::Views],
    a_writer_with_an_old_lease_can_write_nothing,
    a_writer_that_starts_from_elsewhere_can_write_nothing,
    a_lease_is_held_by_one_until_it_runs_out,
    a_lease_that_is_given_back_is_free_at_once,
    documents_are_written_changed_and_removed,
    fields_are_columns_of_their_types,
    a_field_of_another_type_is_refused_and_nothing_is_written,
    what_is_too_long_for_an_index_is_refused_before_that_is_made,
    a_page_is_written_for_all_of_its_ranges_or_for_none,
    a_first_generation_is_begun_by_one_alone,
    a_selection_is_in_the_order_of_keys,
    a_look_reads_what_changed_only_where_that_is_all,
    a_generation_that_is_behind_in_some_slice_is_not_served,
);

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

fn put(key: &str, body: &str) -> Changed {
    let (position, revision) = (Position::new(5), Revision::new(2));
    Changed { key: key.into(), body: Some(body.into()), position, revision }
}

fn gone(key: &str) -> Changed {
    Changed { body: None, ..put(key, "") }
}

impl Ready {
    async fn of_orders(database: Database) -> Self {
        Self::new(database, &table()).await
    }

    async fn all(&self, selection: Selection) -> Vec<String> {
        let selected = self.select(&Selection { limit: 100, ..selection }).await;
        selected.rows.into_iter().map(|row| row.key).collect()
    }

    async fn take(&self, owner: &str, lease_epoch: i64) -> bool {
        let claim = Claim { lease_epoch, ..self.claim };
        self.store.take(self.generation, claim, owner, LONG).await.expect("an answer")
    }

    async fn progress(&self) -> Progress {
        self.store.progress(&[self.generation]).await.expect("an answer").remove(0)
    }
}

async fn a_writer_with_an_old_lease_can_write_nothing(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    ready.store.give_back(ready.generation, ready.claim).await.expect("given back");
    assert!(ready.take("b", 1).await);
    assert!(!ready.commit(&[ready.claim], 0, 5, &[put("k", "{}")]).await.expect("an answer"));
    let selected = ready.select(&Selection { limit: 1, ..Selection::default() }).await;
    assert!(selected.rows.is_empty());
    assert_eq!((selected.position, selected.served), (Position::START, Some(ready.generation)));

    // Nor can it give the lease back that is another's now.
    ready.store.give_back(ready.generation, ready.claim).await.expect("an answer");
    assert!(!ready.take("c", 2).await);
    let new = Claim { lease_epoch: 2, ..ready.claim };
    assert!(ready.commit(&[new], 0, 5, &[put("k", "{}")]).await.expect("an answer"));
}

async fn a_writer_that_starts_from_elsewhere_can_write_nothing(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    assert!(!ready.commit(&[ready.claim], 1, 5, &[put("k", "{}")]).await.expect("an answer"));
    assert!(ready.all(Selection::default()).await.is_empty());
}

async fn a_lease_is_held_by_one_until_it_runs_out(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    assert!(!ready.take("b", 1).await);
    assert_eq!(ready.progress().await.owner.as_deref(), Some("a"));
    // Its own holder may take it anew.
    assert!(ready.take("a", 1).await);

    ready.store.renew("a", Duration::from_millis(1)).await.expect("renewed, for a moment");
    let taken = tokio::time::timeout(Duration::from_secs(10), async { while !ready.take("b", 2).await {} });
    taken.await.expect("it runs out");
    // Renewing does not bring back what was lost.
    ready.store.renew("a", LONG).await.expect("an answer");
    assert_eq!(ready.progress().await.owner.as_deref(), Some("b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_leases_are_renewed_when_that_is_due() {
    run(Backend::Sqlite, &[Schema::Views], |_, database| renewed_when_due(database)).await;
}

async fn renewed_when_due(database: Database) {
    let ready = Ready::of_orders(database.clone()).await;
    let Database::Sqlite(file) = &database else { unreachable!("it was asked for") };
    let ready = &ready;
    // Of the range, and of its worker.
    let renew = async |seconds| {
        ready.store.renew("a", Duration::from_secs(seconds)).await.expect("an answer");
        let sql = "SELECT (SELECT lease_until FROM view_ranges), (SELECT seen_until FROM projector_workers)";
        let until: (String, String) = sqlx::query_as(sql).fetch_one(file.readers()).await.expect("an answer");
        until
    };
    ready.store.board(ready.generation, "a", LONG).await.expect("an answer");
    let shorter = renew(60).await;
    assert_eq!(renew(60).await, shorter, "nearly all of it is left");
    assert_eq!(renew(80).await, shorter, "three quarters are left");
    let renewed = renew(120).await;
    assert!(renewed.0 > shorter.0 && renewed.1 > shorter.1, "half of it is left: {shorter:?}, {renewed:?}");
    // One that is new does not keep others from being renewed.
    ready.store.leave(ready.generation, "a").await.expect("an answer");
    ready.store.board(ready.generation, "a", 2 * Duration::from_secs(120)).await.expect("an answer");
    let both = renew(240).await;
    assert!(both.0 > renewed.0, "{renewed:?}, {both:?}");
}

async fn a_lease_that_is_given_back_is_free_at_once(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    assert!(ready.commit(&[ready.claim], 0, 5, &[]).await.expect("an answer"));
    let stopped = Stopped { position: Position::new(6), reason: "broken".into() };
    let stands_at = Position::new(5);
    ready.store.give_all_back(ready.generation, "a", Some((stands_at, &stopped))).await.expect("given back");
    let progress = ready.progress().await;
    assert_eq!((progress.owner, progress.stopped), (None, Some(stopped)));

    // The next holder goes on where the view is, and tries anew.
    assert!(ready.take("b", 1).await);
    let progress = ready.progress().await;
    assert_eq!((progress.position, progress.stopped), (Position::new(5), None));
}

async fn a_page_is_written_for_all_of_its_ranges_or_for_none(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    ready.store.split(ready.generation, ready.claim, 512).await.expect("cut");
    let board = ready.store.board(ready.generation, "a", LONG).await.expect("an answer").expect("it is there");
    let claims: Vec<Claim> = board.ranges.iter().map(Range::claim).collect();
    assert_eq!(claims.iter().map(|claim| claim.slices.from).collect::<Vec<_>>(), [0, 512]);
    let commit = async |ranges: &[Claim], from: u64, to: u64| {
        ready.commit(ranges, from, to, &[put("k", "{}")]).await.expect("an answer")
    };
    let stranger = Claim { lease_epoch: 9, ..claims[1] };
    assert!(!commit(&[claims[0], stranger], 0, 5).await);
    assert!(ready.all(Selection::default()).await.is_empty());
    assert!(commit(&claims, 0, 5).await);
    assert_eq!(ready.all(Selection::default()).await, ["k"]);

    // What is at different positions stays apart; what is level comes together.
    assert!(commit(&claims[..1], 5, 6).await);
    ready.store.merge(ready.generation, claims[0], claims[1]).await.expect("an answer");
    assert_eq!(
        ready
            .store
            .board(ready.generation, "a", LONG)
            .await
            .expect("an answer")
            .expect("it is there")
            .ranges
            .len(),
        2
    );
    assert!(commit(&claims[1..], 5, 6).await);
    ready.store.merge(ready.generation, claims[0], claims[1]).await.expect("an answer");
    let board = ready.store.board(ready.generation, "a", LONG).await.expect("an answer").expect("it is there");
    assert_eq!(board.ranges.iter().map(|range| range.slices).collect::<Vec<_>>(), [ready.claim.slices]);
}

async fn documents_are_written_changed_and_removed(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    let body = r#"{"note":"ä \"quoted\" \\ 'single' \n line"}"#;
    let first = [put("a", body), put("b", "{}"), put("c", "{}")];
    assert!(ready.commit(&[ready.claim], 0, 5, &first).await.expect("an answer"));
    let second = [put("a", r#"{"note":"new"}"#), gone("b"), gone("never")];
    assert!(ready.commit(&[ready.claim], 5, 6, &second).await.expect("an answer"));

    let keys: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let stored = ready.store.stored(&ready.table, &keys).await.expect("an answer");
    let json = |key: &str| -> serde_json::Value { serde_json::from_str(&stored[key].0).expect("JSON") };
    assert_eq!(stored.len(), 2);
    assert_eq!((json("a"), stored["a"].1), (serde_json::json!({"note": "new"}), Revision::new(2)));
    assert_eq!(json("c"), serde_json::json!({}));

    assert!(ready.commit(&[ready.claim], 6, 7, &[put("a", body)]).await.expect("an answer"));
    let selection = Selection { key: Some("a".into()), limit: 1, ..Selection::default() };
    let selected = ready.select(&selection).await;
    let row = &selected.rows[0];
    assert_eq!((selected.position, row.position), (Position::new(7), Position::new(5)));
    let read: serde_json::Value = serde_json::from_str(&row.body).expect("JSON");
    assert_eq!(read, serde_json::from_str::<serde_json::Value>(body).expect("JSON"));
}

async fn fields_are_columns_of_their_types(_: Location, database: Database) {
    let ready = Ready::of_orders(database.clone()).await;
    let documents = [
        put("a", r#"{"owner":"me","order":"x","total":{"amount":9}}"#),
        put("b", r#"{"owner":null,"total":{"amount":10}}"#),
        put("c", r#"{"total":{}}"#),
    ];
    assert!(ready.commit(&[ready.claim], 0, 5, &documents).await.expect("an answer"));
    let sql = "SELECT key, owner, amount, \"order\" FROM view_orders_v1_g1 ORDER BY amount, key";
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
    let ready = Ready::of_orders(database).await;
    for body in [
        r#"{"owner":1}"#,
        r#"{"owner":true}"#,
        r#"{"owner":{}}"#,
        r#"{"total":{"amount":"9"}}"#,
        r#"{"total":{"amount":1.5}}"#,
        r#"{"total":{"amount":true}}"#,
    ] {
        let documents = [put("fine", "{}"), put("bad", body)];
        let refused = ready.commit(&[ready.claim], 0, 5, &documents).await;
        assert_eq!(fault(&refused.expect_err(body)), Fault::Data, "{body}");
    }
    let selected = ready.select(&Selection { limit: 9, ..Selection::default() }).await;
    assert_eq!((selected.position, selected.rows.len()), (Position::START, 0));
}

async fn what_is_too_long_for_an_index_is_refused_before_that_is_made(_: Location, database: Database) {
    const FIELDS: [Field; 2] = [
        Field { name: "owner", path: &["owner"], kind: FieldKind::Text },
        Field { name: "city", path: &["city"], kind: FieldKind::Text },
    ];
    let spec = ProjectionSpec {
        name: "orders",
        version: 1,
        summary: "",
        category: "order",
        fields: &FIELDS,
        indexes: &[&["owner", "city"]],
        access: Access::anyone(),
        owner: None,
    };
    let view = Table::new(&spec).expect("a good declaration");
    let ready = Ready::begun(database, &view, Phase::Replay).await;
    let document = |key: usize, owner: usize, city: usize| {
        put(&noise(key), &format!(r#"{{"owner":"{}","city":"{}"}}"#, noise(owner), noise(city)))
    };
    let ranges = [ready.claim];
    let to_commit = || Commit { announced: false, ..ready.to_commit(&ranges, 0, 5, &[]) };
    for (key, owner, city) in [(2_401, 0, 0), (1, 2_400, 0), (1, 0, 2_400), (800, 800, 801)] {
        let too_long = Box::new(std::iter::once(Ok(document(key, owner, city))));
        let refused = ready.store.write_bulk(&to_commit(), too_long, true).await;
        assert_eq!(fault(&refused.expect_err("too long")), Fault::Data, "{key}, {owner}, {city}");
    }
    let fit = [(2_400, 0, 0), (1, 2_399, 0), (2, 0, 2_398), (800, 800, 800)];
    let fit = fit.map(|(key, owner, city)| Ok(document(key, owner, city)));
    let written = ready.store.write_bulk(&to_commit(), Box::new(fit.into_iter()), true).await;
    assert!(written.expect("these fit"));
    ready.store.finish_replay(ready.generation, &ready.table, 1).await.expect("the indexes are made");
    assert_eq!(ready.all(Selection::default()).await.len(), 4);
}

/// A text of so many bytes of which nothing can be taken away by packing it.
fn noise(bytes: usize) -> String {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'#' + (state >> 33) as u8 % 57)
    };
    (0..bytes).map(|_| next()).collect()
}

/// As it is where a table was made when nothing was said of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_index_does_not_take_is_data_that_is_refused() {
    run(Backend::Postgres, &[Schema::Views], |_, database| no_place_in_an_index(database)).await;
}

async fn no_place_in_an_index(database: Database) {
    let ready = Ready::of_orders(database.clone()).await;
    let Database::Postgres(pool) = database else { unreachable!("it was asked for") };
    let before = "ALTER TABLE view_orders_v1_g1 DROP CONSTRAINT too_long_for_owner";
    sqlx::query(before).execute(&pool).await.expect("the constraint is there");
    let document = put("k", &format!(r#"{{"owner":"{}"}}"#, noise(3_000)));
    let refused = ready.store.probe(&ready.table, &document).await.expect_err("there is no place for it");
    assert_eq!(fault(&refused), Fault::Data, "{refused}");
}

async fn a_first_generation_is_begun_by_one_alone(_: Location, database: Database) {
    let (store, view) = (store(database), table());
    let mut makers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, view) = (store.clone(), view.clone());
        makers.spawn(async move { store.begin(&view, &new(Phase::Live)).await });
    }
    for begun in makers.join_all().await {
        if let Err(error) = begun {
            assert_eq!(fault(&error), Fault::Duplicate, "{error}");
        }
    }
    assert_eq!(store.generations("orders").await.expect("an answer").len(), 1);
}

async fn a_look_reads_what_changed_only_where_that_is_all(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    for (to, keys) in [(1, vec!["b", "a"]), (2, vec!["a"]), (3, vec!["c"])] {
        let changed: Vec<_> = keys.into_iter().map(|key| put(key, "{}")).collect();
        assert!(ready.commit(&[ready.claim], to - 1, to, &changed).await.expect("an answer"));
    }
    let mark = |position, generation| Mark { position: Position::new(position), generation };
    let look = async |after, commits_max| {
        let look =
            ready.store.look("orders", 1, after, commits_max).await.expect("an answer").expect("it is served");
        assert_eq!((look.mark, look.oldest), (mark(3, ready.generation), Some(Position::new(1))));
        let has_all = after.is_some_and(|after| look.has_all_since(after));
        (look.keys.join(" "), has_all)
    };
    let all = |keys: &str| (keys.to_owned(), true);
    let unknown = (String::new(), false);
    assert_eq!(look(Some(mark(1, ready.generation)), 2).await, all("a c"));
    assert_eq!(look(Some(mark(2, ready.generation)), 2).await, all("c"));
    assert_eq!(look(Some(mark(3, ready.generation)), 2).await, all(""));
    assert_eq!(look(Some(mark(1, ready.generation)), 1).await, unknown, "these are too many");
    assert_eq!(look(Some(mark(0, ready.generation)), 9).await, unknown, "what was before the oldest is not known");
    assert_eq!(look(Some(mark(4, ready.generation)), 9).await, unknown, "it never was so far");
    assert_eq!(look(Some(mark(3, ready.generation + 1)), 9).await, unknown, "another one was served");
    assert_eq!(look(None, 9).await, unknown);
}

async fn a_selection_is_in_the_order_of_keys(_: Location, database: Database) {
    let ready = Ready::of_orders(database).await;
    let mine = r#"{"owner":"me"}"#;
    // In the order of bytes, which is no language's.
    let documents = [put("B", mine), put("a", "{}"), put("ab", mine), put("a-b", mine), put("é", mine)];
    assert!(ready.commit(&[ready.claim], 0, 5, &documents).await.expect("an answer"));
    assert_eq!(ready.all(Selection::default()).await, ["B", "a", "a-b", "ab", "é"]);
    let after = Some(Cursor { key: "a".into(), value: None });
    let owner = Some("me".to_owned());
    let behind_a = Selection { after: after.clone(), ..Selection::default() };
    assert_eq!(ready.all(behind_a).await, ["a-b", "ab", "é"]);
    let own = Selection { owner: owner.clone(), ..Selection::default() };
    assert_eq!(ready.all(own).await, ["B", "a-b", "ab", "é"]);
    let own_behind_a = Selection { owner: owner.clone(), after, ..Selection::default() };
    assert_eq!(ready.all(own_behind_a).await, ["a-b", "ab", "é"]);

    let nobodys = Ready { table: Table { owner: None, ..ready.table.clone() }, ..ready };
    assert!(nobodys.all(Selection { owner, ..Selection::default() }).await.is_empty());
}

async fn a_generation_that_is_behind_in_some_slice_is_not_served(_: Location, database: Database) {
    let served = Ready::of_orders(database.clone()).await;
    served.store.split(served.generation, served.claim, 512).await.expect("an answer");
    let board = served.store.board(served.generation, "a", LONG).await.expect("an answer").expect("it is there");
    let claims: Vec<Claim> = board.ranges.iter().map(Range::claim).collect();
    assert_eq!(claims.len(), 2);
    assert!(served.commit(&claims[..1], 0, 5, &[]).await.expect("an answer"));
    assert!(served.commit(&claims[1..], 0, 10, &[]).await.expect("an answer"));
    let built = Ready::begun(database, &table(), Phase::Replay).await;
    let (id, store) = (built.generation, &built.store);
    store.finish_replay(id, &built.table, 1).await.expect("indexed");
    let serve =
        async || store.cut_over((id, Phase::CatchUp), Some((served.generation, true))).await.expect("an answer");
    // Ahead of the lowest of them.
    assert!(built.commit(&[built.claim], 0, 6, &[]).await.expect("an answer"));
    assert!(!serve().await);
    assert!(built.commit(&[built.claim], 6, 10, &[]).await.expect("an answer"));
    assert!(serve().await);
}
