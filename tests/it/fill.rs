//! `daybook bench fill`: a long log that is like any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_tests::{Backend, Daybook, Output, Store, on_both, wait_for};
use serde_json::Value;

on_both!(what_is_filled_in_is_a_log_like_any_other);

const LIMIT: Duration = Duration::from_secs(30);

async fn what_is_filled_in_is_a_log_like_any_other(backend: Backend) {
    let store = Arc::new(Store::new(backend).await);
    store.give_master_key();
    let fill = ["bench", "fill", "--events", "2345", "--streams", "1100", "--json"];
    let filled: Value = serde_json::from_str(&success(&store.cli(&fill))).expect("JSON");
    assert_eq!((&filled["events"], &filled["position"]), (&2345.into(), &2345.into()), "{filled}");

    let lines = success(&store.cli(&["events", "tail", "--lines", "10000", "--json"]));
    let mut revisions: BTreeMap<String, u64> = BTreeMap::new();
    for (index, line) in lines.lines().enumerate() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["position"], index + 1);
        let revision = revisions.entry(event["stream"].to_string()).or_default();
        *revision += 1;
        assert_eq!((&event["revision"], &event["payload"]["number"]), (&(*revision).into(), &(*revision).into()));
    }
    assert_eq!((revisions.len(), revisions.values().sum()), (1_100, 2_345));
    assert!(revisions.values().all(|length| (2..=3).contains(length)));

    let again = store.cli(&fill);
    assert!(!again.status.success() && again.stderr.contains("--add"), "{again:?}");
    let added = success(&store.cli(&[&fill[..], &["--ids", "random", "--add"]].concat()));
    assert!(added.contains("4690"), "{added}");

    // Projectors know what they pass over.
    let daybook = Daybook::start(store, &["serve"]).await;
    wait_for("the views to get to the end", LIMIT, async || {
        let status: Value = serde_json::from_str(&success(&daybook.cli(&["status", "--json"]))).expect("JSON");
        let projections = status["projections"].as_array().expect("a list");
        assert!(projections.iter().all(|projection| projection["stopped"].is_null()), "{status}");
        projections.iter().all(|projection| projection["position"] == 4_690).then_some(())
    })
    .await;
}

fn success(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    output.stdout.clone()
}
