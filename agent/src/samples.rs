//! A small cluster, and one of its hosts, for tests.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use muster_proto::{
    ClusterAssignment, ClusterId, Generation, Hello, HostAssignment, Incarnation, InstanceAssignment, Life, Limits,
    Member, NodeId, NodeView, OperationId, PROTOCOL, Port, Role, SlotRange, Term, Want,
};

use crate::{
    conf::ConfFile,
    config::{Config, Endpoint},
    layout::{Layout, Stamp},
    permits::{Leaving, Permit, Permits, Wipe},
    reconcile::stamp_of,
    trash::Policy,
};

pub fn port(number: u32) -> Port {
    Port::try_from(number).unwrap()
}

pub fn id(nth: u8) -> NodeId {
    NodeId([nth; 20])
}

/// `a` has the master at 7000 and, at 7001, the replica of `b`'s master, which is at 7000 there.
pub fn cluster(want: Want, formed: bool) -> ClusterAssignment {
    let member = |nth: u8, host: &str, number: u32, shard: u32, role| Member {
        node_id: id(nth),
        host: host.parse().unwrap(),
        address: [127, 0, 0, if host == "a" { 1 } else { 2 }].into(),
        port: port(number),
        bus_port: u16::try_from(number + 10_000).unwrap(),
        role,
        shard,
        shard_id: id(0xa0 + u8::try_from(shard).unwrap()),
        config_epoch: u64::from(shard) + 1,
    };
    let master = |shard| Role::Master { slots: vec![SlotRange::of_shard(shard, 2).unwrap()] };
    let instance = |nth, number| InstanceAssignment {
        port: port(number),
        node_id: id(nth),
        life: Life(1),
        want,
        run: 0,
        all_stopped: false,
        formers: Vec::new(),
        restore: false,
    };
    ClusterAssignment {
        cluster: "orders".parse().unwrap(),
        cluster_id: ClusterId(uuid::Uuid::nil()),
        incarnation: Incarnation(1),
        formed,
        members: vec![
            member(1, "a", 7000, 0, master(0)),
            member(2, "b", 7001, 0, Role::Replica { master: id(1) }),
            member(3, "b", 7000, 1, master(1)),
            member(4, "a", 7001, 1, Role::Replica { master: id(3) }),
        ],
        settings: Vec::new(),
        replicas: 1,
        instances: vec![instance(1, 7000), instance(4, 7001)],
        users: None,
        tls: None,
        limits: Limits::default(),
        keeps: Vec::new(),
        spec: Vec::new(),
    }
}

/// All of `a`.
pub fn assignment(want: Want, formed: bool) -> HostAssignment {
    HostAssignment { host: "a".parse().unwrap(), clusters: vec![cluster(want, formed)] }
}

/// Of the instance at 7000.
pub fn stamp() -> Stamp {
    let cluster = cluster(Want::Running, false);
    stamp_of(&cluster, &cluster.instances[0])
}

/// The directory of the instance at 7000, ended by operation 7: it makes room for life 2.
pub fn leaving() -> Leaving {
    Leaving { stamp: stamp(), operation: OperationId(uuid::Uuid::from_u128(7)), new_life: Life(2) }
}

/// The right to set that aside, come by as any other.
pub fn wipe(leaving: &Leaving) -> Wipe {
    let (nonce, now, port, mut permits) = (uuid::Uuid::max(), Duration::ZERO, leaving.stamp.port, Permits::default());
    permits.connected(1);
    permits.ask(port, leaving, now, nonce).unwrap();
    let permit = Permit {
        term: Term(1),
        operation: leaving.operation,
        cluster_id: leaving.stamp.cluster_id,
        port,
        node_id: leaving.stamp.node_id,
        old_life: leaving.stamp.life,
        new_life: leaving.new_life,
        nonce,
    };
    permits.take_in(&permit, 1, Term(1), now).unwrap();
    permits.redeem(port, leaving, now).unwrap()
}

/// What the settled instance at 7000 says.
pub fn view() -> NodeView {
    let topology = cluster(Want::Running, false).topology();
    NodeView {
        node_id: id(1),
        role: topology.get(id(1)).unwrap().role.clone(),
        cluster_ok: true,
        known_nodes: 4,
        link_up: false,
        online_replicas: 1,
        digest: topology.digest(),
        nodes_text: None,
        troubles: Vec::new(),
        keys: 0,
        config_epoch: 1,
    }
}

pub fn config(base: &Path) -> Config {
    Config {
        name: "a".parse().unwrap(),
        address: [127, 0, 0, 1].into(),
        coordinator: Endpoint::Unix("/nonexistent".into()),
        ports: muster_proto::PortSet::parse(&["7000-7001".to_owned()]).unwrap(),
        base_dir: base.to_owned(),
        rack: None,
        zone: None,
        run_as: None,
        redis_server: None,
        log: "info".into(),
        stop_patience: Duration::from_secs(15),
        redis_log: 64 << 20,
        trash: Policy { keep: Some(Duration::from_secs(168 * 3600)), most: None },
    }
}

pub fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        agent_version: "0.1.0".into(),
        host: "a".parse().unwrap(),
        address: [127, 0, 0, 1].into(),
        identity: uuid::Uuid::nil(),
        boot_id: "boot".into(),
        ports: muster_proto::PortSet::default(),
        base_dir: "/base".into(),
        rack: None,
        zone: None,
        term: Term(1),
        pid: 1,
        generation: Generation(0),
        held: Vec::new(),
    }
}

/// A base directory in use, and its layout.
pub fn layout() -> (tempfile::TempDir, Layout) {
    let base = tempfile::tempdir().unwrap();
    let layout = Layout::open(base.path(), None).unwrap();
    (base, layout)
}

/// For tests that fork, or for which it matters that a lock or a listener is closed: from its fork to its exec a child
/// has copies of all that the process has open.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two files of every directory.
pub fn files(redis_conf: &str, nodes_conf: &str) -> Vec<ConfFile> {
    vec![ConfFile::read_only("redis.conf", redis_conf), ConfFile::first("nodes.conf", nodes_conf)]
}
