//! How the workers of a generation share its ranges: each looks at the same board, and does its part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daybook_log::Checkpoint;

use crate::generation::Phase;
use crate::slices::{Slices, boundary, shard};

/// A range of slices, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    pub(crate) slices: Slices,
    /// How far it has come.
    pub(crate) checkpoint: Checkpoint,
    /// Raised with each new holder; every write requires it.
    pub(crate) lease_epoch: i64,
    /// Who holds it, unless the lease ran out.
    pub(crate) owner: Option<String>,
}

/// All ranges of a generation, and who is there to fold them.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// In the order of their slices.
    pub(crate) ranges: Vec<Range>,
    pub(crate) workers: BTreeSet<String>,
    pub(crate) shards: u16,
    pub(crate) phase: Phase,
    pub(crate) paused: bool,
}

/// How a generation stands that is fed.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) generation: i64,
    pub(crate) projection: String,
    pub(crate) version: u32,
    pub(crate) board: Board,
}

/// What the keeper of a process's leases has seen last of all generations; nothing when it could not look.
pub(crate) type Standings = Option<Arc<[Standing]>>;

/// What a worker does about a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Take it: it is free.
    Take(Claim),
    /// Give it back: others have less than their share, or hold its neighbours.
    GiveBack(Claim),
    /// Cut it in two in front of this slice.
    Split(Claim, u16),
    /// Put it together with the one behind it, which stands where it stands.
    Merge(Claim, Claim),
}

/// A range as it was seen on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) slices: Slices,
    pub(crate) lease_epoch: i64,
}

impl Range {
    pub(crate) fn claim(&self) -> Claim {
        Claim { slices: self.slices, lease_epoch: self.lease_epoch }
    }
}

impl Board {
    /// What `me` has to do, so that in the end each worker holds its fair share of the shards: nothing, when it is so.
    ///
    /// A shard that is in pieces belongs to whoever holds its first piece that is held, and is put together there.
    pub(crate) fn acts(&self, me: &str) -> Vec<Act> {
        let is_mine = |range: &Range| range.owner.as_deref() == Some(me);
        let cuts = self.ranges.iter().filter(|range| is_mine(range)).filter_map(|range| {
            let next = boundary(shard(range.slices.from, self.shards) + 1, self.shards);
            (next < range.slices.to).then(|| Act::Split(range.claim(), next))
        });
        let cuts: Vec<_> = cuts.collect();
        if !cuts.is_empty() {
            return cuts;
        }
        let mut shards: BTreeMap<u16, Vec<&Range>> = BTreeMap::new();
        for range in &self.ranges {
            shards.entry(shard(range.slices.from, self.shards)).or_default().push(range);
        }
        let share = shards.len().div_ceil(self.workers.len().max(1));
        let (mut acts, mut held, mut free) = (Vec::new(), Vec::new(), Vec::new());
        for pieces in shards.values() {
            match pieces.iter().find_map(|range| range.owner.as_deref()) {
                None => free.push(pieces),
                Some(home) if home == me => held.push(pieces),
                Some(_) => acts.extend(pieces.iter().filter(|r| is_mine(r)).map(|r| Act::GiveBack(r.claim()))),
            }
        }
        for pieces in held.iter().skip(share) {
            acts.extend(pieces.iter().filter(|range| is_mine(range)).map(|range| Act::GiveBack(range.claim())));
        }
        for pieces in held.iter().take(share).chain(free.iter().take(share.saturating_sub(held.len()))) {
            acts.extend(pieces.iter().filter(|r| r.owner.is_none()).map(|r| Act::Take(r.claim())));
            let level = |pair: &&[&Range]| {
                pair.iter().all(|range| is_mine(range))
                    && pair[0].checkpoint == pair[1].checkpoint
                    && pair[0].slices.to == pair[1].slices.from
            };
            if let Some(pair) = pieces.windows(2).find(level) {
                acts.push(Act::Merge(pair[0].claim(), pair[1].claim()));
            }
        }
        acts
    }
}

#[cfg(test)]
mod tests {
    use daybook_core::Position;
    use uuid::Uuid;

    use super::*;

    fn board(shards: u16, workers: &[&str], ranges: &[(u16, u16, u64, &str)]) -> Board {
        let range = |&(from, to, position, owner): &(u16, u16, u64, &str)| Range {
            slices: Slices { from, to },
            checkpoint: Checkpoint {
                log_id: Uuid::nil(),
                epoch: 1,
                position: Position::new(position),
                event_id: Uuid::nil(),
            },
            lease_epoch: 1,
            owner: Some(owner.to_owned()).filter(|owner| !owner.is_empty()),
        };
        let workers = workers.iter().map(|name| (*name).to_owned()).collect();
        let ranges = ranges.iter().map(range).collect();
        Board { ranges, workers, shards, phase: Phase::Live, paused: false }
    }

    /// Lets all workers act in turn until nobody has anything to do.
    fn settle(mut board: Board) -> Board {
        let workers = board.workers.clone();
        for _ in 0..100 {
            let mut acted = false;
            for me in &workers {
                for act in board.acts(me) {
                    acted = true;
                    let find = |claim: Claim| {
                        board.ranges.iter().position(|range| range.slices == claim.slices).expect("on the board")
                    };
                    match act {
                        Act::Take(claim) => {
                            let at = find(claim);
                            assert_eq!(board.ranges[at].owner, None);
                            board.ranges[at].owner = Some(me.clone());
                        }
                        Act::GiveBack(claim) => {
                            let at = find(claim);
                            board.ranges[at].owner = None;
                        }
                        Act::Split(claim, slice) => {
                            let at = find(claim);
                            let mut right = board.ranges[at].clone();
                            right.slices.from = slice;
                            board.ranges[at].slices.to = slice;
                            board.ranges.insert(at + 1, right);
                        }
                        Act::Merge(left, right) => {
                            let at = find(left);
                            assert_eq!(find(right), at + 1);
                            let right = board.ranges.remove(at + 1);
                            board.ranges[at].slices.to = right.slices.to;
                        }
                    }
                }
            }
            if !acted {
                return board;
            }
        }
        panic!("they never agree: {board:?}");
    }

    fn held(board: &Board, owner: &str) -> usize {
        board.ranges.iter().filter(|range| range.owner.as_deref() == Some(owner)).count()
    }

    #[test]
    fn one_takes_all() {
        let board = settle(board(8, &["a"], &[(0, 1024, 0, "")]));
        assert_eq!((board.ranges.len(), held(&board, "a")), (8, 8));
    }

    #[test]
    fn each_has_its_share_whoever_came_first() {
        let ranges: Vec<_> = (0..8).map(|n| (n * 128, n * 128 + 128, 0, "a")).collect();
        let board = settle(board(8, &["a", "b", "c"], &ranges));
        let mut shares = ["a", "b", "c"].map(|name| held(&board, name));
        shares.sort_unstable();
        assert_eq!(shares, [2, 3, 3]);
    }

    #[test]
    fn ranges_of_the_dead_are_taken() {
        let board = settle(board(
            4,
            &["a"],
            &[(0, 256, 5, "a"), (256, 512, 6, ""), (512, 768, 7, ""), (768, 1024, 8, "")],
        ));
        assert_eq!(held(&board, "a"), 4);
    }

    #[test]
    fn the_number_of_ranges_changes_without_a_rebuild() {
        let ranges: Vec<_> = (0..8).map(|n| (n * 128, n * 128 + 128, 9, ["a", "b"][usize::from(n) % 2])).collect();
        for shards in [1, 2, 3, 5, 8, 13, 64] {
            let board = settle(board(shards, &["a", "b"], &ranges));
            assert_eq!(board.ranges.len(), usize::from(shards));
            assert!(board.ranges.windows(2).all(|pair| pair[0].slices.to == pair[1].slices.from));
            assert!(held(&board, "a").abs_diff(held(&board, "b")) <= 1);
        }
    }

    #[test]
    fn ranges_that_stand_at_different_positions_are_not_put_together() {
        let board = settle(board(1, &["a"], &[(0, 512, 5, "a"), (512, 1024, 6, "")]));
        assert_eq!((board.ranges.len(), held(&board, "a")), (2, 2));
    }
}
