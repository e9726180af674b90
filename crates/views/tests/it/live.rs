//! Readers who follow a view are told of all that changes, or that everything has to be read anew.

use std::collections::BTreeSet;

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Live, Mark, News, Phase, ViewError};

use crate::domain::{Added, Counters};
use crate::world::{LIMIT, World, at_least, event, found, metadata, start};

on_both!(
    &[Schema::Log, Schema::Views],
    who_comes_back_to_another_generation_reads_everything_anew,
    many_readers_keep_up_with_a_burst,
    a_table_that_is_missing_is_not_looked_for_for_ever,
);

fn key(nth: usize) -> String {
    format!("c{nth:02}")
}

async fn next(live: &mut Live) -> News {
    tokio::time::timeout(LIMIT, live.next()).await.expect("in time").expect("it goes on")
}

/// What is told up to a position; nothing where everything has to be read anew.
async fn told(live: &mut Live, through: Position) -> (Mark, Option<BTreeSet<String>>) {
    let mut all = Some(BTreeSet::new());
    loop {
        let News { mark, keys } = next(live).await;
        all = keys.and_then(|keys| {
            let mut all = all?;
            all.extend(keys.iter().cloned());
            Some(all)
        });
        if mark.position >= through {
            return (mark, all);
        }
    }
}

async fn who_comes_back_to_another_generation_reads_everything_anew(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    let add = async |nth| world.append(vec![event(&key(nth), &Added { by: 1 })]).await;
    let first = add(1).await;
    views.get("counters", &key(1), at_least(first)).await.expect("in time");
    let mut live = views.live("counters", None).await.expect("followed");
    let (known, _) = told(&mut live, first).await;
    drop(live);

    let second = add(2).await;
    views.get("counters", &key(2), at_least(second)).await.expect("in time");
    let resumed = async |after| next(&mut views.live("counters", after).await.expect("followed")).await;
    let missed = resumed(Some(known)).await;
    assert_eq!((missed.mark.position, missed.keys.as_deref()), (second, Some(&[key(2)][..])));
    let alone: Mark = second.to_string().parse().expect("a mark");
    assert_eq!(resumed(Some(alone)).await.keys, None, "of which generation a position is cannot be told");

    // A document that is told of by no commit: the table lacks it, and the log has it.
    world.execute("DELETE FROM view_counters_v1_g1 WHERE key = 'c01'").await;
    let number = views.rebuild("counters", false, &metadata()).await.expect("begun");
    let is_live = async || {
        let all = views.generations("counters").await.expect("available");
        all.iter().any(|one| one.number == number && one.phase == Phase::Live)
    };
    found(is_live, |live| *live).await;
    let anew = resumed(Some(missed.mark)).await;
    assert_eq!(anew.keys, None, "another generation is served");
    assert_eq!(resumed(Some(anew.mark)).await.keys.as_deref(), Some(&[][..]), "this one was told of");
    projectors.stop().await;
    world.log.close().await;
}

async fn many_readers_keep_up_with_a_burst(_: Location, database: Database) {
    const DOCUMENTS: usize = 60;
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    let add = async |nth| world.append(vec![event(&key(nth), &Added { by: 1 })]).await;
    // Behind a commit that is known, all that follows is known, too.
    let begun = add(0).await;
    told(&mut views.live("counters", None).await.expect("followed"), begun).await;
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(views.live("counters", None).await.expect("followed"));
    }
    // Some read meanwhile, and some only when all is over.
    let last = begun.plus(500);
    let mut sleepers = readers.split_off(10);
    let awake: Vec<_> =
        readers.into_iter().map(|mut live| tokio::spawn(async move { told(&mut live, last).await.1 })).collect();
    for nth in 0..500 {
        add(nth % DOCUMENTS).await;
    }
    let all: BTreeSet<String> = (0..DOCUMENTS).map(key).collect();
    for reader in awake {
        assert_eq!(reader.await.expect("no panic"), Some(all.clone()));
    }
    for live in &mut sleepers {
        // It may have been too much to be kept for them.
        let told = next(live).await;
        assert!(told.keys.is_none_or(|keys| keys.iter().eq(&all)), "it is told as one");
    }
    let further = add(7).await;
    for live in &mut sleepers {
        let (_, keys) = told(live, further).await;
        assert!(keys.is_none_or(|keys| keys.contains(&key(7))), "they are told of what comes behind");
    }
    projectors.stop().await;
    world.log.close().await;
}

async fn a_table_that_is_missing_is_not_looked_for_for_ever(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    views.get("counters", "a", at_least(last)).await.expect("in time");
    projectors.stop().await;
    world.execute("DROP TABLE view_counters_v1_g1").await;
    let found = tokio::time::timeout(LIMIT, views.get("counters", "b", None)).await.expect("in time");
    assert!(matches!(found, Err(ViewError::Unavailable(_))), "{found:?}");
    world.log.close().await;
}
