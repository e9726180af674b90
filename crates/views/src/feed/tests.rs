use daybook_core::{Contracts, Position, projection};
use daybook_database::{Database, Location, on_both};
use daybook_log::{Log, Settings};

use super::*;
use crate::testing::Orders;

on_both!(&[Schema::Log, Schema::Views], who_is_behind_is_told_as_one_or_reads_everything_anew);

fn mark(position: u64) -> Mark {
    Mark { position: Position::new(position), generation: 1 }
}

/// A look in which some documents have changed.
fn look(position: u64, keys: Vec<String>) -> Look {
    Look { mark: mark(position), oldest: Some(Position::new(1)), keys, is_cut: false }
}

async fn who_is_behind_is_told_as_one_or_reads_everything_anew(_: Location, database: Database) {
    let log = Log::open(database.clone(), Settings::default()).await.expect("the log opens");
    let projections = vec![projection::<Orders>()];
    let views = Views::open(database, log.clone(), Contracts::default(), projections).expect("a good declaration");
    let view = views.view("orders").expect("it is there").clone();
    // Nothing is served, so that the follower tells nothing itself.
    let tell = |position, keys: &[&str]| {
        view.feed.take_in(look(position, keys.iter().map(|key| (*key).to_owned()).collect()), Instant::now());
    };
    tell(1, &[]);
    let mut live = Live::begin(&views, &view, None).await.expect("followed");
    let mut told = async || {
        let News { mark, keys } = timeout(FIRST_LOOK, live.next()).await.expect("in time").expect("it goes on");
        (mark, keys.map(|keys| keys.join(" ")))
    };
    let some = |position, keys: &str| (mark(position), Some(keys.to_owned()));
    assert_eq!(told().await, some(1, ""));
    tell(2, &["b"]);
    tell(3, &["a", "b"]);
    assert_eq!(told().await, some(3, "a b"));

    let last = 4 + NEWS_MAX as u64;
    for position in 4..=last {
        tell(position, &["a"]);
    }
    assert_eq!(told().await, (mark(last), None), "more was told than is kept");
    tell(last + 1, &["c"]);
    assert_eq!(told().await, some(last + 1, "c"), "it goes on from there");

    let many: Vec<String> = (0..=TOLD_MAX).map(|key| key.to_string()).collect();
    tell(last + 2, &["a"]);
    view.feed.take_in(look(last + 3, many), Instant::now());
    assert_eq!(told().await, some(last + 2, "a"));
    assert_eq!(told().await, (mark(last + 3), None), "these are too many to be read one by one");
    views.close();
    log.close().await;
}
