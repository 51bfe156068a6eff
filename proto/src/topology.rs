//! Who is what in a cluster, in a form that two sides can compare by a hash.

use std::{fmt, net::IpAddr};

use crate::{
    HostName, NodeId, Port, Sha256, SlotRange,
    slots::{normal, ranges_text},
};

/// What a node is. A replica has no slots and a master copies nobody, so neither can be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Serves these slots: ascending, disjoint, not touching; none for a master that has not been given any.
    Master {
        /// The slots.
        slots: Vec<SlotRange>,
    },
    /// Copies that master.
    Replica {
        /// The master's node id.
        master: NodeId,
    },
}

impl Role {
    /// `master` or `replica`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Master { .. } => "master",
            Self::Replica { .. } => "replica",
        }
    }

    /// The slots it serves.
    pub fn slots(&self) -> &[SlotRange] {
        match self {
            Self::Master { slots } => slots,
            Self::Replica { .. } => &[],
        }
    }

    /// Whom it copies.
    pub fn master(&self) -> Option<NodeId> {
        match self {
            Self::Master { .. } => None,
            Self::Replica { master } => Some(*master),
        }
    }
}

/// A node as its peers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Redis' name for it.
    pub id: NodeId,
    /// Announced address.
    pub address: IpAddr,
    /// Client port.
    pub port: u16,
    /// Bus port.
    pub bus_port: u16,
    /// What it is.
    pub role: Role,
}

/// A node of a blueprint: planned, on a host, with what its first nodes.conf needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Drawn at random for this incarnation.
    pub node_id: NodeId,
    /// Where it lives.
    pub host: HostName,
    /// What it announces.
    pub address: IpAddr,
    /// Client port.
    pub port: Port,
    /// Bus port.
    pub bus_port: u16,
    /// What it begins as.
    pub role: Role,
    /// Its shard, from 0, in slot order.
    pub shard: u32,
    /// Equal inside a shard, unique between them.
    pub shard_id: NodeId,
    /// configEpoch: 1 to M for the M masters, and their master's for replicas.
    pub config_epoch: u64,
}

impl Member {
    /// As its peers know it.
    pub fn node(&self) -> Node {
        Node {
            id: self.node_id,
            address: self.address,
            port: self.port.get(),
            bus_port: self.bus_port,
            role: self.role.clone(),
        }
    }

    /// `server1:7000`, as people call it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A whole cluster's nodes, sorted by id: two topologies are equal exactly if their digests are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology(Vec<Node>);

impl Topology {
    /// Sorts nodes and slots.
    pub fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        let mut nodes: Vec<Node> = nodes.into_iter().collect();
        for node in &mut nodes {
            if let Role::Master { slots } = &mut node.role {
                *slots = normal(std::mem::take(slots));
            }
        }
        nodes.sort_by_key(|node| node.id);
        Self(nodes)
    }

    /// Of a blueprint.
    pub fn of_members(members: &[Member]) -> Self {
        Self::new(members.iter().map(Member::node))
    }

    /// By id.
    pub fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// One node.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.0.binary_search_by_key(&id, |node| node.id).ok().map(|at| &self.0[at])
    }

    /// The canonical text: a line a node, without what differs from observer to observer (times, link states, failure
    /// suspicions) and without epochs, which elections move.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// sha256 of [`canonical`](Self::canonical).
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.canonical().as_bytes())
    }

    /// How the other differs from this, a sentence each; empty when they are equal. `this` is what should be.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut said = Vec::new();
        for node in &self.0 {
            match other.get(node.id) {
                None => said.push(format!("does not know {node}")),
                Some(seen) if seen != node => said.push(format!("sees {seen} where {node} is right")),
                Some(_) => {}
            }
        }
        for node in &other.0 {
            if self.get(node.id).is_none() {
                said.push(format!("knows a stranger, {node}"));
            }
        }
        said
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|node| writeln!(f, "{} {node}", node.id))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{} ", self.address, self.port, self.bus_port)?;
        match &self.role {
            Role::Master { slots } if slots.is_empty() => write!(f, "master -"),
            Role::Master { slots } => write!(f, "master {}", ranges_text(slots)),
            Role::Replica { master } => write!(f, "replica of {master}"),
        }
    }
}

#[cfg(test)]
mod tests;
