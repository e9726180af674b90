//! Each place where a write can be broken off, one by one: the outcome is found out before anybody is answered.

use std::time::Duration;

use daybook_campaign::proxy::{Cut, Moment};
use daybook_core::{Revision, StreamId};
use daybook_log::{Append, EventFilter, Expected, IdempotencyKey, Log, LogError, Settings, Verdict};

use crate::store::{behind_a_proxy, behind_a_proxy_with, commit, made, one, one_in_a_transaction};

/// Later than the outcome is looked up.
const LATE: Duration = Duration::from_millis(300);

/// Later than everything else.
const LATER: Duration = Duration::from_secs(2);

/// How long the outcome of a commit is looked for, where it cannot be found.
const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(300);

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
                let append: Append = append();
                let stream = append.events[0].stream.clone();
                let answer = behind.log.append(append).await;
                made(armed).await;

                let there = async || count(&behind.other, &stream).await;
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

/// The server is out of reach from the cut on, for longer than an outcome is looked up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_found_out_is_resolved_by_asking_again_with_the_same_key() {
    let settings = Settings { look_up_timeout: LOOK_UP_TIMEOUT, ..Settings::default() };
    behind_a_proxy_with(settings, async |behind| {
        for (digest, (cut, done)) in (1..).zip([
            (Cut::Before, Some(false)),
            (Cut::Answer, Some(true)),
            (Cut::HalfAnswer, Some(true)),
            // It arrives before it is asked for again, and as a rule after.
            (Cut::Late(LATE), Some(true)),
            (Cut::Late(LATER), None),
        ]) {
            commit(&behind.log, one()).await;
            let key = IdempotencyKey { digest: [digest; 32], body: [1; 32], expires: true };
            let (first, again) = (Append { key: Some(key), ..one() }, Append { key: Some(key), ..one() });
            let streams = [&first, &again].map(|append| append.events[0].stream.clone());
            let armed = behind.proxy.arm_at(Moment::Statement, cut);
            behind.proxy.close();
            let log = behind.log.clone();
            let answer = tokio::spawn(async move { log.append(first).await });
            made(armed).await;
            let answer = answer.await.expect("no panic");
            assert!(matches!(answer, Err(LogError::Unknown)), "{cut:?}: {answer:?}");

            if done.is_some() {
                behind.proxy.delivered().await;
            }
            behind.proxy.open();
            let (repeated, receipt) = match behind.log.append(again).await.expect("the server is there") {
                Verdict::Repeated(receipt) => (true, receipt),
                Verdict::Committed(receipt) => (false, receipt),
                other => panic!("{cut:?}: {other:?}"),
            };
            assert_eq!(repeated, done.unwrap_or(repeated), "{cut:?}");
            behind.proxy.delivered().await;
            let [first, again] = streams;
            let there = [count(&behind.other, &first).await, count(&behind.other, &again).await];
            assert_eq!(there, if repeated { [1, 0] } else { [0, 1] }, "{cut:?}: {receipt:?}");
            assert_eq!(receipt.events[0].stream, if repeated { first } else { again }, "{cut:?}");
        }
    })
    .await;
}

/// Nobody knows what became of a write, others are told something else over the log as it is without it, and then it
/// arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_still_arrive_is_shut_out_before_anything_is_said_without_it() {
    // A transaction whose COMMIT does not come holds the log until it is cut off; this one comes before that.
    for (moment, append, cut, look_up_timeout) in [
        (Moment::Statement, one as fn() -> _, Cut::Late(LATER), LOOK_UP_TIMEOUT),
        (Moment::Commit, one_in_a_transaction, Cut::Late(LATE), LATE / 6),
    ] {
        let settings = Settings { look_up_timeout, ..Settings::default() };
        behind_a_proxy_with(settings, async move |behind| {
            let known = commit(&behind.log, one()).await.position;
            let late = behind.proxy.arm_at(moment, cut);
            behind.proxy.close();
            let append: Append = append();
            let stream = append.events[0].stream.clone();
            let log = behind.log.clone();
            let answer = tokio::spawn(async move { log.append(append).await });
            made(late).await;
            let answer = answer.await.expect("no panic");
            assert!(matches!(answer, Err(LogError::Unknown)), "{moment}: {answer:?}");
            behind.proxy.open();

            // A question that writes nothing: whether the stream is still not there.
            let expected =
                vec![Expected { stream: stream.clone(), revision: Revision::NONE, read_at: Some(known) }];
            let said = behind.log.append(Append { events: Vec::new(), expected, ..one() }).await;
            let there = match said.expect("the server is there") {
                Verdict::Committed(_) => 0,
                Verdict::Conflict(_) => 1,
                other => panic!("{moment}: {other:?}"),
            };
            behind.proxy.delivered().await;
            assert_eq!(count(&behind.other, &stream).await, there, "{moment}");
        })
        .await;
    }
}

/// How many events there are in a stream.
async fn count(log: &Log, stream: &StreamId) -> usize {
    let filter = EventFilter { stream: Some(stream.clone()), ..EventFilter::default() };
    log.find(&filter, 10).await.expect("a page").events.len()
}
