//! L7: a claim is held by one stream.

use daybook_core::StreamId;
use daybook_database::{Database, Location, on_both};
use daybook_log::{Append, Claim, Verdict};
use futures_util::future::join_all;

use crate::fixture::{commit, nothing, open, open_again, order, to, to_at};

on_both!(
    &[Schema::Log],
    of_many_that_take_a_claim_one_gets_it,
    a_claim_that_was_released_can_be_taken,
    only_the_holder_releases_a_claim,
    a_claim_is_taken_together_with_the_events_or_not_at_all,
);

fn take(key: &str, holder: &StreamId) -> Claim {
    Claim::Take { name: "account.email".into(), key: key.into(), holder: holder.clone() }
}

fn release(key: &str, holder: &StreamId) -> Claim {
    Claim::Release { name: "account.email".into(), key: key.into(), holder: holder.clone() }
}

fn claims(claims: Vec<Claim>) -> Append {
    Append { claims, ..nothing() }
}

async fn of_many_that_take_a_claim_one_gets_it(location: Location, database: Database) {
    let logs = [open(&database).await, open_again(&location).await];
    let appends = (0..32_usize).map(|caller| {
        let holder = order(caller);
        logs[caller % 2].append(Append { claims: vec![take("ada", &holder)], ..to(&[&holder]) })
    });
    let verdicts: Vec<_> =
        join_all(appends).await.into_iter().map(|verdict| verdict.expect("a verdict")).collect();
    let winners: Vec<_> = (0..32).filter(|index| matches!(verdicts[*index], Verdict::Committed(_))).collect();
    let [winner] = winners[..] else { panic!("{verdicts:?}") };
    for (index, verdict) in verdicts.into_iter().enumerate() {
        assert!(index == winner || verdict == Verdict::ClaimTaken { index: 0, holder: order(winner) });
    }
    let holder = logs[0].claim_holder("account.email", "ada").await.expect("an answer");
    assert_eq!(holder, Some(order(winner)));
    assert_eq!(logs[0].head().await.expect("a head").position.get(), 1);
}

async fn a_claim_that_was_released_can_be_taken(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, claims(vec![take("ada", &order(1)), take("ada", &order(1)), take("bob", &order(1))])).await;
    commit(&log, claims(vec![take("ada", &order(1))])).await;
    commit(&log, claims(vec![release("ada", &order(1)), take("ada", &order(2)), release("bob", &order(1))])).await;
    let holder = async |key| log.claim_holder("account.email", key).await.expect("an answer");
    assert_eq!((holder("ada").await, holder("bob").await), (Some(order(2)), None));
}

async fn only_the_holder_releases_a_claim(_: Location, database: Database) {
    let log = open(&database).await;
    commit(&log, claims(vec![take("ada", &order(1))])).await;
    commit(&log, claims(vec![release("ada", &order(2)), release("nobody's", &order(2))])).await;
    let verdict = log.append(claims(vec![release("ada", &order(2)), take("ada", &order(2))])).await;
    assert_eq!(verdict.expect("a verdict"), Verdict::ClaimTaken { index: 1, holder: order(1) });
}

async fn a_claim_is_taken_together_with_the_events_or_not_at_all(_: Location, database: Database) {
    let log = open(&database).await;
    let stale = Append { claims: vec![take("ada", &order(1))], ..to_at(&order(1), 1) };
    assert!(matches!(log.append(stale).await.expect("a verdict"), Verdict::Conflict(_)));
    assert_eq!(log.claim_holder("account.email", "ada").await.expect("an answer"), None);
}
