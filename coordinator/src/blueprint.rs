//! A plan that was approved, with everything drawn: who is what, immutable.

use std::collections::BTreeMap;

use muster_proto::{
    BusOffset, ClusterAssignment, ClusterId, ClusterName, HostName, Incarnation, InstanceAssignment, Life, Limits,
    Member, NodeId, Role, Setting, Spec, Topology, Want, convert::FieldError, wire,
};
use prost::Message as _;

use crate::placement::{Placement, Seat};

/// Who is what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Which of those that had this name.
    pub cluster_id: ClusterId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Shard by shard, the master first.
    pub members: Vec<Member>,
    /// The operator's lines of redis.conf.
    pub settings: Vec<Setting>,
    /// Copies beside each master, at least.
    pub replicas: u32,
    /// What each instance may take of its host.
    pub limits: Limits,
}

/// What makes a cluster one of its own.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub cluster: ClusterName,
    /// Drawn.
    pub cluster_id: ClusterId,
    /// Its life.
    pub incarnation: Incarnation,
}

impl Blueprint {
    /// From a placement and ids. `draw` gives fresh random ones; they are never derived and never used again.
    pub fn draw(identity: Identity, placement: &Placement, spec: &Spec, draw: impl FnMut() -> NodeId) -> Self {
        Self::draw_at(identity, placement, spec, BusOffset::default(), draw)
    }

    /// The same with other bus ports than the usual ones, which servers can have from 7.0 on.
    pub fn draw_at(
        identity: Identity,
        placement: &Placement,
        spec: &Spec,
        offset: BusOffset,
        mut draw: impl FnMut() -> NodeId,
    ) -> Self {
        let mut members = Vec::new();
        for (nth, shard) in (0_u32..).zip(&placement.shards) {
            let (shard_id, epoch, master) = (draw(), u64::from(nth) + 1, draw());
            let member = |seat: &Seat, node_id, role| Member {
                node_id,
                host: seat.host.clone(),
                address: seat.address,
                port: seat.port,
                bus_port: seat.port.bus(offset),
                role,
                shard: nth,
                shard_id,
                config_epoch: epoch,
            };
            members.push(member(&shard.master, master, Role::Master { slots: vec![shard.slots] }));
            members.extend(shard.replicas.iter().map(|seat| member(seat, draw(), Role::Replica { master })));
        }
        let fewest = placement.shards.iter().map(|shard| shard.replicas.len()).min().unwrap_or(0);
        Self {
            cluster: identity.cluster,
            cluster_id: identity.cluster_id,
            incarnation: identity.incarnation,
            members,
            settings: spec.parts().settings.clone(),
            replicas: u32::try_from(fewest).unwrap_or(u32::MAX),
            limits: spec.parts().limits,
        }
    }

    /// What CLUSTER NODES should say on every instance.
    pub fn topology(&self) -> Topology {
        Topology::of_members(&self.members)
    }

    /// How many masters.
    pub fn masters(&self) -> usize {
        self.members.iter().filter(|member| member.role.master().is_none()).count()
    }

    /// How many replicas each shard's master has, by shard.
    pub fn replicas_by_shard(&self) -> BTreeMap<u32, usize> {
        let mut replicas = BTreeMap::new();
        for member in &self.members {
            *replicas.entry(member.shard).or_default() += usize::from(member.role.master().is_some());
        }
        replicas
    }

    /// The hosts that take part, each once, by name.
    pub fn hosts(&self) -> Vec<HostName> {
        let mut hosts: Vec<_> = self.members.iter().map(|member| member.host.clone()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// As one host sees it, with no instances if it takes no part.
    pub fn told(&self, host: &HostName, want: Want, formed: bool) -> ClusterAssignment {
        let mut instances: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.host == *host)
            .map(|member| InstanceAssignment {
                port: member.port,
                node_id: member.node_id,
                life: Life(self.incarnation.0),
                want,
                run: 0,
                all_stopped: false,
                formers: Vec::new(),
                restore: false,
            })
            .collect();
        instances.sort_by_key(|instance| instance.port);
        ClusterAssignment {
            cluster: self.cluster.clone(),
            cluster_id: self.cluster_id,
            incarnation: self.incarnation,
            formed,
            members: self.members.clone(),
            settings: self.settings.clone(),
            replicas: self.replicas,
            instances,
            users: None,
            tls: None,
            limits: self.limits,
            keeps: Vec::new(),
            spec: Vec::new(),
        }
    }

    /// As the store keeps it.
    pub fn encode(&self) -> Vec<u8> {
        let whole = ClusterAssignment {
            cluster: self.cluster.clone(),
            cluster_id: self.cluster_id,
            incarnation: self.incarnation,
            formed: false,
            members: self.members.clone(),
            settings: self.settings.clone(),
            replicas: self.replicas,
            instances: Vec::new(),
            users: None,
            tls: None,
            limits: self.limits,
            keeps: Vec::new(),
            spec: Vec::new(),
        };
        wire::ClusterAssignment::from(&whole).encode_to_vec()
    }

    /// From the store.
    pub fn decode(bytes: &[u8]) -> Result<Self, FieldError> {
        let wire = wire::ClusterAssignment::decode(bytes)
            .map_err(|error| FieldError { field: "blueprint".into(), what: error.to_string() })?;
        let whole = ClusterAssignment::try_from(wire)?;
        Ok(Self {
            cluster: whole.cluster,
            cluster_id: whole.cluster_id,
            incarnation: whole.incarnation,
            members: whole.members,
            settings: whole.settings,
            replicas: whole.replicas,
            limits: whole.limits,
        })
    }
}

#[cfg(test)]
mod tests;
