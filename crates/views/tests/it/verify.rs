//! A view is verified against the log, and not against what its projector says of it.

use std::ops::ControlFlow;

use daybook_core::{Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_views::{Extent, Finding, Phase, Projectors, Settings, Told, Verification, ViewError, Views};

use crate::domain::{Added, Counters, Superstitious};
use crate::world::{Dice, World, at_least, event, found, metadata, quick, read_all, start};

on_both!(
    &[Schema::Log, Schema::Views],
    a_true_view_is_found_true_in_as_many_passes_as_it_takes,
    what_was_changed_by_hand_is_found,
    a_checkpoint_that_was_moved_is_found,
    what_is_parked_or_passed_over_is_no_difference,
    what_was_passed_over_is_left_out_though_it_could_be_applied_by_now,
    a_view_is_verified_though_its_projector_goes_on,
);

const MUCH: usize = 64 << 20;

async fn verify(views: &Views, view: &str, extent: Extent, bytes_max: usize) -> (Verification, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut listener = |told: Told| {
        if let Told::Found(finding) = told {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    };
    let report = views.verify(view, extent, bytes_max, &mut listener).await.expect("an answer");
    assert_eq!(report.findings, findings.len() as u64);
    (report, findings)
}

async fn a_true_view_is_found_true_in_as_many_passes_as_it_takes(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append_any(&mut Dice(5), 300).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    let documents = read_all(&views, last).await.len() as u64;
    let (report, found) = verify(&views, "counters", Extent::Full, MUCH).await;
    assert_eq!(found, []);
    assert_eq!((report.slices, report.documents, report.folded), (1_024, documents, documents));
    assert_eq!(report.position, last);
    // Some documents at a time.
    let (report, found) = verify(&views, "counters", Extent::Full, 4_000).await;
    assert_eq!(found, []);
    assert_eq!((report.slices, report.documents, report.folded), (1_024, documents, documents));
    let (report, found) = verify(&views, "counters", Extent::Sample, 4_000).await;
    assert_eq!(found, []);
    assert!(report.slices < 1_024, "{report:?}");
    // It says how far it is, and ends when nobody wants to know.
    let mut reached = Vec::new();
    let mut listener = |told: Told| {
        if let Told::Folded { position, through, slices } = told {
            reached.push((position, through, slices));
        }
        if reached.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let ended = views.verify("counters", Extent::Full, MUCH, &mut listener).await;
    assert!(matches!(ended, Err(ViewError::Refused(_))), "{ended:?}");
    assert_eq!(reached, [(Position::START, last, 0), (last, last, 0)]);
    projectors.stop().await;
    world.log.close().await;
}

async fn what_was_changed_by_hand_is_found(_: Location, database: Database) {
    let world = World::new(database).await;
    let last = world.append(["a", "b", "c"].map(|key| event(key, &Added { by: 2 })).into()).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    read_all(&views, last).await;
    let insert = "INSERT INTO view_counters_v1_g1 (key, body, position, revision) \
                  SELECT 'd', body, position, revision FROM view_counters_v1_g1 WHERE key = 'c'";
    for (done, undone, expected) in [
        (
            "UPDATE view_counters_v1_g1 SET body = '{\"owner\":null,\"sum\":{\"total\":3},\"events\":1}' WHERE key = 'a'",
            "UPDATE view_counters_v1_g1 SET body = '{\"owner\":null,\"sum\":{\"total\":2},\"events\":1}' WHERE key = 'a'",
            "a differs sum.total",
        ),
        (
            "UPDATE view_counters_v1_g1 SET revision = 7 WHERE key = 'b'",
            "UPDATE view_counters_v1_g1 SET revision = 1 WHERE key = 'b'",
            "b differs @revision",
        ),
        (insert, "DELETE FROM view_counters_v1_g1 WHERE key = 'd'", "d is unexpected"),
        ("DELETE FROM view_counters_v1_g1 WHERE key = 'c'", "SELECT 1", "c is missing"),
    ] {
        world.execute(done).await;
        for extent in [Extent::Full, Extent::Sample] {
            let (_, found) = verify(&views, "counters", extent, MUCH).await;
            assert_eq!(found.iter().map(said).collect::<Vec<_>>(), [expected]);
        }
        world.execute(undone).await;
    }
    projectors.stop().await;
    world.log.close().await;
}

fn said(finding: &Finding) -> String {
    match finding {
        Finding::Differs { key, fields } => {
            let fields: Vec<_> = fields.iter().map(|field| field.field.as_str()).collect();
            format!("{key} differs {}", fields.join(" "))
        }
        Finding::Missing { key } => format!("{key} is missing"),
        Finding::Unexpected { key } => format!("{key} is unexpected"),
        Finding::Checkpoint { slice_from, slice_to, .. } => format!("slices {slice_from} to {slice_to}"),
    }
}

async fn a_checkpoint_that_was_moved_is_found(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 50);
    let last = world.append(vec![event("a", &Added { by: 1 })]).await;
    read_all(&views, last).await;
    projectors.stop().await;
    let last = world.append(vec![event("a", &Added { by: 1 }), event("b", &Added { by: 1 })]).await;
    assert_eq!(verify(&views, "counters", Extent::Full, MUCH).await.1, [], "it is only behind");

    // As if both had been taken in.
    world.execute(&format!("UPDATE view_ranges SET position = {last}")).await;
    let (_, found) = verify(&views, "counters", Extent::Full, MUCH).await;
    let found: Vec<_> = found.iter().map(said).collect();
    assert!(found.iter().any(|one| one.starts_with("slices ")), "its event is another one: {found:?}");
    assert!(found.contains(&"a differs events sum.total @position @revision".to_owned()), "{found:?}");
    assert!(found.contains(&"b is missing".to_owned()), "{found:?}");

    let id = world.history().await.last().expect("an event").id;
    let id = match &world.database {
        Database::Postgres(_) => format!("'{id}'::uuid"),
        Database::Sqlite(_) => format!("'{id}'"),
    };
    world.execute(&format!("UPDATE view_ranges SET event_id = {id}")).await;
    let (report, found) = verify(&views, "counters", Extent::Full, MUCH).await;
    let found: Vec<_> = found.iter().map(said).collect();
    assert_eq!(found, ["a differs events sum.total @position @revision", "b is missing"]);
    assert_eq!(report.position, last);

    world.execute(&format!("UPDATE view_ranges SET position = {}", last.get() + 5)).await;
    let (_, found) = verify(&views, "counters", Extent::Full, MUCH).await;
    assert!(found.iter().map(said).any(|one| one.starts_with("slices ")), "behind the log's end: {found:?}");
    world.log.close().await;
}

async fn what_is_parked_or_passed_over_is_no_difference(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Superstitious>()]);
    let projectors = start(&views, 1_000);
    let at = async |position: Position| {
        views.get("superstitious", "all", at_least(position)).await.expect("in time");
        verify(&views, "superstitious", Extent::Full, MUCH).await
    };
    let (report, found) = at(world.append((10..=16).map(|by| event("a", &Added { by })).collect()).await).await;
    assert_eq!((report.parked, found), (1, vec![]));
    let (report, found) =
        at(views.skip("superstitious", "all", Position::new(4), &metadata()).await.expect("done")).await;
    assert_eq!((report.parked, found), (0, vec![]));
    // What is parked is so because the fold says so, not because the table does.
    at(world.append(vec![event("a", &Added { by: 13 }), event("a", &Added { by: 1 })]).await).await;
    world.execute("DELETE FROM view_dead_letters").await;
    assert_eq!(verify(&views, "superstitious", Extent::Full, MUCH).await.1, []);
    projectors.stop().await;
    world.log.close().await;
}

/// It failed since a document was damaged, which it is no more once it is built anew.
async fn what_was_passed_over_is_left_out_though_it_could_be_applied_by_now(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let both = || ["a", "b"].map(|key| event(key, &Added { by: 1 })).into();
    let projectors = start(&views, 1_000);
    read_all(&views, world.append(both()).await).await;
    projectors.stop().await;
    world.execute("UPDATE view_counters_v1_g1 SET body = '{\"sum\":7}' WHERE key = 'a'").await;
    let mut projectors = start(&views, 1_000);
    for _ in 0..3 {
        views.get("counters", "b", at_least(world.append(both()).await)).await.expect("in time");
    }
    for passed_over in [3, 5] {
        let skipped = views.skip("counters", "a", Position::new(passed_over), &metadata()).await.expect("done");
        views.get("counters", "b", at_least(skipped)).await.expect("in time");
    }
    // In one part, page by page, and event by event.
    for (number, page) in [(2, 1_000), (3, 4), (4, 1)] {
        projectors.stop().await;
        projectors =
            Projectors::start(&views, Settings { page_events_max: page, rebuild_page_events: page, ..quick() });
        views.rebuild("counters", false, &metadata()).await.expect("begun");
        let built = async || views.generations("counters").await.expect("available").pop().expect("one");
        found(built, |built| (built.number, built.phase) == (number, Phase::Live)).await;
        let last = world.append(both()).await;
        let documents = read_all(&views, last).await;
        let totals = ["a", "b"].map(|key| documents[key].0.sum.total);
        assert_eq!(totals, [i64::from(number) + 1, i64::from(number) + 3]);
        assert_eq!(verify(&views, "counters", Extent::Full, MUCH).await.1, [], "generation {number}");
    }
    projectors.stop().await;
    world.log.close().await;
}

async fn a_view_is_verified_though_its_projector_goes_on(_: Location, database: Database) {
    let world = World::new(database).await;
    let views = world.views(&[projection::<Counters<1>>()]);
    let projectors = start(&views, 7);
    let mut dice = Dice(6);
    let last = world.append_any(&mut dice, 50).await;
    read_all(&views, last).await;
    let writing = async {
        for _ in 0..10 {
            world.append_any(&mut dice, 40).await;
        }
    };
    let verifying = async {
        for _ in 0..5 {
            assert_eq!(verify(&views, "counters", Extent::Full, MUCH).await.1, []);
        }
    };
    tokio::join!(writing, verifying);
    projectors.stop().await;
    world.log.close().await;
}
