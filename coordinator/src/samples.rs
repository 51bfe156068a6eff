//! The seed's cluster, its hosts, and what they say when all is well, for tests.

pub mod fleet;

use std::{collections::HashMap, fmt::Write as _, net::IpAddr, time::Duration};

use muster_proto::{
    Account, ClusterId, Generation, Hello, Incarnation, InstanceState, InstanceStatus, Life, Member, NodeId, NodeView,
    OperationId, PROTOCOL, Port, PortSet, PortUse, Report, Role, Server, Spec, Term, Topology, slots::ranges_text,
    topology::Node,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    blueprint::{Blueprint, Identity},
    formation::{Goal, Heard},
    inventory::{Inventory, Session},
    ledger::ClusterRecord,
    placement::tests::Case,
    rolling::Duties,
};

/// Two hosts, three masters with a replica each.
pub fn seed() -> Case {
    Case::new(&[3, 3], 1)
}

pub fn id(nth: u8) -> NodeId {
    NodeId([nth; 20])
}

pub fn spec() -> Spec {
    seed().world().0
}

/// Ids are drawn from 1 on: of each shard its shard id, its master and its replica.
pub fn blueprint() -> Blueprint {
    drawn(&seed())
}

pub fn drawn(case: &Case) -> Blueprint {
    let identity = Identity {
        cluster: "orders".parse().unwrap(),
        cluster_id: ClusterId(Uuid::nil()),
        incarnation: Incarnation(1),
    };
    let mut drawn = 0;
    let draw = || {
        drawn += 1;
        id(drawn)
    };
    Blueprint::draw(identity, &case.place().unwrap(), &case.world().0, draw)
}

pub fn record(goal: Goal, formed: bool) -> ClusterRecord {
    ClusterRecord {
        spec: spec(),
        blueprint: blueprint(),
        goal,
        formed_ms: formed.then_some(1),
        operation: OperationId(Uuid::nil()),
        credentials: None,
        duties: Duties::new(),
        roll: None,
        rebuild: None,
        remnants: Vec::new(),
    }
}

/// What a member says when the cluster is what it should be.
pub fn view(blueprint: &Blueprint, member: &Member) -> NodeView {
    NodeView {
        node_id: member.node_id,
        role: member.role.clone(),
        cluster_ok: true,
        known_nodes: u32::try_from(blueprint.members.len()).unwrap(),
        link_up: member.role.master().is_some(),
        online_replicas: u32::try_from(blueprint.replicas_by_shard()[&member.shard]).unwrap(),
        digest: blueprint.topology().digest(),
        nodes_text: None,
        troubles: Vec::new(),
        keys: 0,
        config_epoch: member.config_epoch,
    }
}

pub fn running(blueprint: &Blueprint, member: &Member) -> InstanceStatus {
    let view = Some(view(blueprint, member));
    InstanceStatus { state: InstanceState::Running, pid: Some(4711), view, ..absent(blueprint, member) }
}

pub fn absent(blueprint: &Blueprint, member: &Member) -> InstanceStatus {
    InstanceStatus {
        host: member.host.clone(),
        address: member.address,
        port: member.port,
        cluster: blueprint.cluster.clone(),
        state: InstanceState::Absent,
        reason: String::new(),
        pid: None,
        view: None,
        view_age: Duration::ZERO,
        starts: 1,
        life: Life(1),
        node_id: member.node_id,
        account: Account::default(),
        run: 0,
        asks: None,
    }
}

/// Everybody is heard of and says that.
pub fn heard(blueprint: &Blueprint, says: impl Fn(&Member) -> InstanceStatus) -> Heard {
    let instances = blueprint.members.iter().map(|member| (member.node_id, says(member))).collect();
    Heard { instances, silent: Default::default() }
}

/// CLUSTER NODES of that topology, as one of its nodes writes it.
pub fn nodes_text(topology: &Topology, myself: NodeId) -> String {
    let mut text = String::new();
    for Node { id, address, port, bus_port, role } in topology.nodes() {
        let me = if *id == myself { "myself," } else { "" };
        let (flag, master) = match role {
            Role::Master { .. } => ("master", "-".to_owned()),
            Role::Replica { master } => ("slave", master.to_string()),
        };
        let slots = ranges_text(role.slots()).replace(',', " ");
        let line = format!("{id} {address}:{port}@{bus_port} {me}{flag} {master} 0 0 1 connected {slots}");
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

pub fn hello(host: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent_version: "0.1.0".into(),
        host: host.parse().unwrap(),
        address: IpAddr::from([10, 0, 0, 1]),
        identity: Uuid::nil(),
        boot_id: "boot".into(),
        ports: PortSet::new([7000, 7001].map(|port| Port::try_from(port).unwrap())).unwrap(),
        base_dir: "/var/lib/muster".into(),
        rack: None,
        zone: None,
        term: Term(1),
        pid: 1,
        generation: Generation(0),
        held: Vec::new(),
    }
}

/// Generation 1, accepted and true.
pub fn report(instances: Vec<InstanceStatus>) -> Report {
    Report {
        term: Term(1),
        received: Generation(1),
        accepted: Generation(1),
        converged: Generation(1),
        refusal: None,
        instances,
        ports: vec![(Port::try_from(7000).unwrap(), PortUse::Free)],
        server: Ok(Server { path: "/usr/bin/redis-server".into(), version: "redis 7.0.15".parse().unwrap() }),
    }
}

pub fn session(nth: u128) -> Session {
    Session { id: Uuid::from_u128(nth), say: mpsc::channel(1).0, asked: HashMap::new() }
}

/// All hosts of the blueprint are there, have taken in what they were told, and their instances say that.
pub fn inventory(blueprint: &Blueprint, says: impl Fn(&Member) -> InstanceStatus) -> Inventory {
    let mut inventory = Inventory::new(Duration::from_secs(3600));
    for host in blueprint.hosts() {
        inventory.arrive(hello(host.as_str()), Generation(1), session(1));
        let members = blueprint.members.iter().filter(|member| member.host == host);
        inventory.get_mut(&host).unwrap().report = Some(report(members.map(&says).collect()));
    }
    inventory
}
