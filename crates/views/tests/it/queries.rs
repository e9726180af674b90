//! What queries answer, and what they wait for.

use std::time::Duration;

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{AtLeast, PageQuery, ViewError};
use tokio::time::{Instant, timeout};

use crate::domain::{Added, Counter, Counters, Opened, Openings};
use crate::world::{LIMIT, World, at_least, event, start};

on_both!(
    &[Schema::Log, Schema::Views],
    a_view_that_was_never_projected_is_empty,
    a_query_waits_until_the_view_is_far_enough,
    a_query_wakes_when_another_process_projects,
    a_query_that_waits_in_vain_says_how_far_the_view_is,
    nobody_waits_any_more_when_the_views_are_closed,
    an_event_that_is_not_wanted_moves_the_view_too,
    pages_hold_everything_exactly_once_and_only_ones_own,
);

async fn a_view_that_was_never_projected_is_empty(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let answer = views.get("counters", "a", None).await.expect("an answer");
    assert!(answer.data.is_none());
    assert_eq!(answer.position, Position::START);
    let answer = views.page("counters", &PageQuery::default(), None).await.expect("an answer");
    assert!(answer.data.documents.is_empty() && answer.data.next.is_none());
    assert!(matches!(views.get("others", "a", None).await, Err(ViewError::Unknown(name)) if name == "others"));

    let status = views.status().await.expect("available").remove(0);
    assert_eq!((status.position, status.lag_events, status.owners.len()), (Position::START, 0, 0));
    world.log.close().await;
}

async fn a_query_waits_until_the_view_is_far_enough(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 1_000);
    world.append(vec![event("a", &Opened { owner: "me".into() })]).await;
    let waiting = tokio::spawn({
        let views = views.clone();
        async move { views.get("counters", "a", at_least(Position::new(2))).await }
    });
    world.append(vec![event("a", &Added { by: 5 })]).await;
    let answer = waiting.await.expect("no panic").expect("in time");
    let document = answer.data.expect("the document");
    let counter: Counter = serde_json::from_str(document.body.get()).expect("a counter");
    assert_eq!((counter.owner.as_deref(), counter.sum.total), (Some("me"), 5));
    assert_eq!((answer.position, document.position), (Position::new(2), Position::new(2)));
    assert_eq!((document.key.as_str(), document.revision.get()), ("a", 2));
    projectors.stop().await;
    world.log.close().await;
}

async fn a_query_wakes_when_another_process_projects(_: Location, database: Database) {
    let world = World::new(database).await;
    let position = world.append(vec![event("a", &Added { by: 5 })]).await;
    let reader = world.views(&[projection::<Counters<1>>()]);
    let waiting = tokio::spawn(async move { reader.get("counters", "a", at_least(position)).await });
    let projectors = start(&world.views(&[projection::<Counters<1>>()]), 1_000);
    assert!(waiting.await.expect("no panic").expect("in time").data.is_some());
    projectors.stop().await;
    world.log.close().await;
}

async fn a_query_that_waits_in_vain_says_how_far_the_view_is(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let position = world.append(vec![event("a", &Added { by: 5 })]).await;
    let soon = |position| Some(AtLeast { position, deadline: Instant::now() + Duration::from_millis(30) });
    let reached = |answer| match answer {
        Err(ViewError::NotYet { reached }) => reached,
        other => panic!("not told: {other:?}"),
    };
    assert_eq!(reached(views.get("counters", "a", soon(position)).await), Position::START);

    let projectors = start(&views, 1_000);
    views.get("counters", "a", at_least(position)).await.expect("in time");
    let begun = Instant::now();
    assert_eq!(reached(views.get("counters", "a", soon(position.plus(1))).await), position);
    assert!(begun.elapsed() < LIMIT, "waited past its deadline");
    projectors.stop().await;
    world.log.close().await;
}

async fn nobody_waits_any_more_when_the_views_are_closed(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let position = world.append(vec![event("a", &Added { by: 5 })]).await;
    let far = move || Some(AtLeast { position, deadline: Instant::now() + LIMIT * 10 });
    let reader = views.clone();
    let waiting = tokio::spawn(async move { reader.get("counters", "a", far()).await });
    views.close();
    let answers = async { [waiting.await.expect("no panic"), views.get("counters", "a", far()).await] };
    let answers = timeout(LIMIT, answers).await.expect("at once");
    assert!(answers.iter().all(|answer| matches!(answer, Err(ViewError::NotYet { .. }))), "{answers:?}");
    views.get("counters", "a", None).await.expect("reading goes on");
    world.log.close().await;
}

async fn an_event_that_is_not_wanted_moves_the_view_too(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Openings>()]);
    let projectors = start(&views, 2);
    world.append(vec![event("a", &Opened { owner: "me".into() })]).await;
    let last = world.append((0..5).map(|_| event("a", &Added { by: 1 })).collect()).await;
    let answer = views.get("openings", "all", at_least(last)).await.expect("in time");
    let document = answer.data.expect("the document");
    assert_eq!((answer.position, document.position), (last, Position::new(1)));
    assert_eq!(document.body.get(), "1");
    projectors.stop().await;
    world.log.close().await;
}

async fn pages_hold_everything_exactly_once_and_only_ones_own(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>(), projection::<Openings>()]);
    let projectors = start(&views, 1_000);
    let opened = |n: u32| event(&format!("{n:03}"), &Opened { owner: format!("owner {}", n % 3) });
    let last = world.append((0..250).map(opened).collect()).await;

    for (owner, expected) in [(None, 250), (Some("owner 1"), 83), (Some("owner 9"), 0)] {
        let mut query = PageQuery { owner: owner.map(str::to_owned), limit: 1_000, ..PageQuery::default() };
        let mut keys = Vec::new();
        let mut pages = 0;
        loop {
            let page = views.page("counters", &query, at_least(last)).await.expect("in time").data;
            assert!(page.documents.len() <= PageQuery::LIMIT_MAX as usize);
            pages += 1;
            keys.extend(page.documents.into_iter().map(|document| document.key));
            let Some(next) = page.next else { break };
            // As it goes through a client's hands.
            let token = serde_json::to_string(&next).expect("JSON");
            query.after = Some(serde_json::from_str(&token).expect("the same cursor"));
        }
        assert_eq!(keys.len(), expected, "{owner:?}");
        assert!(keys.is_sorted_by(|a, b| a < b), "{owner:?}");
        assert_eq!(pages, expected.div_ceil(100).max(1), "{owner:?}");
    }
    let query = PageQuery { owner: Some("owner 1".into()), limit: 10, ..PageQuery::default() };
    let page = views.page("openings", &query, at_least(last)).await.expect("in time").data;
    assert!(page.documents.is_empty(), "what nobody owns is nobody's own");
    projectors.stop().await;
    world.log.close().await;
}
