//! States kept beside the log, so that long streams need not be folded from their first event on.
//!
//! A snapshot only saves time. One that cannot be read, is of another version, or was made in another history, is passed
//! over, and the state is folded from the first event on.

use std::collections::HashMap;
use std::sync::Arc;

use daybook_core::{Missing, Revision, Snapshot, StreamId, holds_fresh};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::seen::Mark;
use crate::store::{KeptSnapshot, Store};
use crate::{LogError, Ticket};

/// The most snapshots that wait to be written; one more is not made.
const WAITING_MAX: usize = 64;

/// A snapshot to be written once the append that it includes is committed.
struct Waiting {
    stream: StreamId,
    snapshot: Snapshot,
    /// The last event that is in it.
    event_id: Uuid,
    after: Option<Ticket>,
}

/// Keeps snapshots, off everybody's way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper(mpsc::Sender<Waiting>);

impl Keeper {
    /// Starts a task that writes snapshots to `store` until it is told that the log is `closing`.
    pub(crate) fn start(store: Arc<dyn Store>, closing: watch::Receiver<bool>) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(keep_all(store, waiting, closing));
        Self(sender)
    }

    /// Has a snapshot kept, once `after` is committed. With too many waiting it is not: there will be others.
    pub(crate) fn keep(&self, stream: &StreamId, snapshot: Snapshot, event_id: Uuid, after: Option<Ticket>) {
        let _ = self.0.try_send(Waiting { stream: stream.clone(), snapshot, event_id, after });
    }
}

async fn keep_all(
    store: Arc<dyn Store>,
    mut waiting: mpsc::Receiver<Waiting>,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let next = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            next = waiting.recv() => next,
        };
        let Some(Waiting { stream, snapshot, event_id, after }) = next else { return };
        if let Some(after) = after
            && !after.settled().await
        {
            continue;
        }
        let state = match snapshot.encode() {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(%error, %stream, "a state cannot be kept as a snapshot");
                continue;
            }
        };
        if holds_fresh(&state) {
            tracing::error!(%stream, "a state holds a personal value that is not sealed: it is not kept as a snapshot");
            continue;
        }
        let kept = KeptSnapshot {
            stream: stream.to_string(),
            revision: snapshot.revision.to_i64(),
            version: snapshot.version.into(),
            state,
        };
        match store.keep_snapshot(&kept, event_id).await {
            Ok(()) => metrics::counter!("daybook_snapshots_kept_total").increment(1),
            Err(error) => tracing::warn!(%error, %stream, "a snapshot was not kept"),
        }
    }
}

/// Lets streams that are to be loaded go on from their snapshots. Answers the last event that is in each.
pub(crate) async fn resume(store: &dyn Store, streams: &mut [Missing]) -> Result<Vec<Mark>, LogError> {
    let mut asking: HashMap<(String, i64), &mut Missing> = streams
        .iter_mut()
        .filter(|missing| missing.revision() == Revision::NONE)
        .filter_map(|missing| {
            let version = missing.state().snapshot_version()?;
            Some(((missing.stream().to_string(), version.into()), missing))
        })
        .collect();
    let mut marks = Vec::new();
    if asking.is_empty() {
        return Ok(marks);
    }
    let wanted: Vec<_> = asking.keys().cloned().collect();
    let found = match store.snapshots(&wanted).await {
        Ok(found) => found,
        Err(error @ LogError::Unavailable(_)) => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "snapshots cannot be read: folding all events");
            return Ok(marks);
        }
    };
    for (kept, mark) in found {
        let Some(missing) = asking.get_mut(&(kept.stream.clone(), kept.version)) else { continue };
        match missing.state().resume(Revision::from_i64(kept.revision), &kept.state) {
            Ok(()) => marks.push(mark),
            Err(error) => {
                tracing::warn!(%error, stream = kept.stream, "a snapshot cannot be read: folding all events");
            }
        }
    }
    Ok(marks)
}
