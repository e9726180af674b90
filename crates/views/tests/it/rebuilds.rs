//! P4: a view is built anew while it is served, and put in place of the old one without anybody noticing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daybook_core::{AnyProjection, Envelope, Keys, Position, Projection, ProjectionSpec, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Act, GenerationStatus, Phase, Projectors, Settings, ViewError, Views};
use tokio::time::Instant;

use crate::domain::{Added, Counter, CounterEvent, Counters, Mistaken, Opened, Superstitious, plain_fold};
use crate::weighed::Weighed;
use crate::world::{Dice, LIMIT, World, at_least, event, found, metadata, quick, read_all, start, until};

on_both!(
    &[Schema::Log, Schema::Views],
    a_view_is_rebuilt_while_it_is_written_and_read,
    a_rebuild_goes_through_its_phases_without_waiting_for_the_next_sign_of_life,
    a_rebuild_that_does_not_fit_into_memory_is_written_in_parts,
    one_rebuild_at_a_time_takes_memory,
    a_rebuild_goes_on_after_a_crash_in_whatever_phase,
    a_rebuild_honours_what_was_done_about_dead_letters,
    a_rebuild_ends_though_a_text_has_no_place_in_an_index,
    a_part_that_is_refused_leaves_nothing_behind,
    what_was_changed_by_hand_is_named_and_waits_for_a_word,
    dead_letters_of_what_is_built_are_counted_before_it_is_served,
    a_rebuild_waits_goes_on_and_is_given_up_as_asked,
    a_newer_version_builds_itself_while_the_older_one_is_served,
    a_newer_version_does_not_wait_for_an_older_one_that_nobody_feeds,
    a_version_that_was_given_up_is_built_when_somebody_asks_for_it,
    a_view_that_nobody_has_begun_is_built_when_somebody_asks_for_it,
    what_cannot_be_done_is_not_on_record,
);

async fn generation(
    views: &Views,
    view: &str,
    number: u32,
    wanted: impl Fn(&GenerationStatus) -> bool,
) -> GenerationStatus {
    let look = async || {
        let all = views.generations(view).await.expect("available");
        all.into_iter().find(|one| one.number == number)
    };
    found(look, |one| one.as_ref().is_some_and(&wanted)).await.expect("it is as wanted")
}

async fn live(views: &Views, number: u32) -> GenerationStatus {
    generation(views, "counters", number, |one| one.phase == Phase::Live).await
}

fn counters() -> [Arc<dyn AnyProjection>; 1] {
    [projection::<Counters<1>>()]
}

async fn a_view_is_rebuilt_while_it_is_written_and_read(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(21);
    let views = world.views(&counters());
    let projectors = start(&views, 50);
    let last = world.append_any(&mut dice, 300).await;
    read_all(&views, last).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (views, done) = (views.clone(), done.clone());
        async move {
            let mut newest = Position::START;
            while !done.load(Ordering::Relaxed) {
                let answer = views.get("counters", "c01", None).await.expect("no read fails");
                assert!(answer.position >= newest, "a reader went back from {newest} to {}", answer.position);
                newest = answer.position;
                tokio::task::yield_now().await;
            }
        }
    });
    for number in 2..5 {
        assert_eq!(views.rebuild("counters", false, &metadata()).await.expect("begun"), number);
        assert!(matches!(views.rebuild("counters", false, &metadata()).await, Err(ViewError::Refused(_))));
        while views
            .generations("counters")
            .await
            .expect("available")
            .iter()
            .any(|one| one.number == number && one.phase.is_built())
        {
            world.append_any(&mut dice, 20).await;
        }
        let built = live(&views, number).await;
        let report = built.report.expect("compared");
        assert_eq!(report["differing"], 0);
        if report["undecided"] == 0 {
            assert_eq!(report["digests"]["served"], report["digests"]["built"]);
        }
        generation(&views, "counters", number - 1, |one| one.phase == Phase::Retired).await;
    }
    // Back, and back again: the retired one is kept up to date.
    for number in [3, 4] {
        world.append_any(&mut dice, 20).await;
        assert_eq!(views.rollback("counters", &metadata()).await.expect("done"), number);
    }
    let last = world.append_any(&mut dice, 20).await;
    let found = read_all(&views, last).await;
    done.store(true, Ordering::Relaxed);
    reader.await.expect("no read failed, and none went back");
    let history: Vec<_> = world.history().await;
    let own = history.into_iter().filter(|event| event.stream.category() == "counter").collect::<Vec<_>>();
    assert_eq!(found, plain_fold(&own));
    projectors.stop().await;
    world.log.close().await;
}

async fn a_rebuild_goes_through_its_phases_without_waiting_for_the_next_sign_of_life(
    _: Location,
    database: Database,
) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    // A quarter of it is much longer than anything here waits.
    let projectors = Projectors::start(&views, Settings { lease: 40 * LIMIT, ..Settings::default() });
    let last = world.append_any(&mut Dice(22), 100).await;
    read_all(&views, last).await;
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    live(&views, 2).await;
    projectors.stop().await;
}

async fn a_rebuild_that_does_not_fit_into_memory_is_written_in_parts(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    let settings = Settings { rebuild_bytes_max: 1_000, rebuild_page_events: 10, ..quick() };
    let projectors = Projectors::start(&views, settings);
    let last = world.append_any(&mut Dice(22), 300).await;
    let expected = read_all(&views, last).await;
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    assert_eq!(live(&views, 2).await.report.expect("compared")["differing"], 0);
    assert_eq!(read_all(&views, last).await, expected);
    projectors.stop().await;
    world.log.close().await;
}

async fn one_rebuild_at_a_time_takes_memory(_: Location, database: Database) {
    const NAMES: [&str; 2] = ["counters", "superstitious"];
    let world = World::new(database).await;
    let taken = Arc::new(Mutex::new(([0; NAMES.len()], 0)));
    let weighed = |view: Arc<dyn AnyProjection>, nth: usize| -> Arc<dyn AnyProjection> {
        let taken = taken.clone();
        let told = move |bytes| {
            {
                let (now, most) = &mut *taken.lock().expect("no panic");
                now[nth] = bytes;
                *most = now.iter().filter(|bytes| **bytes > 0).count().max(*most);
            }
            // So that there is time to meet the other one.
            std::thread::sleep(Duration::from_millis(u64::from(bytes > 0)));
        };
        Arc::new(Weighed(view, Arc::new(told)))
    };
    let views = world.views(&[weighed(projection::<Counters<1>>(), 0), weighed(projection::<Superstitious>(), 1)]);
    let settings = Settings { memory_bytes_max: 0, rebuild_bytes_max: 20_000, rebuild_page_events: 5, ..quick() };
    let projectors = Projectors::start(&views, settings.clone());
    let last = world.append_any(&mut Dice(29), 600).await;
    for name in NAMES {
        views.get(name, "any", at_least(last)).await.expect("in time");
    }
    projectors.stop().await;
    for name in NAMES {
        views.rebuild(name, false, &metadata()).await.expect("begun");
    }
    *taken.lock().expect("no panic") = ([0; NAMES.len()], 0);
    let projectors = Projectors::start(&views, settings);
    for name in NAMES {
        generation(&views, name, 2, |one| one.phase == Phase::Live).await;
    }
    assert_eq!(taken.lock().expect("no panic").1, 1);
    projectors.stop().await;
    world.log.close().await;
}

async fn a_rebuild_goes_on_after_a_crash_in_whatever_phase(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(23);
    let settings = Settings { rebuild_bytes_max: 2_000, rebuild_page_events: 5, ..quick() };
    let views = world.views(&counters());
    let projectors = Projectors::start(&views, settings.clone());
    let last = world.append_any(&mut dice, 300).await;
    read_all(&views, last).await;
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    drop(projectors);
    let (mut wait, begun) = (1, Instant::now());
    while views.generations("counters").await.expect("available")[1].phase != Phase::Live {
        assert!(begun.elapsed() < LIMIT, "it never gets there");
        // What comes in between is folded into what was written before.
        world.append_any(&mut dice, 1).await;
        let projectors = Projectors::start(&world.views(&counters()), settings.clone());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        wait = (wait * 2).min(2_000);
        drop(projectors);
    }
    let last = world.append_any(&mut dice, 20).await;
    let projectors = Projectors::start(&views, settings);
    let own = world.history().await.into_iter().filter(|event| event.stream.category() == "counter");
    assert_eq!(read_all(&views, last).await, plain_fold(&own.collect::<Vec<_>>()));
    projectors.stop().await;
    world.log.close().await;
}

async fn a_rebuild_honours_what_was_done_about_dead_letters(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Superstitious>()]);
    let projectors = start(&views, 1_000);
    let last = world.append((10..=16).map(|by| event("a", &Added { by })).collect()).await;
    views.get("superstitious", "all", at_least(last)).await.expect("in time");
    let passed = views.skip("superstitious", "all", Position::new(4), &metadata()).await.expect("done");
    views.get("superstitious", "all", at_least(passed)).await.expect("in time");
    let last = world.append([1, 13, 2].map(|by| event("a", &Added { by })).into()).await;
    views.get("superstitious", "all", at_least(last)).await.expect("in time");
    let last = views.retry("superstitious", "all", &metadata()).await.expect("tried, in vain");
    views.get("superstitious", "all", at_least(last)).await.expect("in time");
    let before = views.dead_letters("superstitious", None, None).await.expect("available");
    assert_eq!(before.len(), 2);
    projectors.stop().await;
    views.rebuild("superstitious", true, &metadata()).await.expect("begun");
    let meanwhile = views.skip("superstitious", "all", before[0].position, &metadata()).await;
    assert!(matches!(meanwhile, Err(ViewError::Refused(_))), "what is built may have applied it by then");
    let projectors = start(&views, 1_000);
    let built = generation(&views, "superstitious", 2, |one| one.phase == Phase::Live).await;
    assert_eq!(built.report.expect("compared")["differing"], 0);
    let answer = views.get("superstitious", "all", at_least(last)).await.expect("in time");
    assert_eq!(answer.data.expect("the document").body.get(), "7");
    let after = views.dead_letters("superstitious", None, None).await.expect("available");
    let plain = |letters: Vec<daybook_views::DeadLetter>| {
        letters.into_iter().map(|one| (one.key, one.position, one.error)).collect::<Vec<_>>()
    };
    assert_eq!(plain(after), plain(before));
    projectors.stop().await;
    world.log.close().await;
}

async fn a_rebuild_ends_though_a_text_has_no_place_in_an_index(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    let projectors = start(&views, 1_000);
    let mut dice = Dice(28);
    let mut owner = |bytes: usize| (0..bytes).map(|_| char::from(b'#' + dice.below(57) as u8)).collect::<String>();
    let owners = [("a", 9), ("b", 3_000), ("c", 9)].map(|(key, bytes)| (key, owner(bytes)));
    let last = world.append(owners.map(|(key, owner)| event(key, &Opened { owner })).into()).await;
    let last = last.max(world.append(["b", "c"].map(|key| event(key, &Added { by: 1 })).into()).await);
    for number in [1, 2] {
        live(&views, number).await;
        assert_eq!(read_all(&views, last).await.into_keys().collect::<Vec<_>>(), ["a", "c"]);
        let letters = views.dead_letters("counters", None, None).await.expect("available");
        let found: Vec<_> = letters.iter().map(|one| (&*one.key, one.position.get())).collect();
        assert_eq!(found, [("b", 2), ("b", 4)]);
        let error = letters[0].error.as_deref().unwrap_or_default();
        assert!(error.contains("too_long_for_owner"), "it says what is wrong: {error}");
        if number == 1 {
            views.rebuild("counters", true, &metadata()).await.expect("begun");
        }
    }
    projectors.stop().await;
    world.log.close().await;
}

/// More documents than are written at a time, before the one that is refused.
async fn a_part_that_is_refused_leaves_nothing_behind(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    let projectors = start(&views, 1_000);
    for group in 0..6 {
        let key = |nth| format!("c{:04}", group * 900 + nth);
        world.append((0..900).map(|nth| event(&key(nth), &Added { by: 1 })).collect()).await;
    }
    let last = world.append(vec![event("refused", &Opened { owner: "x".repeat(3_000) })]).await;
    views.get("counters", "c0000", at_least(last)).await.expect("in time");
    views.rebuild("counters", true, &metadata()).await.expect("begun");
    let built = generation(&views, "counters", 2, |one| !one.phase.is_built() || one.phase == Phase::Held).await;
    let report = built.report.expect("compared");
    assert_eq!((&report["differing"], &report["built"], built.dead_letters), (&0.into(), &5_400.into(), 1));
    projectors.stop().await;
    world.log.close().await;
}

async fn what_was_changed_by_hand_is_named_and_waits_for_a_word(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    let projectors = start(&views, 1_000);
    let last = world.append(["a", "b"].map(|key| event(key, &Added { by: 1 })).into()).await;
    read_all(&views, last).await;
    let other = r#"{"owner":null,"sum":{"total":7},"events":1}"#;
    world.execute(&format!("UPDATE view_counters_v1_g1 SET body = '{other}' WHERE key = 'a'")).await;
    views.rebuild("counters", true, &metadata()).await.expect("begun");
    let held = generation(&views, "counters", 2, |one| one.phase == Phase::Held).await;
    let report = held.report.expect("compared");
    assert_eq!((&report["differing"], &report["served"], &report["built"]), (&1.into(), &2.into(), &2.into()));
    let sample = serde_json::json!({
        "key": "a", "fields": [{"field": "sum.total", "served": 7, "built": 1}],
    });
    assert_eq!(report["samples"][0], sample);
    assert_ne!(report["digests"]["served"], report["digests"]["built"]);
    let compared_at = |report: &serde_json::Value| report["position"].as_u64().expect("it says up to where");
    assert!(compared_at(&report) >= last.get(), "{report}");
    // Late, but not too late.
    views.pause("counters", &metadata()).await.expect("done");
    assert!(matches!(views.confirm("counters", &metadata()).await, Err(ViewError::Refused(_))));
    // What is appended meanwhile is in what is compared again.
    let later = world.append(["c", "d"].map(|key| event(key, &Added { by: 1 })).into()).await;
    read_all(&views, later).await;
    views.resume("counters", &metadata()).await.expect("done");
    let held = generation(&views, "counters", 2, |one| one.phase == Phase::Held && one.position >= later).await;
    let report = held.report.expect("compared again");
    assert_eq!((&report["differing"], &report["served"], &report["built"]), (&1.into(), &4.into(), &4.into()));
    assert!(compared_at(&report) >= later.get(), "{report}");
    views.confirm("counters", &metadata()).await.expect("done");
    live(&views, 2).await;
    projectors.stop().await;
    world.log.close().await;
}

async fn dead_letters_of_what_is_built_are_counted_before_it_is_served(_: Location, database: Database) {
    let world = World::new(database).await;
    let older = world.views(&counters());
    let of_older = start(&older, 1_000);
    let last =
        world.append([("a", 1), ("b", 13), ("b", 2)].map(|(key, by)| event(key, &Added { by })).into()).await;
    read_all(&older, last).await;
    let newer = world.views(&[projection::<Mistaken>()]);
    newer.rebuild("counters", true, &metadata()).await.expect("begun");
    let of_newer = start(&newer, 1_000);
    let held = generation(&newer, "counters", 2, |one| one.phase == Phase::Held).await;
    let served = live(&newer, 1).await;
    assert_eq!((served.dead_letters, held.dead_letters), (0, 2));
    let status = newer.status().await.expect("available").remove(0);
    assert_eq!((status.dead_letters, status.building.expect("it is held").dead_letters), (0, 2));
    of_newer.stop().await;
    of_older.stop().await;
    world.log.close().await;
}

async fn a_rebuild_waits_goes_on_and_is_given_up_as_asked(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    let projectors = start(&views, 1_000);
    let last = world.append_any(&mut Dice(24), 100).await;
    let expected = read_all(&views, last).await;
    projectors.stop().await;
    assert!(matches!(views.pause("counters", &metadata()).await, Err(ViewError::Refused(_))));
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    views.pause("counters", &metadata()).await.expect("done");
    let projectors = start(&views, 1_000);
    let last = world.append(vec![event("z", &Added { by: 1 })]).await;
    views.get("counters", "z", at_least(last)).await.expect("in time");
    let paused = generation(&views, "counters", 2, |one| one.paused).await;
    assert_eq!((paused.phase, paused.position), (Phase::Replay, Position::START));
    // As if it had been worked on for ten minutes before: while it waits, that does not become more.
    world
        .execute(
            "UPDATE view_generations SET replayed = 600, paused_seconds = paused_seconds - 600.0 WHERE number = 2",
        )
        .await;
    let waited = generation(&views, "counters", 2, |_| true).await;
    let rate = waited.events_per_second.expect("it is built");
    assert!((0.5..1.01).contains(&rate), "{rate} events a second, 600 in ten minutes");
    views.abort("counters", &metadata()).await.expect("done");
    // Nobody builds it before it waits.
    projectors.stop().await;
    views.rebuild("counters", false, &metadata()).await.expect("begun");
    views.pause("counters", &metadata()).await.expect("done");
    assert!(matches!(views.confirm("counters", &metadata()).await, Err(ViewError::Refused(_))));
    let projectors = start(&views, 1_000);
    views.resume("counters", &metadata()).await.expect("done");
    live(&views, 3).await;
    assert_eq!(read_all(&views, last).await.len(), expected.len() + 1);
    projectors.stop().await;
    world.log.close().await;
}

async fn a_newer_version_builds_itself_while_the_older_one_is_served(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(25);
    let older = world.views(&counters());
    let of_older = start(&older, 1_000);
    let last = world.append_any(&mut dice, 100).await;
    read_all(&older, last).await;
    of_older.stop().await;
    // What is there is served by the newer program, as it is, before it has built its own.
    let newer = world.views(&[projection::<Counters<2>>()]);
    assert_eq!(newer.status().await.expect("available")[0].version, 1);
    assert_eq!(newer.get("counters", "c01", None).await.expect("an answer").position, last);
    let of_newer = start(&newer, 1_000);
    until(&newer, "counters", |status| status.version == 2).await;
    // Both go on, each with its own.
    let of_older = start(&older, 1_000);
    let last = world.append_any(&mut dice, 50).await;
    let expected = plain_fold(&world.history().await);
    assert_eq!(read_all(&newer, last).await, expected);
    assert_eq!(read_all(&older, last).await, expected);
    assert_eq!(older.status().await.expect("available")[0].version, 1);
    of_newer.stop().await;
    of_older.stop().await;
    world.log.close().await;
}

/// The counters, told differently.
struct Retold;

impl Projection for Retold {
    type Event = CounterEvent;
    type View = Counter;

    fn spec() -> ProjectionSpec {
        Counters::<2>::spec()
    }

    fn keys(event: &Envelope<'_, CounterEvent>, keys: &mut Keys) {
        Counters::<2>::keys(event, keys);
    }

    fn apply(key: &str, view: &mut Option<Counter>, event: &Envelope<'_, CounterEvent>) {
        Counters::<2>::apply(key, view, event);
        if let Some(counter) = view {
            counter.sum.total += 1;
        }
    }
}

async fn a_newer_version_does_not_wait_for_an_older_one_that_nobody_feeds(_: Location, database: Database) {
    let world = World::new(database).await;
    let mut dice = Dice(28);
    let older = world.views(&counters());
    let of_older = start(&older, 1_000);
    let last = world.append_any(&mut dice, 100).await;
    read_all(&older, last).await;
    of_older.stop().await;
    // It stays behind for ever, and all that is written down differs.
    let last = world.append_any(&mut dice, 20).await;
    let newer = world.views(&[projection::<Retold>()]);
    let of_newer = start(&newer, 1_000);
    let status = until(&newer, "counters", |status| status.version == 2).await;
    assert_eq!(read_all(&newer, last).await.len(), plain_fold(&world.history().await).len());
    let built = generation(&newer, "counters", status.generation.expect("it is served"), |_| true).await;
    assert_ne!(built.report.expect("they were compared")["differing"], 0);
    of_newer.stop().await;
    world.log.close().await;
}

async fn a_version_that_was_given_up_is_built_when_somebody_asks_for_it(_: Location, database: Database) {
    let world = World::new(database).await;
    let older = world.views(&counters());
    let of_older = start(&older, 1_000);
    let last = world.append_any(&mut Dice(26), 100).await;
    read_all(&older, last).await;
    let newer = world.views(&[projection::<Counters<2>>()]);
    let status = async || newer.status().await.expect("available").remove(0);
    // As the program's first process begins it, and before it is done.
    newer.rebuild("counters", false, &metadata()).await.expect("begun");
    let building = status().await.building.expect("begun");
    assert_eq!((building.version, building.generation, status().await.version), (2, 2, 1));
    assert_eq!(newer.abort("counters", &metadata()).await.expect("done"), 2);
    assert_eq!((status().await.given_up, status().await.building), (Some(2), None));
    let of_newer = start(&newer, 1_000);
    let phases = async || {
        let all = newer.generations("counters").await.expect("available");
        all.into_iter().map(|one| (one.version, one.phase)).collect::<Vec<_>>()
    };
    // The older one goes on, and is served by both; several leases later nobody has begun the newer one again.
    let last = world.append_any(&mut Dice(27), 20).await;
    let expected = read_all(&older, last).await;
    assert_eq!(read_all(&newer, last).await, expected);
    tokio::time::sleep(4 * quick().lease).await;
    assert_eq!(phases().await, [(1, Phase::Live), (2, Phase::Aborted)]);
    // Nor does who comes later.
    of_newer.stop().await;
    let again = world.views(&[projection::<Counters<2>>()]);
    let of_newer = start(&again, 1_000);
    tokio::time::sleep(2 * quick().lease).await;
    assert_eq!(phases().await, [(1, Phase::Live), (2, Phase::Aborted)]);
    assert_eq!(older.status().await.expect("available")[0].given_up, None, "it was not the older one");

    assert_eq!(newer.rebuild("counters", false, &metadata()).await.expect("begun"), 3);
    let built = until(&newer, "counters", |status| status.version == 2).await;
    assert_eq!((built.generation, built.given_up), (Some(3), None));
    assert_eq!(read_all(&newer, last).await, expected);
    // What is given up beside one that is served changes nothing about that one.
    of_newer.stop().await;
    newer.rebuild("counters", false, &metadata()).await.expect("begun");
    newer.abort("counters", &metadata()).await.expect("done");
    assert_eq!((status().await.generation, status().await.given_up), (Some(3), None));
    of_older.stop().await;
    world.log.close().await;
}

async fn a_view_that_nobody_has_begun_is_built_when_somebody_asks_for_it(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    assert_eq!(views.rebuild("counters", true, &metadata()).await.expect("begun"), 1);
    let last = world.append_any(&mut Dice(28), 50).await;
    let projectors = start(&views, 1_000);
    live(&views, 1).await;
    let own = world.history().await.into_iter().filter(|event| event.stream.category() == "counter");
    assert_eq!(read_all(&views, last).await, plain_fold(&own.collect::<Vec<_>>()));
    projectors.stop().await;
    world.log.close().await;
}

async fn what_cannot_be_done_is_not_on_record(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&counters());
    let projectors = start(&views, 1_000);
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    read_all(&views, last).await;
    let acts = async || {
        let history = world.history().await.into_iter();
        let acts =
            history.filter_map(|event| event.event_type.strip_prefix("daybook.projection.").map(str::to_owned));
        acts.collect::<Vec<_>>()
    };
    let refused = async |act: Act| {
        let outcome = act.carry_out(&views, "counters", &metadata()).await;
        assert!(matches!(outcome, Err(ViewError::Refused(_))), "{act:?}: {outcome:?}");
    };
    for act in Act::ALL {
        refused(act).await;
    }
    assert_eq!(acts().await, Vec::<String>::new());

    let other = r#"{"owner":null,"sum":{"total":7},"events":1}"#;
    world.execute(&format!("UPDATE view_counters_v1_g1 SET body = '{other}' WHERE key = 'a'")).await;
    views.rebuild("counters", true, &metadata()).await.expect("begun");
    assert!(matches!(views.rebuild("counters", true, &metadata()).await, Err(ViewError::Refused(_))));
    generation(&views, "counters", 2, |one| one.phase == Phase::Held).await;
    views.pause("counters", &metadata()).await.expect("done");
    refused(Act::Confirm).await;
    views.resume("counters", &metadata()).await.expect("done");
    generation(&views, "counters", 2, |one| one.phase == Phase::Held).await;
    views.confirm("counters", &metadata()).await.expect("done");
    live(&views, 2).await;
    let done = ["rebuild_requested", "rebuild_paused", "rebuild_resumed", "rebuild_confirmed"];
    assert_eq!(acts().await, done);

    // Nobody feeds it: it never gets as far as the one that is served.
    projectors.stop().await;
    world
        .execute(
            "UPDATE view_ranges SET position = position - 1 WHERE generation = \
                   (SELECT generation FROM view_generations WHERE phase = 'retired')",
        )
        .await;
    refused(Act::Rollback).await;
    assert_eq!(acts().await, done);
    world.log.close().await;
}
