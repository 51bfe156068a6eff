//! The right to set a directory of data aside: what this agent has asked for, and whether a permit answers that.
//!
//! The agent draws a nonce for a directory that is to leave, and says it in its report; the coordinator answers with a
//! permit that repeats it. Only a permit that fits in everything becomes a [`Wipe`], and only a [`Wipe`], which is
//! consumed, sets a directory aside ([`InstanceDir::set_aside_former`](crate::layout::InstanceDir)). A nonce is good
//! once, for 60 s, on the stream that it was said on. Nothing of this outlives the agent: a new one asks anew.
//!
//! Clock and dice come in as arguments.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use muster_proto::{Ask, ClusterId, Life, NodeId, OperationId, Port, Term, wire};
use uuid::Uuid;

use crate::layout::Stamp;

/// How long a nonce is good for, by the agent's clock.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// So many nonces that are no good any more are remembered, for the sake of a better word than "nobody has asked".
const REMEMBERED: usize = 256;

/// A directory of a life that a rebuild has ended, in which nothing runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// As it was found.
    pub stamp: Stamp,
    /// What has ended it.
    pub operation: OperationId,
    /// The life that is assigned to its place now.
    pub new_life: Life,
}

/// The coordinator's word, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Whose it is.
    pub term: Term,
    /// What it is for.
    pub operation: OperationId,
    /// The cluster of the directory.
    pub cluster_id: ClusterId,
    /// The port of the directory.
    pub port: Port,
    /// The node that lives in it.
    pub node_id: NodeId,
    /// Its life, which ends.
    pub old_life: Life,
    /// The one that is assigned now.
    pub new_life: Life,
    /// As it was asked.
    pub nonce: Uuid,
}

impl TryFrom<wire::Permit> for Permit {
    type Error = Refused;

    fn try_from(permit: wire::Permit) -> Result<Self, Refused> {
        let wrong = |field: &'static str| Refused::Malformed(field);
        Ok(Self {
            term: Term(permit.term),
            operation: permit.operation.parse().map_err(|_| wrong("operation"))?,
            cluster_id: permit.cluster_id.parse().map_err(|_| wrong("cluster_id"))?,
            port: Port::try_from(permit.port).map_err(|_| wrong("port"))?,
            node_id: permit.node_id.parse().map_err(|_| wrong("node_id"))?,
            old_life: Life(permit.old_life),
            new_life: Life(permit.new_life),
            nonce: permit.nonce.parse().map_err(|_| wrong("nonce"))?,
        })
    }
}

/// The right to set one directory aside, once: there is none but from a permit that was checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Wipe(Leaving);

impl Wipe {
    /// What may leave.
    pub fn leaving(&self) -> &Leaving {
        &self.0
    }
}

/// Why a permit is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field of it cannot be read.
    #[error("its {0} is not understood")]
    Malformed(&'static str),
    /// A stray old coordinator.
    #[error("it is of term {offered}, and term {obeyed} has been obeyed")]
    LowerTerm {
        /// What came.
        offered: Term,
        /// What was obeyed.
        obeyed: Term,
    },
    /// The coordinator's hold on this host ended with the stream.
    #[error("the stream that it was asked for on is over")]
    LostLease,
    /// No such nonce.
    #[error("nobody here has asked for it, or does still")]
    NotAsked,
    /// Once is all that it is for.
    #[error("it was used before")]
    Used,
    /// Too old.
    #[error("it was asked for more than {} s ago", LIFETIME.as_secs())]
    Expired,
    /// Another place.
    #[error("it is for port {permitted}, and was asked for by port {asked}")]
    OtherInstance {
        /// What came.
        permitted: Port,
        /// What was asked.
        asked: Port,
    },
    /// Another cluster.
    #[error("it is for cluster {permitted}, and the directory is of {asked}")]
    OtherCluster {
        /// What came.
        permitted: ClusterId,
        /// What was asked.
        asked: ClusterId,
    },
    /// Another node.
    #[error("it is for the directory of node {}, and that of node {} is there", permitted.short(), asked.short())]
    OtherNode {
        /// What came.
        permitted: NodeId,
        /// What was asked.
        asked: NodeId,
    },
    /// Another life of the directory.
    #[error("it ends life {permitted}, and life {asked} is there")]
    OtherOldLife {
        /// What came.
        permitted: Life,
        /// What was asked.
        asked: Life,
    },
    /// Made for another wish than the present one.
    #[error("it makes room for life {permitted}, and life {asked} is assigned")]
    OtherNewLife {
        /// What came.
        permitted: Life,
        /// What was asked.
        asked: Life,
    },
    /// Another operation.
    #[error("it is for operation {permitted}, and operation {asked} has ended this life")]
    OtherOperation {
        /// What came.
        permitted: OperationId,
        /// What was asked.
        asked: OperationId,
    },
}

/// A nonce that is good.
#[derive(Debug)]
struct Asked {
    nonce: Uuid,
    /// When it was drawn.
    at: Duration,
    leaving: Leaving,
}

/// What was asked for and granted, port by port.
#[derive(Debug, Default)]
pub struct Permits {
    /// The number of the stream that is on.
    stream: Option<u64>,
    asked: BTreeMap<Port, Asked>,
    granted: BTreeMap<Port, (Wipe, Duration)>,
    /// Nonces that are no good any more, and why, oldest first.
    over: VecDeque<(Uuid, Refused)>,
}

impl Permits {
    /// A stream is on: what was asked on another is void.
    pub fn connected(&mut self, stream: u64) {
        if self.stream != Some(stream) {
            self.lose_all();
            self.stream = Some(stream);
        }
    }

    /// A stream is over, and with it everything that was asked or granted on it.
    pub fn parted(&mut self, stream: u64) {
        if self.stream == Some(stream) {
            self.lose_all();
            self.stream = None;
        }
    }

    /// The stream that is on.
    pub fn stream(&self) -> Option<u64> {
        self.stream
    }

    /// Asks for that to leave: with the nonce of before, while that is good, or with this new one. Nothing is asked
    /// where nobody hears it.
    pub fn ask(&mut self, port: Port, leaving: &Leaving, now: Duration, nonce: Uuid) -> Option<Ask> {
        self.stream?;
        let good = |asked: &Asked| asked.leaving == *leaving && now < asked.at + LIFETIME;
        if !self.asked.get(&port).is_some_and(good) {
            self.withdraw(port, now);
            self.asked.insert(port, Asked { nonce, at: now, leaving: leaving.clone() });
        }
        let asked = self.asked.get(&port)?;
        Some(Ask { nonce: asked.nonce, node_id: leaving.stamp.node_id, life: leaving.stamp.life })
    }

    /// Nothing is to leave there any more; what was asked or granted is void.
    pub fn withdraw(&mut self, port: Port, now: Duration) {
        self.granted.remove(&port);
        if let Some(asked) = self.asked.remove(&port) {
            let why = if now < asked.at + LIFETIME { Refused::NotAsked } else { Refused::Expired };
            self.bury(asked.nonce, why);
        }
    }

    /// Nothing is to leave at the other ports.
    pub fn retain(&mut self, now: Duration, stays: impl Fn(Port) -> bool) {
        let known = self.asked.keys().chain(self.granted.keys()).copied();
        let gone: Vec<_> = known.filter(|port| !stays(*port)).collect();
        gone.into_iter().for_each(|port| self.withdraw(port, now));
    }

    /// Checks a permit that came on a stream against what was asked, and keeps the right that it gives; the port that
    /// has it. `obeyed` is the highest term so far.
    pub fn take_in(&mut self, permit: &Permit, stream: u64, obeyed: Term, now: Duration) -> Result<Port, Refused> {
        if permit.term < obeyed {
            return Err(Refused::LowerTerm { offered: permit.term, obeyed });
        }
        if self.stream != Some(stream) {
            return Err(Refused::LostLease);
        }
        let found = self.asked.iter().find(|(_, asked)| asked.nonce == permit.nonce);
        let Some((port, asked)) = found.map(|(port, asked)| (*port, asked)) else {
            let before = self.over.iter().rev().find(|(nonce, _)| *nonce == permit.nonce);
            return Err(before.map_or(Refused::NotAsked, |(_, why)| why.clone()));
        };
        let until = asked.at + LIFETIME;
        if now >= until {
            self.withdraw(port, now);
            return Err(Refused::Expired);
        }
        fits(permit, port, &asked.leaving)?;
        if let Some(asked) = self.asked.remove(&port) {
            self.bury(asked.nonce, Refused::Used);
            self.granted.insert(port, (Wipe(asked.leaving), until));
        }
        Ok(port)
    }

    /// What may leave there now.
    pub fn granted(&self, port: Port, now: Duration) -> Option<&Leaving> {
        self.granted.get(&port).filter(|(_, until)| now < *until).map(|(wipe, _)| wipe.leaving())
    }

    /// Hands out the right to set that aside, once.
    pub fn redeem(&mut self, port: Port, leaving: &Leaving, now: Duration) -> Option<Wipe> {
        let (wipe, until) = self.granted.remove(&port)?;
        (now < until && wipe.leaving() == leaving).then_some(wipe)
    }

    fn lose_all(&mut self) {
        self.granted.clear();
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.bury(asked.nonce, Refused::LostLease);
        }
    }

    fn bury(&mut self, nonce: Uuid, why: Refused) {
        self.over.push_back((nonce, why));
        if self.over.len() > REMEMBERED {
            self.over.pop_front();
        }
    }
}

/// A permit answers what was asked in everything.
fn fits(permit: &Permit, port: Port, asked: &Leaving) -> Result<(), Refused> {
    let Leaving { stamp, operation, new_life } = asked;
    if permit.port != port {
        return Err(Refused::OtherInstance { permitted: permit.port, asked: port });
    }
    if permit.cluster_id != stamp.cluster_id {
        return Err(Refused::OtherCluster { permitted: permit.cluster_id, asked: stamp.cluster_id });
    }
    if permit.node_id != stamp.node_id {
        return Err(Refused::OtherNode { permitted: permit.node_id, asked: stamp.node_id });
    }
    if permit.old_life != stamp.life {
        return Err(Refused::OtherOldLife { permitted: permit.old_life, asked: stamp.life });
    }
    if permit.new_life != *new_life {
        return Err(Refused::OtherNewLife { permitted: permit.new_life, asked: *new_life });
    }
    if permit.operation != *operation {
        return Err(Refused::OtherOperation { permitted: permit.operation, asked: *operation });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
