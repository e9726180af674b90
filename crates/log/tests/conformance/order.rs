//! L2, L3, L10: dense, in commit order, whoever appends.

use std::collections::HashMap;

use daybook_core::{Position, StreamId};
use daybook_database::{Database, Location, on_both};
use futures_util::future::join_all;

use crate::fixture::{commit, event, insert, nothing, open, open_again, order, read_all, to};

on_both!(
    &[Schema::Log],
    positions_and_revisions_are_dense_with_many_appenders_in_two_processes,
    a_reader_never_misses_an_event,
    the_log_signals_what_this_and_other_processes_append,
    time_never_runs_backwards,
    a_group_is_as_large_as_it_is,
);

async fn positions_and_revisions_are_dense_with_many_appenders_in_two_processes(
    location: Location,
    database: Database,
) {
    let logs = [open(&database).await, open_again(&location).await];
    let streams: Vec<StreamId> = (0..7).map(order).collect();
    let appenders = (0..64).map(|caller: usize| {
        let (log, streams) = (logs[caller % 2].clone(), streams.clone());
        tokio::spawn(async move {
            for round in 0..5 {
                commit(&log, to(&[&streams[caller % 7], &streams[(caller + round) % 7]])).await;
            }
        })
    });
    for appender in join_all(appenders).await {
        appender.expect("every append is committed");
    }
    let events = read_all(&logs[0]).await;
    assert_eq!(events.len(), 64 * 5 * 2);
    let mut revisions: HashMap<&StreamId, u64> = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.position.get(), index as u64 + 1);
        let revision = revisions.entry(&event.stream).or_default();
        *revision += 1;
        assert_eq!(event.revision.get(), *revision);
    }
    let head = logs[1].head().await.expect("a head");
    assert_eq!(head.position.get(), events.len() as u64);
}

async fn a_reader_never_misses_an_event(location: Location, database: Database) {
    const EVENTS: u64 = 200;
    let logs = [open(&database).await, open_again(&location).await];
    let reader = {
        let log = logs[0].clone();
        tokio::spawn(async move {
            let (mut reached, mut signal) = (Position::START, log.watch());
            while reached.get() < EVENTS {
                let page = log.read(reached, 10).await.expect("a page");
                for event in &page {
                    assert_eq!(event.position, reached.plus(1));
                    reached = event.position;
                }
                if page.is_empty() {
                    signal.wait_for(|newest| *newest > reached).await.expect("the log goes on");
                }
            }
        })
    };
    let appenders = (0..EVENTS as usize).map(|index| {
        let log = logs[index % 2].clone();
        async move { commit(&log, to(&[&order(index % 3)])).await }
    });
    join_all(appenders).await;
    reader.await.expect("the reader saw all");
}

async fn the_log_signals_what_this_and_other_processes_append(location: Location, database: Database) {
    let (here, there) = (open(&database).await, open_again(&location).await);
    let (signal_here, mut signal_there) = (here.watch(), there.watch());
    let receipt = commit(&here, to(&[&order(1)])).await;
    assert_eq!(*signal_here.borrow(), receipt.position, "one's own appends at once");
    signal_there.wait_for(|newest| *newest == receipt.position).await.expect("others' soon");
}

async fn time_never_runs_backwards(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(2)])).await;
    insert(&database, 2, "order-1", 1, "2999-01-01T00:00:00.000000Z").await;
    commit(&log, to(&[&order(1)])).await;
    commit(&log, to(&[&order(1), &order(2)])).await;
    let times: Vec<_> = read_all(&log).await.into_iter().map(|event| event.recorded_at.to_rfc3339()).collect();
    assert_eq!(times[1..], ["2999-01-01T00:00:00+00:00"; 4]);
}

async fn a_group_is_as_large_as_it_is(_: Location, database: Database) {
    let log = open(&database).await;
    let large = daybook_log::Append { events: (0..1_000).map(|_| event(&order(1))).collect(), ..nothing() };
    let receipts = join_all((0..3).map(|_| commit(&log, large.clone()))).await;
    assert_eq!(receipts.iter().map(|receipt| receipt.events.len()).sum::<usize>(), 3_000);
    assert_eq!(read_all(&log).await.len(), 3_000);
}
