//! All chance of a simulated world: one stream of numbers out of the seed.

use std::time::Duration;

use muster_proto::NodeId;
use uuid::Uuid;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `end`, exclusive.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("small");
        usize::try_from(self.next() % end).expect("small")
    }

    /// So many times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Milliseconds, both ends included.
    pub fn ms(&mut self, least: usize, most: usize) -> Duration {
        Duration::from_millis(u64::try_from(least + self.below(most - least + 1)).expect("small"))
    }

    /// One of them; none of none.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.below(of.len())].clone()) }
    }

    pub fn uuid(&mut self) -> Uuid {
        let (high, low) = (self.next(), self.next());
        uuid::Builder::from_u128(u128::from(high) << 64 | u128::from(low))
            .with_version(uuid::Version::Random)
            .into_uuid()
    }

    pub fn node_id(&mut self) -> NodeId {
        let mut bytes = [0; 20];
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.next().to_be_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        NodeId(bytes)
    }
}
