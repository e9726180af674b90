//! The usual lists are ranges of an index, however many documents there are, and nothing is sorted.

use daybook_database::{Database, Location, on_both};
use sqlx::{AssertSqlSafe, Connection, Row as _};

use super::*;
use crate::testing::Ready;

on_both!(&[Schema::Views], the_usual_lists_are_ranges_of_an_index);

/// Lists, whose they are, and the index that each is a range of.
const LISTS: [(&str, Option<&str>, &str); 14] = [
    ("", None, "pkey"),
    ("sort=-placed_at", Some("c7"), "customer_id_placed_at"),
    ("sort=placed_at&placed_at.gte=2026-01-05T00:00:00Z", Some("c7"), "customer_id_placed_at"),
    ("status=placed&sort=-placed_at", Some("c7"), "customer_id_placed_at"),
    ("customer_id=c7&sort=-placed_at", None, "customer_id_placed_at"),
    ("sort=-placed_at", None, "placed_at"),
    ("placed_at.lt=2026-01-05T00:00:00Z&sort=-placed_at", None, "placed_at"),
    ("status=placed&sort=-placed_at", None, "status_placed_at"),
    ("status=placed&placed_at.lt=2026-01-05T00:00:00Z&sort=-placed_at", None, "status_placed_at"),
    ("status.in=placed,confirmed&sort=-placed_at", None, "status_placed_at"),
    ("status=placed&total.gte=500&sort=total", None, "status_total"),
    ("status=placed", None, "status"),
    ("sort=total", None, "total"),
    ("total.lt=10&sort=-total", None, "total"),
];

async fn the_usual_lists_are_ranges_of_an_index(_: Location, database: Database) {
    let ready = Ready::new(database.clone(), &table()).await;
    match &database {
        Database::Postgres(_) => fill_postgres(&database, &ready.table).await,
        Database::Sqlite(_) => fill_sqlite(&database).await,
    }
    // What was dropped to be filled.
    ready.store.finish_replay(ready.generation, &ready.table, 1).await.expect("the indexes are made");
    run(&database, "ANALYZE view_orders_v1_g1").await;
    for (query, owner, index) in LISTS {
        let first = Selection { owner: owner.map(str::to_owned), ..selection(query) };
        let value = first.sort.map(|sort| match sort.field.name {
            "placed_at" => FieldValue::Text("2026-01-06T00:00:00.000000Z".into()),
            _ => FieldValue::Integer(700),
        });
        let deep = Selection { after: cursor("k0000500000", value), ..first.clone() };
        for selection in [first, deep] {
            for plan in plans(&database, &ready, &selection).await {
                let name = format!("view_orders_v1_g1_{index}");
                let index_is_used = match &database {
                    Database::Sqlite(_) if index == "pkey" => {
                        plan.contains("sqlite_autoindex_view_orders_v1_g1_1")
                    }
                    _ => plan.split_whitespace().any(|word| word == name || word == format!("{name}_idx")),
                };
                assert!(index_is_used, "`{query}` of {owner:?} is not a range of {name}:\n{plan}");
                let sorts = plan.contains("Sort") || plan.contains("TEMP B-TREE");
                assert!(!sorts, "`{query}` of {owner:?} is sorted:\n{plan}");
                let removed = plan.lines().filter_map(|line| line.trim().strip_prefix("Rows Removed by Filter: "));
                let removed: usize = removed.map(|count| count.parse::<usize>().expect("a number")).sum();
                assert!(removed < 1_000, "`{query}` of {owner:?} reads what it does not want:\n{plan}");
                let scans = plan.contains("Seq Scan on view_") || plan.contains("SCAN view_orders_v1_g1\n");
                assert!(!scans, "`{query}` of {owner:?} reads everything:\n{plan}");
            }
        }
    }
}

/// A million orders of a hundred thousand customers, over eleven days. Only the oldest are not confirmed yet, which
/// statistics do not know.
async fn fill_postgres(database: &Database, table: &Table) {
    for index in &table.indexes {
        run(database, &format!("DROP INDEX {}", table.index_name(index))).await;
    }
    // Not logged, since nobody has to find it again.
    run(database, "ALTER TABLE view_orders_v1_g1 SET UNLOGGED").await;
    run(
        database,
        "INSERT INTO view_orders_v1_g1 (key, body, position, revision) \
         SELECT 'k' || lpad(n::text, 10, '0'), \
                ('{\"customer_id\":\"c' || n % 99991 || '\",\"status\":\"' \
                 || CASE WHEN n <= 10000 THEN 'placed' WHEN n % 10 = 0 THEN 'cancelled' ELSE 'confirmed' END \
                 || '\",\"total\":{\"amount\":' || n::bigint * 7919 % 1000 || '},\"placed_at\":\"2026-01-' \
                 || lpad((1 + n / 100000)::text, 2, '0') || 'T09:15:00.' || lpad((n % 1000000)::text, 6, '0') \
                 || 'Z\",\"open\":true}')::jsonb, n, 1 \
         FROM generate_series(1, 1000000) AS n",
    )
    .await;
}

async fn fill_sqlite(database: &Database) {
    run(
        database,
        "INSERT INTO view_orders_v1_g1 (key, body, position, revision) \
         WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 20000) \
         SELECT printf('k%010d', n), \
                json_object('customer_id', printf('c%d', n % 1999), \
                    'status', CASE WHEN n <= 200 THEN 'placed' ELSE 'confirmed' END, \
                    'total', json_object('amount', n * 7919 % 1000), \
                    'placed_at', printf('2026-01-%02dT09:15:00.%06dZ', 1 + n / 2000, n), 'open', json('true')), n, 1 \
         FROM number",
    )
    .await;
}

async fn run(database: &Database, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    match database {
        Database::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(drop),
        Database::Sqlite(file) => sqlx::query(sql).execute(file.writer()).await.map(drop),
    }
    .expect("the statement runs");
}

/// The plans of a selection: on PostgreSQL the one for these values, and the one for any.
async fn plans(database: &Database, ready: &Ready, selection: &Selection) -> Vec<String> {
    match database {
        Database::Postgres(pool) => {
            let (sql, parameters) = select_sql(Dialect::Postgres, &ready.table, selection);
            let values: String = parameters.iter().map(|value| format!(", {}", literal(value))).collect();
            let mut connection = pool.acquire().await.expect("a connection");
            let mut transaction = connection.begin().await.expect("begins");
            let mut plans = Vec::new();
            for mode in ["force_custom_plan", "force_generic_plan"] {
                for statement in [
                    format!("SET LOCAL plan_cache_mode = {mode}"),
                    "DEALLOCATE ALL".to_owned(),
                    format!("PREPARE listed AS {sql}"),
                ] {
                    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await.expect("it runs");
                }
                let explain = format!(
                    "EXPLAIN (ANALYZE, TIMING OFF) EXECUTE listed ({}, 'orders', 1{values})",
                    ready.generation
                );
                let lines =
                    sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *transaction).await.expect("a plan");
                plans.push(lines.iter().map(|line| line.get::<String, _>(0) + "\n").collect());
            }
            plans
        }
        Database::Sqlite(file) => {
            let (sql, _) = select_sql(Dialect::Sqlite, &ready.table, selection);
            let lines = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(file.readers());
            let lines = lines.await.expect("a plan");
            vec![lines.iter().map(|line| line.get::<String, _>("detail") + "\n").collect()]
        }
    }
}

fn literal(value: &FieldValue) -> String {
    match value {
        FieldValue::Text(text) => format!("'{text}'"),
        FieldValue::Integer(integer) => integer.to_string(),
        FieldValue::Bool(yes) => yes.to_string(),
    }
}
