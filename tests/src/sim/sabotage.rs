//! Faults of the code under test, put in on purpose: the judge must find them.

use super::world::World;

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// Agents obey any coordinator.
    ForgetTerm,
    /// Directories are moved though something runs in them.
    WipeWhileItRuns,
    /// Nobody waits for the barrier.
    SkipBarrier,
    /// Formed is said before it is proved.
    LatchUnproved,
    /// Permits are given while everything is still being stopped.
    PermitWhileFencing,
    /// A nonce is answered again and again.
    PermitTwice,
}

impl Sabotage {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::ForgetTerm,
        Self::WipeWhileItRuns,
        Self::SkipBarrier,
        Self::LatchUnproved,
        Self::PermitWhileFencing,
        Self::PermitTwice,
    ];
}

impl World {
    pub fn sabotage(&self, what: Sabotage) -> bool {
        self.plan.sabotage == Some(what)
    }
}
