//! What is done to whom, and when: drawn from a seed, the same from the same seed. A function of values.

use std::time::Duration;

use super::story::Spot;

/// The clusters, and the instances of each.
pub const CLUSTERS: usize = 2;
/// Three masters with a replica each.
pub const INSTANCES: usize = 6;
/// The hosts.
pub const HOSTS: usize = 3;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An instance is killed.
    Kill(Spot),
    /// An instance is stopped for so long: shorter than the node timeout, and longer.
    Freeze(Spot, Duration),
    /// A host's agent is killed, and comes back after so long.
    KillAgent(usize, Duration),
    /// An instance is killed, and its agent a moment before.
    KillBoth(Spot, Duration),
    /// The coordinator is killed, and comes back after so long.
    KillCoordinator(Duration),
}

/// A fault, and how long nothing happens before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// That long.
    pub pause: Duration,
    /// The fault.
    pub fault: Fault,
}

/// Beats without end.
#[derive(Debug)]
pub struct Schedule(u64);

impl Schedule {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn next_beat(&mut self) -> Beat {
        let pause = self.between(50, 1200);
        let spot = Spot { cluster: self.below(CLUSTERS), nth: self.below(INSTANCES) };
        let fault = match self.below(100) {
            0..35 => Fault::Kill(spot),
            35..55 => Fault::Freeze(spot, self.between(200, 7000)),
            55..75 => Fault::KillAgent(self.below(HOSTS), self.between(0, 3000)),
            75..90 => Fault::KillBoth(spot, self.between(0, 3000)),
            _ => Fault::KillCoordinator(self.between(0, 3000)),
        };
        Beat { pause, fault }
    }

    /// The splitmix64 generator (Steele, Lea, Flood 2014): every seed is good, and ten lines need no crate.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.draw() % end as u64) as usize
    }

    fn between(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.draw() % (most_ms - least_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(seed: u64) -> Vec<Beat> {
        let mut schedule = Schedule::new(seed);
        (0..1000).map(|_| schedule.next_beat()).collect()
    }

    #[test]
    fn a_seed_tells_the_same_story_every_time_and_another_one_another() {
        assert_eq!(beats(1), beats(1));
        assert_ne!(beats(1), beats(2));
    }

    #[test]
    fn everything_that_can_happen_happens_to_everybody() {
        let beats = beats(3);
        let hurt = |spot: Spot| {
            let kills = beats.iter().filter(|beat| beat.fault == Fault::Kill(spot)).count();
            let freezes = beats.iter().filter(|beat| matches!(beat.fault, Fault::Freeze(at, _) if at == spot)).count();
            kills > 0 && freezes > 0
        };
        assert!((0..CLUSTERS).all(|cluster| (0..INSTANCES).all(|nth| hurt(Spot { cluster, nth }))));
        let agents = |host| beats.iter().any(|beat| matches!(beat.fault, Fault::KillAgent(at, _) if at == host));
        assert!((0..HOSTS).all(agents));
        assert!(beats.iter().any(|beat| matches!(beat.fault, Fault::KillBoth(..))));
        assert!(beats.iter().any(|beat| matches!(beat.fault, Fault::KillCoordinator(_))));
    }
}
