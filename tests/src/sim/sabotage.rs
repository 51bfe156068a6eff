//! Faults of the code under test, put in on purpose: the judge must find them.

use muster_agent::{permits::Leaving, reconcile::stamp_of};
use muster_proto::Port;

use super::world::World;

/// A rule that is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// Agents obey coordinators of lower terms.
    ForgetTerm,
    /// Agents take older documents than the one that they have.
    ForgetGeneration,
    /// Agents move directories though something runs in them.
    WipeWhileItRuns,
    /// Agents set former lives aside without a permit.
    WipeUnpermitted,
    /// Agents take any permit: used, expired, of another stream.
    TakeAnyPermit,
    /// What is to be put back is deleted when it is old.
    DeleteWanted,
    /// The point of no return is passed before the barrier.
    SkipBarrier,
    /// Servers are started before all directories are written.
    StartUnprepared,
    /// Servers are started before the former life is set aside everywhere.
    StartUnwiped,
    /// Formed is said before it is proved.
    LatchUnproved,
    /// A life without hosts that are not there keeps its bus ports.
    SameBusPorts,
    /// Numbers of lives are not remembered.
    ForgetLives,
}

impl Sabotage {
    /// All.
    pub const ALL: [Self; 12] = [
        Self::ForgetTerm,
        Self::ForgetGeneration,
        Self::WipeWhileItRuns,
        Self::WipeUnpermitted,
        Self::TakeAnyPermit,
        Self::DeleteWanted,
        Self::SkipBarrier,
        Self::StartUnprepared,
        Self::StartUnwiped,
        Self::LatchUnproved,
        Self::SameBusPorts,
        Self::ForgetLives,
    ];
}

impl Sabotage {
    /// A night that shows it, as things are.
    pub fn shows_near(self) -> u64 {
        match self {
            Self::ForgetTerm => 10,
            Self::WipeWhileItRuns => 59,
            Self::SameBusPorts => 103,
            Self::TakeAnyPermit | Self::DeleteWanted => 6,
            Self::ForgetGeneration | Self::WipeUnpermitted | Self::StartUnwiped | Self::ForgetLives => 3,
            Self::SkipBarrier | Self::StartUnprepared | Self::LatchUnproved => 1,
        }
    }
}

impl World {
    pub fn sabotage(&self, what: Sabotage) -> bool {
        self.plan.sabotage == Some(what)
    }

    /// The right to set aside whatever of a former life lies at a port.
    pub fn forged(&self, host: usize, port: Port) -> Option<Leaving> {
        let disk = &self.hosts[host].disk;
        let (cluster, wanted) = *disk.orders.assignment().by_port().get(&port)?;
        let stamp = &disk.places.get(&port)?.stamp;
        let former = wanted.formers.iter().find(|former| former.node_id == stamp.node_id)?;
        let is_wanted = stamp.same_life(&stamp_of(cluster, wanted));
        let leaving = Leaving { stamp: stamp.clone(), operation: former.operation, new_life: wanted.life };
        (!is_wanted).then_some(leaving)
    }
}
