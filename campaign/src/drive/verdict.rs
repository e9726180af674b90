//! Whether a campaign proves what it is for: one in which too little happened finds nothing wrong either.

use std::time::Duration;

use super::{Backend, Plan, Summary};

/// Nobody may be without any acknowledgement for this many times as long as a writer waits for the log's head: all that
/// goes wrong on purpose is over, or worked around, within twice that.
const SILENCE_TURNS: u32 = 10;

/// How much longer it may be around a crash of the server: it recovers, and all writers connect again.
const RECOVERY: Duration = Duration::from_secs(20);

/// From how many faults on, on a server, some outcome has to have been unknown.
const UNKNOWN_FAULTS: u64 = 200;

/// Why a campaign proves less than it was to.
pub(super) fn shortcomings(plan: &Plan, summary: &Summary) -> Vec<String> {
    let (counts, faults) = (&summary.counts, summary.faults());
    let limit = plan.lock_timeout * SILENCE_TURNS;
    let too_long = |silence: Duration, limit: Duration| {
        (silence > limit, format!("nothing was acknowledged for {silence:?}, and {limit:?} is the limit"))
    };
    let too_few = faults < plan.faults && (plan.time_limit.is_none() || faults == 0);
    let never_unknown =
        plan.backend == Backend::Postgres && faults >= UNKNOWN_FAULTS && counts.unknown_resolved == 0;
    [
        (too_few, format!("only {faults} of {} faults could be made", plan.faults)),
        (counts.acknowledged == 0, "nothing was acknowledged".into()),
        (counts.refused == 0, "nothing was refused".into()),
        (never_unknown, "no outcome was unknown and found out by asking again".into()),
        (counts.tried_out == 0, "nothing was tried out".into()),
        (summary.snapshots == 0, "no snapshot was kept".into()),
        too_long(summary.silence.longest, limit),
        too_long(summary.silence.around_crash, limit + RECOVERY),
    ]
    .into_iter()
    .filter_map(|(so, why)| so.then_some(why))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::Counts;
    use crate::drive::Silence;

    /// A campaign of 300 faults on a server, and all that it is to come to.
    fn enough() -> (Plan, Summary) {
        let plan = Plan {
            backend: Backend::Postgres,
            server_url: None,
            crash: false,
            disk: None,
            journals: "journals".into(),
            binary: "binary".into(),
            seed: 1,
            faults: 300,
            time_limit: None,
            writers: 4,
            clients: 8,
            lock_timeout: Duration::from_secs(1),
        };
        let summary = Summary {
            backend: plan.backend,
            seed: plan.seed,
            time: Duration::from_secs(100),
            faults: BTreeMap::from([("kill -9".into(), 300)]),
            counts: Counts { acknowledged: 1, refused: 1, tried_out: 1, unknown_resolved: 1, ..Counts::default() },
            snapshots: 1,
            silence: Silence { longest: Duration::from_secs(10), around_crash: Duration::from_secs(30) },
            violations: Vec::new(),
            shortcomings: Vec::new(),
        };
        (plan, summary)
    }

    #[track_caller]
    fn assert_too_little(change: impl FnOnce(&mut Plan, &mut Summary), why: &str) {
        let (mut plan, mut summary) = enough();
        change(&mut plan, &mut summary);
        let shortcomings = shortcomings(&plan, &summary);
        assert!(matches!(&shortcomings[..], [one] if one.contains(why)), "{shortcomings:?}");
    }

    #[test]
    fn a_campaign_in_which_enough_happened_proves_something() {
        let (plan, summary) = enough();
        assert_eq!(shortcomings(&plan, &summary), [""; 0]);
    }

    #[test]
    fn too_few_faults_prove_too_little_unless_the_time_was_limited() {
        let fewer = |summary: &mut Summary| *summary.faults.values_mut().next().expect("one kind") = 250;
        assert_too_little(|_, summary| fewer(summary), "only 250 of 300");
        let (mut plan, mut summary) = enough();
        fewer(&mut summary);
        plan.time_limit = Some(Duration::from_secs(60));
        assert_eq!(shortcomings(&plan, &summary), [""; 0]);
        summary.faults.clear();
        assert_eq!(shortcomings(&plan, &summary), ["only 0 of 300 faults could be made"]);
    }

    #[test]
    fn a_campaign_in_which_nothing_was_answered_proves_nothing() {
        assert_too_little(|_, summary| summary.counts.acknowledged = 0, "acknowledged");
        assert_too_little(|_, summary| summary.counts.refused = 0, "refused");
        assert_too_little(|_, summary| summary.counts.unknown_resolved = 0, "unknown");
        assert_too_little(|_, summary| summary.counts.tried_out = 0, "tried out");
        assert_too_little(|_, summary| summary.snapshots = 0, "snapshot");
    }

    #[test]
    fn nobody_may_wait_for_too_long() {
        assert_too_little(|_, summary| summary.silence.longest = Duration::from_secs(11), "11s, and 10s");
        assert_too_little(|_, summary| summary.silence.around_crash = Duration::from_secs(31), "31s, and 30s");
    }
}
