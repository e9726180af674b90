//! The log is never held across anything slow: a process that freezes while it writes delays the others by seconds, and
//! not for ever. To the server, a process that is frozen and one whose bytes do not come through are the same.

use std::time::{Duration, Instant};

use daybook_campaign::proxy::{Cut, Moment};
use daybook_log::LogError;

use crate::store::{LOCK_TIMEOUT, behind_a_proxy, commit, made, one, one_in_a_transaction};

/// Longer than anybody waits for it.
const FROZEN: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_freezes_before_commit_delays_the_others_by_less_than_they_wait() {
    behind_a_proxy(async |behind| {
        commit(&behind.log, one()).await;
        let cut = behind.proxy.arm_at(Moment::Commit, Cut::Stall(FROZEN));
        let log = behind.log.clone();
        let frozen = tokio::spawn(async move { log.append(one_in_a_transaction()).await });
        made(cut).await;

        let begun = Instant::now();
        commit(&behind.other, one_in_a_transaction()).await;
        commit(&behind.other, one()).await;
        assert!(begun.elapsed() < LOCK_TIMEOUT, "it took {:?}", begun.elapsed());

        // It lost its turn, and finds that out.
        let answer = frozen.await.expect("no panic");
        assert!(matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");
        assert_eq!(behind.other.head().await.expect("a head").position.get(), 3);
        commit(&behind.log, one()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_freezes_on_the_way_delays_nobody() {
    behind_a_proxy(async |behind| {
        commit(&behind.log, one()).await;
        let cut = behind.proxy.arm_at(Moment::Statement, Cut::Stall(FROZEN));
        let log = behind.log.clone();
        let frozen = tokio::spawn(async move { log.append(one()).await });
        made(cut).await;

        let begun = Instant::now();
        commit(&behind.other, one()).await;
        commit(&behind.other, one_in_a_transaction()).await;
        assert!(begun.elapsed() < LOCK_TIMEOUT / 2, "it took {:?}", begun.elapsed());

        // Others came first; its own goes behind them.
        let answer = frozen.await.expect("no panic").expect("a verdict");
        assert!(matches!(answer, daybook_log::Verdict::Committed(receipt) if receipt.position.get() == 4));
    })
    .await;
}
