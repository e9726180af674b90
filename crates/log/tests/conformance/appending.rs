//! L4, L8: atomic over several streams, and each with a verdict of its own.

use daybook_core::{Position, Revision};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Conflict, NewRecord, Verdict};
use futures_util::future::join_all;

use crate::fixture::{at, commit, event, nothing, open, open_again, order, read_all, to, to_at};

on_both!(
    &[Schema::Log],
    what_is_appended_is_read_back,
    the_exact_bytes_of_a_payload_survive,
    all_streams_of_an_append_are_written_or_none,
    a_revision_that_was_only_read_is_checked_too,
    of_two_decisions_that_read_what_the_other_writes_one_conflicts,
    of_many_that_write_one_revision_one_wins,
    a_conflict_does_not_fail_its_neighbours,
    an_append_that_cannot_be_written_does_not_fail_its_neighbours,
    an_append_without_events_is_committed_too,
    an_appender_goes_on_behind_more_than_it_takes_in_of_others,
);

async fn what_is_appended_is_read_back(_: Location, database: Database) {
    let log = open(&database).await;
    let append = to(&[&order(1), &order(2), &order(1)]);
    let receipt = commit(&log, append.clone()).await;
    assert_eq!((receipt.command_id, receipt.position), (append.command_id, Position::new(3)));
    let events = read_all(&log).await;
    assert_eq!(events.len(), 3);
    for ((event, sent), place) in events.iter().zip(&append.events).zip(&receipt.events) {
        assert_eq!((event.id, &event.stream, &event.event_type), (sent.id, &sent.stream, &sent.event_type));
        assert_eq!((event.position, event.revision, event.schema_version), (place.position, place.revision, 1));
        assert_eq!(event.payload.get(), sent.payload);
        assert_eq!(event.metadata().expect("metadata").command_id, append.command_id);
        assert_eq!(event.recorded_at, events[0].recorded_at);
    }
    let third = log.event(Position::new(3)).await.expect("an answer").expect("an event");
    assert_eq!((third.id, third.revision), (append.events[2].id, Revision::new(2)));
    for nowhere in [0, 4, u64::MAX] {
        assert!(log.event(Position::new(nowhere)).await.expect("an answer").is_none());
        assert!(nowhere == 0 || log.read(Position::new(nowhere), 9).await.expect("an answer").is_empty());
    }
}

async fn the_exact_bytes_of_a_payload_survive(_: Location, database: Database) {
    let log = open(&database).await;
    let payloads = [
        r#"{ "b":1e2 ,"a" : [1.0,-0,  1E+2, 123456789012345678901234567890]	}"#,
        r#"{"z":"\u00e4ä😀\ud83d\ude00","a":"\/'\"\\","a":null}"#,
        "\"\"",
        "17",
    ];
    let events = payloads.iter().map(|payload| NewRecord { payload: (*payload).into(), ..event(&order(1)) });
    commit(&log, Append { events: events.collect(), ..nothing() }).await;
    let read: Vec<_> = read_all(&log).await.iter().map(|event| event.payload.get().to_owned()).collect();
    assert_eq!(read, payloads);
}

async fn all_streams_of_an_append_are_written_or_none(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to_at(&order(1), 0)).await;
    let append = Append { expected: vec![at(&order(2), 0), at(&order(1), 0)], ..to(&[&order(2), &order(1)]) };
    let conflict = Conflict { stream: order(1), expected: Revision::NONE, actual: Revision::new(1) };
    assert_eq!(log.append(append.clone()).await.expect("a verdict"), Verdict::Conflict(conflict));
    let gap = Append { expected: vec![at(&order(1), 2)], ..append.clone() };
    assert!(matches!(log.append(gap).await.expect("a verdict"), Verdict::Conflict(_)), "a gap");
    assert_eq!(read_all(&log).await.len(), 1);
    let receipt = commit(&log, Append { expected: vec![at(&order(2), 0), at(&order(1), 1)], ..append }).await;
    assert_eq!(receipt.events.iter().map(|event| event.revision.get()).collect::<Vec<_>>(), [1, 2]);
}

async fn a_revision_that_was_only_read_is_checked_too(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1)])).await;
    let stale = Append { expected: vec![at(&order(1), 0)], ..to(&[&order(2)]) };
    assert!(matches!(log.append(stale).await.expect("a verdict"), Verdict::Conflict(_)));
    commit(&log, Append { expected: vec![at(&order(1), 1)], ..to(&[&order(2)]) }).await;
}

async fn of_two_decisions_that_read_what_the_other_writes_one_conflicts(location: Location, database: Database) {
    let (here, there) = (open(&database).await, open_again(&location).await);
    for round in 0..30 {
        let (left, right) = (order(format!("left-{round}")), order(format!("right-{round}")));
        let read_both = vec![at(&left, 0), at(&right, 0)];
        let (one, other) = tokio::join!(
            here.append(Append { expected: read_both.clone(), ..to(&[&left]) }),
            there.append(Append { expected: read_both.clone(), ..to(&[&right]) }),
        );
        let verdicts = [one.expect("a verdict"), other.expect("a verdict")];
        let committed = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Committed(_))).count();
        assert_eq!(committed, 1, "{verdicts:?}");
    }
}

async fn of_many_that_write_one_revision_one_wins(location: Location, database: Database) {
    let logs = [open(&database).await, open_again(&location).await];
    for revision in 0..5 {
        let append = to_at(&order(1), revision);
        let verdicts = join_all((0..32).map(|caller| logs[caller % 2].append(append.clone()))).await;
        let committed = verdicts.iter().filter(|verdict| matches!(verdict, Ok(Verdict::Committed(_)))).count();
        let conflicts = verdicts.iter().filter(|verdict| matches!(verdict, Ok(Verdict::Conflict(_)))).count();
        assert_eq!((committed, conflicts), (1, 31));
    }
}

async fn a_conflict_does_not_fail_its_neighbours(_: Location, database: Database) {
    let log = open(&database).await;
    let appends = (0..40).map(|index| log.append(to_at(&order(index), index % 2)));
    for (index, verdict) in join_all(appends).await.into_iter().enumerate() {
        match (index % 2, verdict.expect("a verdict")) {
            (0, Verdict::Committed(_)) | (1, Verdict::Conflict(_)) => {}
            (_, other) => panic!("{index}: {other:?}"),
        }
    }
    assert_eq!(read_all(&log).await.len(), 20);
}

async fn an_append_that_cannot_be_written_does_not_fail_its_neighbours(_: Location, database: Database) {
    let log = open(&database).await;
    let with_payload = |payload: &str| Append {
        events: vec![event(&order(1)), NewRecord { payload: payload.into(), ..event(&order(1)) }],
        ..nothing()
    };
    let poisoned = [
        with_payload("{"),
        with_payload(r#""\u0000""#),
        with_payload(&format!("\"{}\"", "x".repeat(65_535))),
        Append { events: vec![NewRecord { event_type: "a\0".into(), ..event(&order(1)) }], ..nothing() },
    ];
    let neighbours = join_all((0..8).map(|_| log.append(to(&[&order(2)]))));
    let (refused, committed) =
        tokio::join!(join_all(poisoned.into_iter().map(|append| log.append(append))), neighbours);
    for verdict in refused {
        assert!(matches!(verdict.expect("a verdict"), Verdict::Invalid(_)));
    }
    for verdict in committed {
        assert!(matches!(verdict.expect("a verdict"), Verdict::Committed(_)));
    }
    assert_eq!(read_all(&log).await.len(), 8);
}

async fn an_append_without_events_is_committed_too(_: Location, database: Database) {
    let log = open(&database).await;
    assert_eq!(commit(&log, nothing()).await.position, Position::START);
    commit(&log, to(&[&order(1)])).await;
    let receipt = commit(&log, Append { expected: vec![at(&order(1), 1)], ..nothing() }).await;
    assert_eq!((receipt.position, receipt.events.len()), (Position::new(1), 0));
    let stale = Append { expected: vec![at(&order(1), 0)], ..nothing() };
    assert!(matches!(log.append(stale).await.expect("a verdict"), Verdict::Conflict(_)));
}

async fn an_appender_goes_on_behind_more_than_it_takes_in_of_others(location: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1)])).await;
    let other = open_again(&location).await;
    for _ in 0..11 {
        let events = (0..1_000).map(|_| event(&order(1))).collect();
        commit(&other, Append { events, ..nothing() }).await;
    }
    // Its own last revision, which it no longer takes for the newest.
    let verdict = log.append(to_at(&order(1), 1)).await.expect("a verdict");
    assert!(matches!(verdict, Verdict::Conflict(_)), "{verdict:?}");
    let receipt = commit(&log, to_at(&order(1), 11_001)).await;
    assert_eq!(receipt.position, Position::new(11_002));
    other.close().await;
}
