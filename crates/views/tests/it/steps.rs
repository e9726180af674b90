//! A projection is tried out on the log, and nothing is written.

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Effect, Step, Views, Window};
use serde_json::{Value, json};

use crate::domain::{Added, Closed, Counters, Moved, Superstitious};
use crate::world::{World, at_least, event, metadata, start};

on_both!(
    &[Schema::Log, Schema::Views],
    each_event_says_what_it_changes,
    what_cannot_be_applied_is_said_where_it_is,
);

async fn steps(views: &Views, view: &str, key: Option<&str>, from: u64, limit: usize) -> Vec<Step> {
    let window = Window { key: key.map(str::to_owned), from: Position::new(from), limit };
    views.steps(view, &window).await.expect("an answer")
}

fn shown(steps: &[Step]) -> Vec<(u64, Value)> {
    let documents = |step: &Step| {
        let shown = step.documents.iter().map(|touched| match &touched.effect {
            Effect::Changes { fields } => {
                let fields: Vec<_> = fields.iter().map(|one| json!([one.field, one.before, one.after])).collect();
                json!([touched.key, fields])
            }
            Effect::Fails { error } => json!([touched.key, error]),
            Effect::Parked => json!([touched.key, "parked"]),
            Effect::PassedOver => json!([touched.key, "passed over"]),
        });
        shown.collect::<Value>()
    };
    steps.iter().map(|step| (step.position.get(), documents(step))).collect()
}

async fn each_event_says_what_it_changes(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    world
        .append(vec![
            event("a", &Added { by: 1 }),
            event("b", &Added { by: 5 }),
            event("a", &Moved { by: 2, to: "b".into() }),
            event("b", &Closed {}),
            event("b", &Closed {}),
        ])
        .await;
    let found = shown(&steps(&views, "counters", None, 3, 10).await);
    let gone = json!({"owner": null, "sum": {"total": 7}, "events": 2});
    let expected = [
        (
            3,
            json!([
                ["a", [["events", 1, 2], ["sum.total", 1, -1]]],
                ["b", [["events", 1, 2], ["sum.total", 5, 7]]]
            ]),
        ),
        (4, json!([["b", [["", gone, null]]]])),
        (5, json!([["b", []]])),
    ];
    assert_eq!(found, expected);
    assert_eq!(shown(&steps(&views, "counters", Some("a"), 1, 10).await).len(), 2);
    assert_eq!(shown(&steps(&views, "counters", None, 2, 2).await)[1], found[0]);
    assert_eq!(steps(&views, "counters", None, 99, 2).await, []);
    assert_eq!(world.count("SELECT count(*) FROM view_generations").await, 0, "nothing was written");
    world.log.close().await;
}

async fn what_cannot_be_applied_is_said_where_it_is(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Superstitious>()]);
    let last = world.append((12..=14).map(|by| event("a", &Added { by })).collect()).await;
    let found = shown(&steps(&views, "superstitious", None, 1, 10).await);
    assert_eq!(found[0], (1, json!([["all", [["", null, 1]]]])));
    assert!(found[1].1[0][1].as_str().is_some_and(|error| error.contains("thirteen")), "{found:?}");
    assert_eq!(found[2], (3, json!([["all", "parked"]])));
    assert_eq!(shown(&steps(&views, "superstitious", None, 3, 10).await), [(3, json!([["all", "parked"]]))]);

    let projectors = start(&views, 50);
    views.get("superstitious", "all", at_least(last)).await.expect("in time");
    views.skip("superstitious", "all", Position::new(2), &metadata()).await.expect("done");
    projectors.stop().await;
    let found = shown(&steps(&views, "superstitious", None, 2, 10).await);
    assert_eq!(found, [(2, json!([["all", "passed over"]])), (3, json!([["all", [["", 1, 2]]]]))]);
    world.log.close().await;
}
