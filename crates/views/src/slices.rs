//! Work is split by the keys of documents, over a fixed number of slices.

/// How many slices there are. It is written into every checkpoint, and so for ever.
pub const SLICES: u16 = 1_024;

/// The slice of a document: FNV-1a over the key's bytes, its halves folded together. Checkpoints depend on it, so it is
/// no hasher of a library.
pub(crate) fn slice(key: &str) -> u16 {
    let hash = fnv(key.bytes());
    ((hash ^ (hash >> 32)) % u64::from(SLICES)) as u16
}

/// FNV-1a.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Some slices, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slices {
    pub(crate) from: u16,
    /// Behind the last one.
    pub(crate) to: u16,
}

impl Slices {
    pub(crate) fn contains(self, slice: u16) -> bool {
        (self.from..self.to).contains(&slice)
    }
}

/// The first slice of each of `shards` ranges that cover all slices.
pub(crate) fn boundary(shard: u16, shards: u16) -> u16 {
    (u32::from(shard) * u32::from(SLICES)).div_ceil(u32::from(shards)) as u16
}

/// Which of `shards` ranges a slice is in.
pub(crate) fn shard(slice: u16, shards: u16) -> u16 {
    (u32::from(slice) * u32::from(shards) / u32::from(SLICES)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_in_its_slice_for_ever() {
        let keys = ["", "a", "b", "c07", "0190f5a2-8c3e-7b1d-9a44-3d5f6e7a8b9c", "grün"];
        assert_eq!(keys.map(slice), SAMPLES);
    }

    /// Computed once. When they change, every view that there is has documents in the wrong slices.
    const SAMPLES: [u16; 6] = [961, 192, 745, 122, 987, 784];

    #[test]
    fn keys_are_spread_evenly() {
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            counts[usize::from(shard(slice(&format!("order-{n}")), 8))] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn shards_cover_all_slices_in_order() {
        for shards in [1, 2, 3, 7, 8, 1_000, SLICES] {
            for slice in 0..SLICES {
                let shard = shard(slice, shards);
                assert!((boundary(shard, shards)..boundary(shard + 1, shards)).contains(&slice));
            }
        }
    }
}
