//! The log's order, out of partitions that each have a part of it.
//!
//! Within a partition, what comes first comes in the log's order: only what was published again goes back. So it is enough
//! to look at one event of each partition, the first that is not behind the place reached: either one of them is the next, or
//! it has not come. Nothing else is kept, and partitions that are ahead wait where they are.

use std::time::Instant;

use daybook_core::{Position, RecordedEvent};
use daybook_log::Taken;

/// What a partition has at hand.
#[derive(Debug)]
pub(crate) enum Polled {
    /// An event.
    Event(RecordedEvent),
    /// Something that is none of this history, or cannot be read.
    Other,
    /// It ends here for now.
    End,
    /// Nothing at this moment.
    Nothing,
}

/// The partitions of a topic.
#[derive(Debug)]
pub(crate) struct Sequence {
    partitions: Vec<Partition>,
    newest: Position,
    moved: Instant,
}

#[derive(Debug, Default)]
struct Partition {
    /// Its first event that was not asked for yet.
    head: Option<RecordedEvent>,
    /// Whether nothing has come since it ended.
    is_at_end: bool,
}

impl Partition {
    fn position(&self) -> Option<Position> {
        self.head.as_ref().map(|event| event.position)
    }
}

impl Sequence {
    pub(crate) fn new(partitions: usize) -> Self {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Self { partitions, newest: Position::START, moved: Instant::now() }
    }

    /// Up to where events were seen.
    pub(crate) fn newest(&self) -> Position {
        self.newest
    }

    /// See [`Tail::take`](daybook_log::Tail::take). `poll` is what a partition has at hand.
    pub(crate) fn take(
        &mut self,
        after: Position,
        through: Position,
        limit: usize,
        mut poll: impl FnMut(usize) -> Polled,
    ) -> Taken {
        let mut events = Vec::new();
        let mut due = after.plus(1);
        for partition in &mut self.partitions {
            partition.head.take_if(|event| event.position < due);
        }
        while events.len() < limit {
            // Looked for even where the log is not known to have it: what is behind is passed over.
            let found = self.find(due, &mut poll).filter(|_| due <= through);
            let Some(index) = found else { break };
            events.extend(self.partitions[index].head.take());
            due = due.plus(1);
        }
        if !events.is_empty() {
            return Taken::Events(events);
        }
        let first = self.partitions.iter().filter_map(Partition::position).min();
        match first {
            Some(first) if self.partitions.iter().all(|one| one.head.is_some()) => Taken::Hole(first),
            first => {
                let is_at_end = self.partitions.iter().all(|one| one.head.is_some() || one.is_at_end);
                Taken::Nothing { first, is_at_end, moved: self.moved }
            }
        }
    }

    /// The partition at whose head an event is, or comes to be.
    fn find(&mut self, due: Position, poll: &mut impl FnMut(usize) -> Polled) -> Option<usize> {
        let found = self.partitions.iter().position(|one| one.position() == Some(due));
        found.or_else(|| {
            let mut indexes = 0..self.partitions.len();
            indexes.find(|index| {
                self.partitions[*index].head.is_none() && self.refill(*index, due, poll) == Some(due)
            })
        })
    }

    /// Looks for the next event of a partition that is not behind `due`.
    fn refill(&mut self, index: usize, due: Position, poll: &mut impl FnMut(usize) -> Polled) -> Option<Position> {
        let partition = &mut self.partitions[index];
        loop {
            match poll(index) {
                Polled::Nothing => return None,
                Polled::End => partition.is_at_end = true,
                Polled::Other => partition.is_at_end = false,
                Polled::Event(event) => {
                    partition.is_at_end = false;
                    self.newest = self.newest.max(event.position);
                    if event.position >= due {
                        self.moved = Instant::now();
                        partition.head = Some(event);
                        return partition.position();
                    }
                }
            }
            self.moved = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use chrono::DateTime;
    use daybook_core::{JsonText, Revision, StreamId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn event(position: u64) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position),
            stream: StreamId::new("order", position),
            revision: Revision::new(1),
            id: Uuid::from_u128(u128::from(position)),
            event_type: "happened".into(),
            schema_version: 1,
            recorded_at: DateTime::from_timestamp_nanos(0),
            metadata: JsonText::new("{}"),
            payload: JsonText::new("{}"),
        }
    }

    /// What partitions hold, and how much of it has come.
    struct Topic {
        partitions: Vec<VecDeque<Polled>>,
        polls: usize,
    }

    impl Topic {
        fn new<const N: usize>(partitions: [&[u64]; N]) -> (Sequence, Self) {
            let events = |all: &[u64]| all.iter().map(|position| Polled::Event(event(*position))).collect();
            (Sequence::new(N), Self { partitions: partitions.map(events).into(), polls: 0 })
        }

        fn take(&mut self, sequence: &mut Sequence, after: u64, through: u64, limit: usize) -> Taken {
            sequence.take(Position::new(after), Position::new(through), limit, |index| {
                self.polls += 1;
                self.partitions[index].pop_front().unwrap_or(Polled::Nothing)
            })
        }

        fn end(&mut self, index: usize) {
            self.partitions[index].push_back(Polled::End);
        }
    }

    fn positions(taken: Taken) -> Vec<u64> {
        match taken {
            Taken::Events(events) => events.iter().map(|event| event.position.get()).collect(),
            other => panic!("no events: {other:?}"),
        }
    }

    #[test]
    fn it_is_the_logs_order_without_what_comes_twice() {
        let (mut sequence, mut topic) = Topic::new([&[1, 4, 1, 4, 5], &[2, 3, 3, 6], &[]]);
        assert_eq!(positions(topic.take(&mut sequence, 0, 9, 4)), [1, 2, 3, 4]);
        assert_eq!(positions(topic.take(&mut sequence, 4, 9, 4)), [5, 6]);
        assert_eq!(sequence.newest(), Position::new(6));
        assert!(matches!(topic.take(&mut sequence, 6, 9, 4), Taken::Nothing { first: None, .. }));
    }

    #[test]
    fn it_ends_where_the_log_does() {
        let (mut sequence, mut topic) = Topic::new([&[1, 2], &[3]]);
        assert_eq!(positions(topic.take(&mut sequence, 0, 2, 9)), [1, 2]);
        assert_eq!(positions(topic.take(&mut sequence, 2, 3, 9)), [3]);
    }

    #[test]
    fn a_hole_is_one_when_every_partition_is_behind_it() {
        let (mut sequence, mut topic) = Topic::new([&[5, 6], &[], &[7]]);
        let Taken::Nothing { first, is_at_end, .. } = topic.take(&mut sequence, 0, 9, 9) else {
            panic!("nothing")
        };
        assert_eq!((first, is_at_end), (Some(Position::new(5)), false));
        topic.end(1);
        assert!(matches!(topic.take(&mut sequence, 0, 9, 9), Taken::Nothing { is_at_end: true, .. }));
        topic.partitions[1].push_back(Polled::Event(event(8)));
        assert!(matches!(topic.take(&mut sequence, 0, 9, 9), Taken::Hole(first) if first.get() == 5));
        // Filled from elsewhere, it goes on.
        assert_eq!(positions(topic.take(&mut sequence, 4, 9, 9)), [5, 6, 7, 8]);
    }

    #[test]
    fn what_is_of_another_history_is_passed_over() {
        let (mut sequence, mut topic) = Topic::new([&[], &[2]]);
        topic.partitions[0].extend([Polled::Other, Polled::Event(event(1)), Polled::Other]);
        assert_eq!(positions(topic.take(&mut sequence, 0, 9, 9)), [1, 2]);
        topic.end(0);
        topic.end(1);
        topic.partitions[0].push_back(Polled::Other);
        assert!(matches!(topic.take(&mut sequence, 2, 9, 9), Taken::Nothing { is_at_end: false, .. }));
    }

    #[test]
    fn a_partition_that_is_ahead_waits() {
        let many: Vec<u64> = (2..1_000).collect();
        let (mut sequence, mut topic) = Topic::new([&many, &[]]);
        for _ in 0..3 {
            assert!(matches!(topic.take(&mut sequence, 0, 1_000, 500), Taken::Nothing { .. }));
        }
        assert_eq!(topic.partitions[0].len(), many.len() - 1, "one of its events is held");
    }

    proptest! {
        /// Whatever partition each event lies in, whatever was published again, in whatever portions it comes, and whatever
        /// is missing: each event comes once, in order, and a hole is exactly what is missing.
        #[test]
        fn whatever_comes_the_order_is_the_logs(
            placed in proptest::collection::vec((0..4_usize, 0..8_u8), 1..120),
            again in proptest::collection::vec((1..120_usize, 1..120_usize), 0..4),
            portions in proptest::collection::vec((0..4_usize, 1..20_usize), 0..60),
            limit in 1..30_usize,
        ) {
            let count = placed.len();
            let is_missing = |position: usize| placed[position - 1].1 == 0;
            let mut runs = vec![(1, count)];
            // Published again: from somewhere up to where it was published before.
            let mut reached = 0;
            for (from, to) in again {
                let to = to.clamp(1, count);
                runs.insert(runs.len() - 1, (from.min(reached + 1).min(count), to));
                reached = reached.max(to);
            }
            let last = runs.len() - 1;
            runs[last].0 = runs[last].0.min(reached + 1);
            let mut partitions: Vec<VecDeque<Polled>> = (0..4).map(|_| VecDeque::new()).collect();
            for position in runs.into_iter().flat_map(|(from, to)| from..=to).filter(|one| !is_missing(*one)) {
                partitions[placed[position - 1].0].push_back(Polled::Event(event(position as u64)));
            }
            let mut coming = portions.into_iter();
            let mut topic = Topic { partitions: (0..4).map(|_| VecDeque::new()).collect(), polls: 0 };
            let mut sequence = Sequence::new(4);
            let mut at = 0;
            while at < count {
                let all_came = partitions.iter().all(VecDeque::is_empty);
                match topic.take(&mut sequence, at as u64, count as u64, limit) {
                    Taken::Events(events) => {
                        prop_assert!(events.len() <= limit);
                        for event in events {
                            at += 1;
                            prop_assert_eq!(event.position.get(), at as u64);
                            prop_assert!(!is_missing(at));
                        }
                    }
                    Taken::Hole(first) => {
                        for position in at + 1..first.get() as usize {
                            prop_assert!(is_missing(position), "{} is there", position);
                            at = position;
                        }
                    }
                    Taken::Nothing { .. } if all_came => {
                        at += 1;
                        prop_assert!(is_missing(at), "{} is there", at);
                    }
                    Taken::Nothing { .. } => match coming.next() {
                        Some((index, some)) => {
                            let some = some.min(partitions[index].len());
                            topic.partitions[index].extend(partitions[index].drain(..some));
                        }
                        None => {
                            for (to, from) in topic.partitions.iter_mut().zip(&mut partitions) {
                                to.append(from);
                            }
                        }
                    },
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
