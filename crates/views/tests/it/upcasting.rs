//! A projection folds the newest version of each event, whatever version was recorded.

use daybook_core::{Access, Envelope, Event, Keys, Projection, ProjectionSpec, Upcaster, event_set, projection};
use daybook_database::{Database, Location, on_both};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::world::{World, at_least, event, raw, start, until};

on_both!(
    &[Schema::Log, Schema::Views],
    all_versions_of_an_event_are_folded_as_the_newest,
    an_event_that_cannot_be_lifted_stops_its_projection_there,
);

/// Once it was `{"by": 2}`, then `{"change": 2}`, now it says what the change was for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Changed {
    change: i64,
    reason: String,
}

impl Event for Changed {
    const TYPE: &'static str = "counter.changed";
    const VERSION: u32 = 3;
    const UPCASTERS: &'static [Upcaster] = &[
        Upcaster {
            schema: "{}",
            lift: |payload| {
                let change = payload.remove("by").filter(Value::is_i64).ok_or("it does not say by how much")?;
                payload.insert("change".into(), change);
                Ok(())
            },
        },
        Upcaster {
            schema: "{}",
            lift: |payload| {
                payload.insert("reason".into(), "unknown".into());
                Ok(())
            },
        },
    ];
}

event_set! {
    enum ChangedOnly { Changed }
}

/// What each change of a counter was.
struct Changes;

impl Projection for Changes {
    type Event = ChangedOnly;
    type View = Vec<(i64, String)>;

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "changes",
            version: 1,
            summary: "The changes.",
            category: "counter",
            fields: &[],
            indexes: &[],
            access: Access::anyone(),
            owner: None,
        }
    }

    fn keys(event: &Envelope<'_, ChangedOnly>, keys: &mut Keys) {
        keys.add(event.record.stream.id());
    }

    fn apply(_: &str, view: &mut Option<Self::View>, event: &Envelope<'_, ChangedOnly>) {
        let ChangedOnly::Changed(Changed { change, reason }) = &event.event;
        view.get_or_insert_default().push((*change, reason.clone()));
    }
}

async fn all_versions_of_an_event_are_folded_as_the_newest(_: Location, database: Database) {
    let world = World::new(database).await;
    let events = vec![
        raw("a", "counter.changed", 1, r#"{"by":2}"#),
        raw("a", "counter.changed", 2, r#"{"change":-1}"#),
        event("a", &Changed { change: 5, reason: "a gift".into() }),
        raw("a", "counter.changed", 1, r#"{"by":3}"#),
    ];
    let last = world.append(events).await;
    let views = world.views_of::<ChangedOnly>(&[projection::<Changes>()]);
    let projectors = start(&views, 3);
    let answer = views.get("changes", "a", at_least(last)).await.expect("in time");
    let body = answer.data.expect("the document").body;
    assert_eq!(body.get().replace(' ', ""), r#"[[2,"unknown"],[-1,"unknown"],[5,"agift"],[3,"unknown"]]"#);
    projectors.stop().await;
    world.log.close().await;
}

async fn an_event_that_cannot_be_lifted_stops_its_projection_there(_: Location, database: Database) {
    let world = World::new(database).await;
    world.append(vec![raw("a", "counter.changed", 1, r#"{"by":2}"#)]).await;
    let bad = world.append(vec![raw("a", "counter.changed", 1, r#"{"by":"two"}"#)]).await;
    let views = world.views_of::<ChangedOnly>(&[projection::<Changes>()]);
    let projectors = start(&views, 1_000);
    let status = until(&views, "changes", |status| status.stopped.is_some()).await;
    let stopped = status.stopped.expect("just seen");
    assert_eq!((stopped.position, status.position.plus(1)), (bad, bad));
    let reason = "it cannot be lifted from version 1 to 2: it does not say by how much";
    assert!(stopped.reason.ends_with(reason), "{}", stopped.reason);
    projectors.stop().await;
    world.log.close().await;
}
