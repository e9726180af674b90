//! Looking for events.

use chrono::{TimeDelta, Utc};
use daybook_core::{Position, StreamId};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, EventFilter, Log, NewRecord};

use crate::fixture::{commit, event, insert, nothing, open, order, read_all, to};

on_both!(
    &[Schema::Log],
    each_condition_selects,
    times_select_what_was_recorded_between_them,
    pages_join_without_gap_or_overlap,
    a_search_looks_at_a_bounded_number_of_events,
    people_are_found_however_much_lies_between_them,
);

/// The positions found, over all pages of `limit`.
async fn found(log: &Log, filter: &EventFilter, limit: usize) -> Vec<u64> {
    let (mut filter, mut positions) = (filter.clone(), Vec::new());
    loop {
        let page = log.find(&filter, limit).await.expect("a page");
        assert!(page.events.len() <= limit);
        positions.extend(page.events.iter().map(|event| event.position.get()));
        match page.next {
            Some(next) => {
                assert!(next > filter.after, "it goes on");
                filter.after = next;
            }
            None => return positions,
        }
    }
}

async fn each_condition_selects(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, to(&[&order(1), &order(2)])).await;
    let mut by_bob = to(&[&order(1)]);
    by_bob.metadata.actor = Some("bob".into());
    by_bob.metadata.correlation_id = "two".into();
    commit(&log, by_bob).await;
    let mut by_nobody = Append {
        events: vec![NewRecord { event_type: "order.cancelled".into(), ..event(&order(2)) }],
        ..nothing()
    };
    by_nobody.metadata.actor = None;
    commit(&log, by_nobody).await;

    let text = |text: &str| Some(text.to_owned());
    let all = EventFilter::default();
    let after = Position::new;
    for (filter, expected) in [
        (all.clone(), &[1, 2, 3, 4][..]),
        (EventFilter { after: after(2), ..all.clone() }, &[3, 4]),
        (EventFilter { after: after(9), ..all.clone() }, &[]),
        (EventFilter { after: after(u64::MAX), ..all.clone() }, &[]),
        (EventFilter { stream: Some(order(1)), ..all.clone() }, &[1, 3]),
        (EventFilter { stream: Some(order(1)), after: after(1), ..all.clone() }, &[3]),
        (EventFilter { stream: Some(order(1)), after: after(2), ..all.clone() }, &[3]),
        (EventFilter { stream: Some(order(7)), ..all.clone() }, &[]),
        (EventFilter { of_people: true, ..all.clone() }, &[]),
        (EventFilter { of_people: true, stream: Some(order(1)), ..all.clone() }, &[]),
        (EventFilter { event_type: text("order.placed"), ..all.clone() }, &[1, 2, 3]),
        (EventFilter { actor: text("bob"), ..all.clone() }, &[3]),
        (EventFilter { actor: text("' OR true --"), ..all.clone() }, &[]),
        (EventFilter { correlation_id: text("one"), ..all.clone() }, &[1, 2, 4]),
        (
            EventFilter {
                stream: Some(order(2)),
                event_type: text("order.placed"),
                actor: text("ada"),
                correlation_id: text("one"),
                ..all
            },
            &[2],
        ),
    ] {
        for limit in [1, 2, 100] {
            assert_eq!(found(&log, &filter, limit).await, expected, "{filter:?}");
        }
    }
}

async fn times_select_what_was_recorded_between_them(_: Location, database: Database) {
    let log = open(&database).await;
    let start = Utc::now() + TimeDelta::days(1);
    // Three events in each of five minutes: the newest event's time, ahead of the clock's, is what is recorded.
    for minute in 0..5 {
        let time = (start + TimeDelta::minutes(minute)).format("%Y-%m-%dT%H:%M:%S%.6fZ");
        let last = minute.unsigned_abs() * 3;
        insert(&database, last + 1, "order-1", last + 1, &time.to_string()).await;
        for _ in 0..2 {
            commit(&log, to(&[&order(1)])).await;
        }
    }
    let times: Vec<_> = read_all(&log).await.into_iter().map(|event| event.recorded_at).collect();
    let day = TimeDelta::days(1);
    let moments =
        [times[0] - day, times[0], times[5], times[5] + TimeDelta::nanoseconds(1), times[14], times[14] + day];
    for since in moments.map(Some).into_iter().chain([None]) {
        for until in moments.map(Some).into_iter().chain([None]) {
            let within = |time| since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until);
            let expected: Vec<u64> = (1..=15).filter(|position| within(times[*position as usize - 1])).collect();
            for stream in [None, Some(order(1))] {
                let filter = EventFilter { since, until, stream, ..EventFilter::default() };
                assert_eq!(found(&log, &filter, 4).await, expected, "{filter:?}");
            }
        }
    }
}

async fn pages_join_without_gap_or_overlap(_: Location, database: Database) {
    let log = open(&database).await;
    for index in 0..30 {
        commit(&log, to(&[&order(index % 3)])).await;
    }
    let filter = EventFilter { stream: Some(order(2)), ..EventFilter::default() };
    let page = log.find(&filter, 4).await.expect("a page");
    assert_eq!(page.next, page.events.last().map(|event| event.position));
    let expected: Vec<u64> = (1..=30).filter(|position| position % 3 == 0).collect();
    for limit in [1, 3, 5, 10, 100] {
        assert_eq!(found(&log, &filter, limit).await, expected);
    }
}

async fn a_search_looks_at_a_bounded_number_of_events(_: Location, database: Database) {
    let log = open(&database).await;
    let stream = order(1);
    let thousand = Append { events: (0..1_000).map(|_| event(&stream)).collect(), ..nothing() };
    for _ in 0..11 {
        commit(&log, thousand.clone()).await;
    }
    let last = NewRecord { event_type: "order.cancelled".into(), ..event(&stream) };
    commit(&log, Append { events: vec![last], ..nothing() }).await;
    let filter = EventFilter { event_type: Some("order.cancelled".into()), ..EventFilter::default() };
    let page = log.find(&filter, 10).await.expect("a page");
    assert_eq!((page.events.len(), page.next), (0, Some(Position::new(10_000))));
    assert_eq!(found(&log, &filter, 10).await, [11_001]);
    assert_eq!(log.read(Position::START, usize::MAX).await.expect("a page").len(), 10_000);
}

async fn people_are_found_however_much_lies_between_them(_: Location, database: Database) {
    let log = open(&database).await;
    let of_people = [("account", "1"), ("session", "1"), ("daybook.subject", "account-1"), ("account", "-")];
    let of_others = [
        ("accounts", "1"),
        ("accoun", "1"),
        ("session.s", "1"),
        ("daybook.subjects", "1"),
        ("daybook", "subject-1"),
    ];
    let events = of_people.iter().chain(&of_others).map(|(category, id)| event(&StreamId::new(category, id)));
    let once = Append { events: events.collect(), ..nothing() };
    commit(&log, once.clone()).await;
    let much = Append { events: (0..1_000).map(|_| event(&order(1))).collect(), ..nothing() };
    for _ in 0..11 {
        commit(&log, much.clone()).await;
    }
    commit(&log, once).await;

    let all = EventFilter { of_people: true, ..EventFilter::default() };
    let expected = [1, 2, 3, 4, 11_010, 11_011, 11_012, 11_013];
    for limit in [1, 4, 5, 100] {
        assert_eq!(found(&log, &all, limit).await, expected);
        let behind = EventFilter { after: Position::new(4), ..all.clone() };
        assert_eq!(found(&log, &behind, limit).await, expected[4..]);
    }
    let page = log.find(&all, 100).await.expect("a page");
    assert_eq!((page.events.len(), page.next), (8, None), "one search finds all of them");
    let session = EventFilter { stream: Some(StreamId::new("session", 1)), ..all };
    assert_eq!(found(&log, &session, 100).await, [2, 11_011]);
}
