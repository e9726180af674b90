//! How many events go to how many streams, and in which order.

use std::ops::Range;

/// How many streams grow beside each other: as many as an append has events at most.
const BLOCK: u64 = 1_000;

/// So many events in so many streams, all as long as each other or one longer. The longer ones come first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) events: u64,
    /// At least one, and at most as many as there are events.
    pub(super) streams: u64,
}

impl Shape {
    /// How many events the stream at `index` has.
    pub(super) fn length(&self, index: u64) -> u64 {
        self.events / self.streams + u64::from(index < self.events % self.streams)
    }

    /// The streams, in blocks that are written one after the other.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let streams = self.streams;
        (0..streams.div_ceil(BLOCK)).map(move |block| block * BLOCK..streams.min((block + 1) * BLOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_events_are_written_and_no_others() {
        for (events, streams) in [(1, 1), (10, 3), (2_000, 2_000), (123_457, 12_346), (5_003, 1_001)] {
            let shape = Shape { events, streams };
            let lengths: Vec<_> = shape.blocks().flatten().map(|index| shape.length(index)).collect();
            assert_eq!((lengths.len() as u64, lengths.iter().sum()), (streams, events));
            assert!(lengths.iter().all(|length| *length > 0));
            assert!(shape.blocks().all(|block| !block.is_empty() && block.end - block.start <= BLOCK));
        }
    }
}
