//! Each place where a write can be broken off, one by one: the outcome is found out before anybody is answered.

use std::time::Duration;

use daybook_campaign::proxy::{Cut, Moment};
use daybook_log::{LogError, Verdict};

use crate::store::{behind_a_proxy, commit, made, one, one_in_a_transaction};

/// Later than the outcome is looked up.
const LATE: Duration = Duration::from_millis(300);

/// Later than everything else.
const LATER: Duration = Duration::from_secs(2);

const CUTS: [Cut; 7] =
    [Cut::Before, Cut::Half, Cut::Blind, Cut::Answer, Cut::HalfAnswer, Cut::After, Cut::Late(LATE)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_write_is_cut_its_answer_is_true_for_ever() {
    behind_a_proxy(async |behind| {
        for (moment, append) in [
            (Moment::Statement, one as fn() -> _),
            (Moment::InTransaction, one_in_a_transaction),
            (Moment::Commit, one_in_a_transaction),
        ] {
            for cut in CUTS {
                // It knows where the log ends, and goes the way that it goes when nothing is wrong.
                commit(&behind.log, one()).await;
                let armed = behind.proxy.arm_at(moment, cut);
                let append: daybook_log::Append = append();
                let stream = append.events[0].stream.clone();
                let answer = behind.log.append(append).await;
                made(armed).await;

                let there = async || {
                    let filter = daybook_log::EventFilter { stream: Some(stream.clone()), ..Default::default() };
                    behind.other.find(&filter, 10).await.expect("a page").events.len()
                };
                let expected = match &answer {
                    Ok(Verdict::Committed(_)) => 1,
                    Err(LogError::Unavailable(_)) => 0,
                    other => panic!("{cut:?} at {moment}: the server is there to be asked, and yet {other:?}"),
                };
                assert_eq!(there().await, expected, "{cut:?} at {moment}: {answer:?}");
                if matches!(cut, Cut::Late(_)) {
                    behind.proxy.delivered().await;
                    assert_eq!(there().await, expected, "{cut:?} at {moment}, once it has arrived: {answer:?}");
                }
            }
        }
    })
    .await;
}

/// The nastiest case: a write is on its way, its outcome is looked up and is no, whoever asked is told so, nobody else
/// writes, and then it arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_after_it_was_said_not_to_be_there_is_shut_out() {
    behind_a_proxy(async |behind| {
        commit(&behind.log, one()).await;
        let late = behind.proxy.arm_at(Moment::Statement, Cut::Late(LATER));
        let log = behind.log.clone();
        let answer = tokio::spawn(async move { log.append(one()).await });
        made(late).await;
        // The look-up goes through, and the second attempt does not.
        made(behind.proxy.arm_behind(1, Moment::Commit, Cut::Before)).await;
        let answer = answer.await.expect("no panic");
        assert!(matches!(answer, Err(LogError::Unavailable(_))), "{answer:?}");

        behind.proxy.delivered().await;
        assert_eq!(behind.other.head().await.expect("a head").position.get(), 1, "it was not done");
        commit(&behind.log, one()).await;
    })
    .await;
}
