//! Whoever asks a rebuild to wait is obeyed in whatever phase it is, up to the moment at which it is served.

use super::*;

on_both!(&[Schema::Views], what_is_paused_is_not_written_agreed_to_or_served);

async fn what_is_paused_is_not_written_agreed_to_or_served(_: Location, database: Database) {
    let served = Ready::of_orders(database.clone()).await;
    assert!(served.commit(&[served.claim], 0, 5, &[put("k", "{}")]).await.expect("an answer"));
    for seen in [Phase::CatchUp, Phase::Verify, Phase::Held] {
        let live = served.store.generations("orders").await.expect("an answer");
        let live = live.iter().find(|one| one.phase == Phase::Live).expect("one is served").id;
        let built = Ready::begun(database.clone(), &table(), Phase::Replay).await;
        let (id, store) = (built.generation, &built.store);
        let pause = async |paused| store.set_paused(id, paused).await.expect("an answer");
        store.finish_replay(id, &built.table, 1).await.expect("indexed");
        assert!(built.commit(&[built.claim], 0, 5, &[put("k", "{}")]).await.expect("an answer"));
        assert!(seen == Phase::CatchUp || store.set_phase(id, Phase::CatchUp, seen).await.expect("an answer"));

        // Behind the last look of whoever builds it.
        assert!(pause(true).await);
        assert!(!built.commit(&[built.claim], 5, 6, &[put("k", "{}")]).await.expect("an answer"), "{seen}");
        assert!(!store.confirm(id).await.expect("an answer"), "{seen}");
        assert!(!store.cut_over((id, seen), Some((live, true))).await.expect("an answer"), "{seen}");
        let phases = async || {
            let all = store.generations("orders").await.expect("an answer");
            let phase = |wanted| all.iter().find(|one| one.id == wanted).map(|one| one.phase);
            (phase(live), phase(id))
        };
        assert_eq!(phases().await, (Some(Phase::Live), Some(seen)), "nothing was done by halves");

        assert!(pause(false).await);
        assert!(store.cut_over((id, seen), Some((live, true))).await.expect("an answer"), "{seen}");
        assert_eq!(phases().await, (Some(Phase::Retired), Some(Phase::Live)));
        assert!(!pause(true).await, "what is served does not wait");
    }
}
