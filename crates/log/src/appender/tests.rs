use async_trait::async_trait;
use chrono::{DateTime, Utc};
use daybook_core::{Metadata, Position, StreamId};
use daybook_database::Signals;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::store::Written;
use crate::{Append, Head, HistoryError, NewRecord};

/// Commits a group for each permit, and says when it was given one.
struct Gate {
    permits: Arc<Semaphore>,
    taken: mpsc::UnboundedSender<usize>,
}

#[async_trait]
impl Writer for Gate {
    async fn tip(&mut self, seen: &[Mark]) -> Result<Tip, Failure> {
        Ok(Tip { position: seen[0].position, id: seen[0].id, recorded_at: DateTime::UNIX_EPOCH })
    }

    async fn write_at(&mut self, _: &Tip, _: &Plan<'_>) -> Result<Option<DateTime<Utc>>, Failure> {
        Ok(None)
    }

    async fn write_locked(&mut self, known: &Tip, _: &[Mark], group: &Group<'_>) -> Result<Written, Failure> {
        let _ = self.taken.send(group.streams.len());
        self.permits.acquire().await.expect("it is open").forget();
        let answers = crate::group::Answers { revisions: vec![Default::default()], ..Default::default() };
        let plan = group.decide(known.position, &answers);
        Ok(Written { tip: plan.tip(known, Utc::now()), verdicts: plan.verdicts, changes: None, commit: Ok(()) })
    }

    async fn look_up(&mut self, _: (Position, Uuid)) -> Result<Option<DateTime<Utc>>, Failure> {
        Ok(None)
    }
}

fn append() -> Prepared {
    let command_id = Uuid::now_v7();
    let event = NewRecord {
        stream: StreamId::new("order", 1),
        id: Uuid::now_v7(),
        event_type: "order.placed".into(),
        schema_version: 1,
        payload: "{}".into(),
    };
    let metadata = Metadata {
        actor: None,
        client: None,
        command: "order.place".into(),
        command_id,
        causation_id: None,
        correlation_id: "one".into(),
        traceparent: None,
    };
    let (expected, claims, after) = (Vec::new(), Vec::new(), Vec::new());
    let append =
        Append { id: "1".into(), command_id, events: vec![event], metadata, expected, claims, key: None, after };
    Prepared::new(append).expect("it can be written")
}

#[tokio::test]
async fn what_waits_when_the_log_is_found_to_be_another_one_is_not_tried() {
    let permits = Arc::new(Semaphore::new(0));
    let (taken, mut groups) = mpsc::unbounded_channel();
    let seen = Arc::new(Seen::new(&Head {
        log_id: Uuid::nil(),
        epoch: 1,
        position: Position::START,
        event_id: Uuid::nil(),
    }));
    let settings = Settings { group_appends_max: 1, ..Settings::default() };
    let writer = Gate { permits: permits.clone(), taken };
    let appended = Signals::none().signal("appended");
    let appender = Appender::start(Box::new(writer), &settings, seen.clone(), appended).expect("a thread");
    let submitted: Vec<_> =
        (0..3).map(|_| appender.reserve(Ok(append())).expect("there is room").submit()).collect();
    assert_eq!(groups.recv().await, Some(1));
    // The first is in the database's hands, the others wait.
    seen.lose(HistoryError::OtherEvent(Position::new(1)));
    appender.begin_to_close();
    permits.add_permits(3);
    let mut verdicts = Vec::new();
    for submitted in submitted {
        verdicts.push(submitted.verdict().await);
    }
    assert!(matches!(verdicts[0], Ok(Verdict::Committed(_))), "{verdicts:?}");
    assert!(verdicts[1..].iter().all(|verdict| matches!(verdict, Err(LogError::History(_)))), "{verdicts:?}");
    assert_eq!(groups.recv().await, None, "no other group was tried");
}
