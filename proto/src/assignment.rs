//! What one host is told: its part of every blueprint that names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ClusterId, ClusterName, HostName, Incarnation, InstanceTls, Life, Limits, Member, NodeId, OperationId, Port,
    Setting, Topology, Users,
};

/// How far an instance should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Called off before it ever formed: stopped, and its directory set aside.
    SetAside,
    /// Directory and files written, nothing started.
    Prepared,
    /// The server runs.
    Running,
    /// Nothing runs, and the directory stays: an operator has stopped it.
    Stopped,
    /// The cluster has nothing here any more: what is left of earlier lives is stopped and set aside.
    Retired,
}

/// An earlier life of a cluster at a port, ended by a rebuild. Its directory may still be in place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Former {
    /// The operation that has ended it.
    pub operation: OperationId,
    /// The cluster's life.
    pub incarnation: Incarnation,
    /// The directory's life.
    pub life: Life,
    /// The node that lived in it.
    pub node_id: NodeId,
}

/// What should be at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceAssignment {
    /// Client port.
    pub port: Port,
    /// Its node id; there is a member of the topology with this id, unless it is retired.
    pub node_id: NodeId,
    /// The directory's life.
    pub life: Life,
    /// How far it should go.
    pub want: Want,
    /// Which of the starts that operators have asked for.
    pub run: u64,
    /// Every copy of its shard was seen stopped when this run was ordered.
    pub all_stopped: bool,
    /// Earlier lives here whose directories may still be in place.
    pub formers: Vec<Former>,
    /// Its directory has run before, and is put back, never made.
    pub restore: bool,
}

/// A cluster, as one host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterAssignment {
    /// Its name.
    pub cluster: ClusterName,
    /// Which of those that had this name.
    pub cluster_id: ClusterId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Formation was proved once.
    pub formed: bool,
    /// Everyone, in the same order on every host.
    pub members: Vec<Member>,
    /// The operator's own lines of redis.conf.
    pub settings: Vec<Setting>,
    /// Copies beside each master, at least.
    pub replicas: u32,
    /// Those of this host, by port.
    pub instances: Vec<InstanceAssignment>,
    /// Who may log in; none when nobody has to.
    pub users: Option<Users>,
    /// None when plain TCP is spoken.
    pub tls: Option<InstanceTls>,
    /// What each instance may take of its host.
    pub limits: Limits,
    /// What must stay in the trash, at whatever port: an undo is about to put it back.
    pub keeps: Vec<Former>,
    /// The operator's spec, encoded, for a coordinator that has lost its store; agents do not look into it. Empty when
    /// the coordinator that told this did not send it yet.
    pub spec: Vec<u8>,
}

impl ClusterAssignment {
    /// What CLUSTER NODES should say on every instance.
    pub fn topology(&self) -> Topology {
        Topology::of_members(&self.members)
    }

    /// The member with that id.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node_id == id)
    }

    /// How many replicas the shard has in the blueprint.
    pub fn replicas_of(&self, shard: u32) -> usize {
        self.members.iter().filter(|member| member.shard == shard).count().saturating_sub(1)
    }
}

/// All that one host has to be. No port stands in two clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAssignment {
    /// Whose.
    pub host: HostName,
    /// By name.
    pub clusters: Vec<ClusterAssignment>,
}

impl HostAssignment {
    /// Nothing yet.
    pub fn empty(host: HostName) -> Self {
        Self { host, clusters: Vec::new() }
    }

    /// Every instance with its cluster, by port.
    pub fn by_port(&self) -> BTreeMap<Port, (&ClusterAssignment, &InstanceAssignment)> {
        let mut map = BTreeMap::new();
        for cluster in &self.clusters {
            for instance in &cluster.instances {
                map.insert(instance.port, (cluster, instance));
            }
        }
        map
    }
}
