//! What goes over the wire comes back as it was, and what does not parse is named by its path.

use std::net::IpAddr;

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use uuid::Uuid;

use super::*;
use crate::{
    Account, ClusterId, Condition, Cpus, Flavour, Generation, Limits, Memory, OperationId, ServerVersion, Term,
    report::{Ask, Held, Hello, InstanceState, InstanceStatus, NodeView, PortUse, Report, Server},
};

// --- anything that can be said
// ----------------------------------------------------------------------------------------

fn node_id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(NodeId)
}

fn parsed<T: FromStr<Err: std::fmt::Debug> + std::fmt::Debug>(regex: &'static str) -> impl Strategy<Value = T> {
    regex.prop_map(|text: String| text.parse().unwrap())
}

fn host() -> impl Strategy<Value = crate::HostName> {
    parsed("[a-z0-9][a-z0-9._-]{0,20}")
}

fn cluster() -> impl Strategy<Value = crate::ClusterName> {
    parsed("[a-z0-9][a-z0-9-]{0,20}")
}

fn a_port() -> impl Strategy<Value = Port> {
    (1..=crate::ports::PORT_MAX).prop_map(|port| Port::try_from(u32::from(port)).unwrap())
}

/// Close together, so that none is another's bus port.
fn ports() -> impl Strategy<Value = PortSet> {
    proptest::collection::btree_set(7000_u32..8000, 0..6)
        .prop_map(|ports| PortSet::new(ports.into_iter().map(|port| Port::try_from(port).unwrap())).unwrap())
}

fn ranges() -> impl Strategy<Value = Vec<SlotRange>> {
    let range = (0_u16..16384, 0_u16..300)
        .prop_map(|(first, len)| SlotRange::new(first, first.saturating_add(len).min(16383)).unwrap());
    vec(range, 0..4).prop_map(normal)
}

fn a_role() -> impl Strategy<Value = Role> {
    prop_oneof![
        ranges().prop_map(|slots| Role::Master { slots }),
        node_id().prop_map(|master| Role::Replica { master }),
    ]
}

fn member() -> impl Strategy<Value = Member> {
    let place = (node_id(), host(), any::<IpAddr>(), a_port(), 1_u16..);
    (place, a_role(), any::<u32>(), node_id(), any::<u64>()).prop_map(|(place, role, shard, shard_id, config_epoch)| {
        let (node_id, host, address, port, bus_port) = place;
        Member { node_id, host, address, port, bus_port, role, shard, shard_id, config_epoch }
    })
}

fn setting() -> impl Strategy<Value = Setting> {
    ("x-[a-z-]{1,20}", "[ -~]{0,20}x").prop_map(|(key, value)| Setting { key, value })
}

fn limits() -> impl Strategy<Value = Limits> {
    (option::of(16_u64 << 20..64 << 40), option::of(5_u32..=102_400)).prop_map(|(memory, cpus)| Limits {
        memory: memory.map(|bytes| Memory::new(bytes).unwrap()),
        cpus: cpus.map(|hundredths| Cpus::new(hundredths).unwrap()),
    })
}

fn want() -> impl Strategy<Value = Want> {
    prop_oneof![
        Just(Want::Prepared),
        Just(Want::Running),
        Just(Want::SetAside),
        Just(Want::Stopped),
        Just(Want::Retired)
    ]
}

fn former(life: u64, node_id: NodeId) -> Former {
    let operation = OperationId(Uuid::from_u128(life.into()));
    Former { operation, incarnation: Incarnation(life), life: Life(life), node_id }
}

/// A cluster whose instances are some of its members, at the ports that it is given.
fn assignment_at(ports: Vec<Port>) -> impl Strategy<Value = ClusterAssignment> {
    let wishes = vec((want(), any::<u64>()), ports.len());
    let who = (cluster(), any::<u128>(), any::<u64>(), any::<bool>(), any::<u32>());
    let members = vec(member(), ports.len()..ports.len() + 3);
    (who, members, vec(setting(), 0..3), wishes, limits()).prop_map(move |(who, members, settings, wishes, limits)| {
        let (cluster, id, incarnation, formed, replicas) = who;
        let instance = |((port, (want, life)), member): ((&Port, (Want, u64)), &Member)| InstanceAssignment {
            port: *port,
            node_id: member.node_id,
            life: Life(life),
            run: life,
            all_stopped: life == 1,
            formers: vec![former(life, member.node_id)],
            restore: life == 2,
            want,
        };
        ClusterAssignment {
            cluster,
            cluster_id: ClusterId(Uuid::from_u128(id)),
            incarnation: Incarnation(incarnation),
            formed,
            instances: ports.iter().zip(wishes).zip(&members).map(instance).collect(),
            members,
            settings,
            replicas,
            users: None,
            tls: None,
            limits,
            keeps: vec![former(incarnation, NodeId([7; 20]))],
            spec: vec![10, 6],
        }
    })
}

fn host_assignment() -> impl Strategy<Value = HostAssignment> {
    let port = |number: u32| Port::try_from(number).unwrap();
    let clusters = (0_u32..3, 0_u32..3).prop_flat_map(move |(one, two)| {
        let (one, two): (Vec<_>, Vec<_>) =
            ((7000..7000 + one).map(port).collect(), (7100..7100 + two).map(port).collect());
        (assignment_at(one), assignment_at(two))
    });
    (host(), clusters).prop_map(|(host, (one, two))| HostAssignment { host, clusters: vec![one, two] })
}

fn spec() -> impl Strategy<Value = Spec> {
    let ports = ports().prop_filter("a host of a spec has ports", |ports| !ports.is_empty());
    let hosts = btree_map(host(), ports, 1..4);
    (cluster(), 0_u32..=16, option::of(3_u32..=1000), hosts, vec(setting(), 0..3), any::<bool>(), limits()).prop_map(
        |(name, replicas, masters, hosts, settings, allow_shared_host, limits)| {
            let hosts = hosts.into_iter().map(|(name, ports)| SpecHost { name, ports }).collect();
            let (auth, tls) = (Auth::default(), crate::Tls::Off);
            Spec::new(SpecParts { name, replicas, masters, hosts, settings, allow_shared_host, auth, tls, limits })
                .unwrap()
        },
    )
}

fn server() -> impl Strategy<Value = Server> {
    let flavour = prop_oneof![Just(Flavour::Redis), Just(Flavour::Valkey)];
    ("/[a-z/]{1,20}", flavour, any::<[u32; 3]>()).prop_map(|(path, flavour, [major, minor, patch])| Server {
        path,
        version: ServerVersion { flavour, major, minor, patch },
    })
}

fn words() -> impl Strategy<Value = String> {
    "[a-z ]{1,20}"
}

fn view() -> impl Strategy<Value = NodeView> {
    let counts = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    let flags = (any::<bool>(), any::<bool>());
    let texts = (any::<[u8; 32]>(), option::of(words()), vec(words(), 0..3));
    (node_id(), a_role(), flags, counts, texts).prop_map(|(node_id, role, flags, counts, texts)| NodeView {
        node_id,
        role,
        cluster_ok: flags.0,
        known_nodes: counts.0,
        link_up: flags.1,
        online_replicas: counts.1,
        digest: Sha256(texts.0),
        nodes_text: texts.1,
        troubles: texts.2,
        keys: counts.2,
        config_epoch: counts.3,
    })
}

fn status() -> impl Strategy<Value = InstanceStatus> {
    use InstanceState::{Absent, Blocked, Down, Prepared, Running, Starting, Stopping, Unknown};
    let states = [Absent, Prepared, Starting, Running, Stopping, Down, Blocked, Unknown];
    let place = (host(), any::<IpAddr>(), a_port(), cluster());
    let age = any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()));
    let process = (option::of(1..i32::MAX), option::of(view()), age, any::<u32>());
    (place, proptest::sample::select(states.to_vec()), "[a-z ]{0,20}", process, any::<u64>(), node_id()).prop_map(
        |((host, address, port, cluster), state, reason, (pid, view, view_age, starts), life, node_id)| {
            let life = Life(life);
            let account = Account {
                condition: Condition::from_word(["", "BACKOFF", "CRASH_LOOP"][starts as usize % 3]),
                since: view_age,
                next_try: pid.map(|_| view_age),
                standing: reason.clone(),
                evidence: vec![reason.clone()],
            };
            InstanceStatus {
                host,
                address,
                port,
                cluster,
                state,
                reason,
                pid,
                view,
                view_age,
                starts,
                life,
                node_id,
                account,
                run: life.0,
                asks: pid.is_none().then(|| Ask { nonce: Uuid::from_u128(life.0.into()), node_id, life }),
            }
        },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let usage = prop_oneof![
        Just(PortUse::Free),
        cluster().prop_map(PortUse::Stamped),
        Just(PortUse::Foreign),
        Just(PortUse::Unreadable)
    ];
    let server = prop_oneof![server().prop_map(Ok), words().prop_map(Err)];
    let ports = vec((a_port(), usage), 0..4);
    (any::<[u64; 4]>(), option::of(words()), vec(status(), 0..4), ports, server).prop_map(
        |([term, received, accepted, converged], refusal, instances, ports, server)| Report {
            term: Term(term),
            received: Generation(received),
            accepted: Generation(accepted),
            converged: Generation(converged),
            refusal,
            instances,
            ports,
            server,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let who = (any::<u32>(), words(), host(), any::<IpAddr>(), any::<u128>());
    let rest = (words(), ports(), "/[a-z]{1,9}", option::of(words()), option::of(words()), any::<u64>(), any::<i32>());
    (who, rest).prop_map(|((protocol, agent_version, host, address, identity), rest)| {
        let (boot_id, ports, base_dir, rack, zone, term, pid) = rest;
        let (identity, term, generation) = (Uuid::from_u128(identity), Term(term), Generation(term.wrapping_add(1)));
        let cluster = "orders".parse().unwrap();
        let held = vec![Held { cluster, cluster_id: ClusterId(identity), incarnation: Incarnation(term.0) }];
        Hello {
            protocol,
            agent_version,
            host,
            address,
            identity,
            boot_id,
            ports,
            base_dir,
            rack,
            zone,
            term,
            pid,
            generation,
            held,
        }
    })
}

// --- comes back as it was
// ---------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_assignment_comes_back_as_it_was(assignment in host_assignment()) {
        let (document, hash) = assignment.encode();
        prop_assert_eq!(HostAssignment::decode(&document).unwrap(), assignment.clone());
        prop_assert_eq!(assignment.encode(), (document, hash), "equal content, equal bytes");
    }

    #[test]
    fn a_spec_comes_back_as_it_was(spec in spec()) {
        prop_assert_eq!(Spec::try_from(wire::Spec::from(&spec)).unwrap(), spec);
    }

    #[test]
    fn a_report_comes_back_as_it_was(report in report()) {
        let back = Report::try_from(wire::Report::from(&report)).unwrap();
        prop_assert!(back.same_but_age(&report));
        prop_assert_eq!(back, report);
    }

    #[test]
    fn a_hello_comes_back_as_it_was(hello in hello()) {
        prop_assert_eq!(Hello::try_from(wire::Hello::from(&hello)).unwrap(), hello);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = HostAssignment::decode(&bytes);
    }
}

// --- what does not parse is named
// -------------------------------------------------------------------------------------

const IDS: [&str; 2] = ["00000000000000000000000000000000000000a0", "00000000000000000000000000000000000000b0"];

fn good() -> wire::HostAssignment {
    let member = |id: &str, port, role: wire::Role| wire::Member {
        node_id: id.into(),
        address: "10.0.0.1".into(),
        port,
        bus_port: port + 10_000,
        host: "a".into(),
        role: role.into(),
        slots: if role == wire::Role::Master { vec![wire::SlotRange { first: 0, last: 16383 }] } else { Vec::new() },
        master: if role == wire::Role::Replica { IDS[0].into() } else { String::new() },
        config_epoch: 1,
        shard: 0,
        shard_id: IDS[0].into(),
    };
    let instance = |id: &str, port| wire::InstanceAssignment {
        port,
        node_id: id.into(),
        life: 1,
        want: wire::Want::Running.into(),
        ..wire::InstanceAssignment::default()
    };
    let cluster = wire::ClusterAssignment {
        cluster: "orders".into(),
        cluster_id: Uuid::nil().to_string(),
        incarnation: 1,
        topology: vec![member(IDS[0], 7000, wire::Role::Master), member(IDS[1], 7001, wire::Role::Replica)],
        instances: vec![instance(IDS[0], 7000), instance(IDS[1], 7001)],
        ..Default::default()
    };
    wire::HostAssignment { host: "a".into(), clusters: vec![cluster] }
}

/// A way to spoil a good one, and what is said about it.
type Spoilt<T> = (fn(&mut T), &'static str);

fn check<T: Clone, U: std::fmt::Debug>(good: &T, read: impl Fn(T) -> Result<U>, cases: &[Spoilt<T>]) {
    read(good.clone()).unwrap();
    for (spoil, expected) in cases {
        let mut spoilt = good.clone();
        spoil(&mut spoilt);
        assert_eq!(read(spoilt).unwrap_err().to_string(), *expected);
    }
}

#[test]
fn an_assignment_that_does_not_parse_is_named_by_its_path() {
    let decode = |wire: wire::HostAssignment| HostAssignment::decode(&wire.encode_to_vec());
    check(
        &good(),
        decode,
        &[
            (
                |a| a.host = "A".into(),
                "assignment.host: \"A\" is not a host name: 1-63 of a-z, 0-9 and '-'._, starting with a letter or digit",
            ),
            (
                |a| a.clusters[0].topology[1].port = 70_000,
                "assignment.clusters[0].topology[1].port: port 70000 leaves no room for its bus port: use 1-55535 (the \
                 bus port is 10000 higher)",
            ),
            (
                |a| a.clusters[0].topology[1].bus_port = 0,
                "assignment.clusters[0].topology[1].bus_port: 0 is not a port",
            ),
            (
                |a| a.clusters[0].topology[0].address = "db1".into(),
                "assignment.clusters[0].topology[0].address: invalid IP address syntax",
            ),
            (
                |a| a.clusters[0].topology[0].slots[0].last = 70_000,
                "assignment.clusters[0].topology[0].slots[0].last: \"0-70000\" is not a range of slots within 0-16383",
            ),
            (
                |a| a.clusters[0].topology[0].role = 9,
                "assignment.clusters[0].topology[0].role: 9 is neither master nor replica",
            ),
            (
                |a| a.clusters[0].topology[1].master = "x".into(),
                "assignment.clusters[0].topology[1].master: \"x\" is not 40 lower-case hex digits",
            ),
            (
                |a| a.clusters[0].instances[1].node_id = "f".repeat(40),
                "assignment.clusters[0].instances[1].node_id: ffffffffffffffffffffffffffffffffffffffff is not in the \
                 topology",
            ),
            (|a| a.clusters[0].instances[1].want = 9, "assignment.clusters[0].instances[1].want: 9 is not known here"),
            (
                |a| a.clusters[0].instances[1].port = 7000,
                "assignment.clusters[0].instances[1].port: port 7000 is listed twice",
            ),
            (
                |a| a.clusters.push(a.clusters[0].clone()),
                "assignment.clusters[1].instances[0].port: port 7000 is listed twice",
            ),
        ],
    );
    let torn = HostAssignment::decode(&[0xff]).unwrap_err();
    assert_eq!(torn.field, "document");
}

#[test]
fn a_spec_that_does_not_parse_is_named_by_its_path() {
    let good = wire::Spec {
        name: "orders".into(),
        replicas: 1,
        hosts: vec![wire::SpecHost { name: "a".into(), ports: vec![7000] }],
        ..Default::default()
    };
    check(
        &good,
        Spec::try_from,
        &[
            (
                |s| s.name = "a/b".into(),
                "name: \"a/b\" is not a cluster name: 1-63 of a-z, 0-9 and '-', starting with a letter or digit",
            ),
            (|s| s.hosts[0].ports.push(7000), "hosts[0].ports: port 7000 is listed twice"),
            (|s| s.hosts.clear(), "spec: hosts: a cluster needs at least one host"),
        ],
    );
}

#[test]
fn a_report_that_does_not_parse_is_named_by_its_path() {
    let view = wire::NodeView {
        node_id: IDS[0].into(),
        role: wire::Role::Replica.into(),
        master: IDS[1].into(),
        topology_digest: vec![0; 32],
        ..Default::default()
    };
    let status = wire::InstanceStatus {
        host: "a".into(),
        address: "10.0.0.1".into(),
        port: 7000,
        cluster: "orders".into(),
        node_id: IDS[0].into(),
        view: Some(view),
        ..Default::default()
    };
    let server = wire::Server { path: "/r".into(), flavour: "redis".into(), version: "7.0.15".into() };
    let stamped = wire::PortStatus { port: 7000, directory: wire::Directory::Stamped.into(), cluster: "orders".into() };
    let good =
        wire::Report { instances: vec![status], ports: vec![stamped], server: Some(server), ..Default::default() };
    check(
        &good,
        Report::try_from,
        &[
            (
                |r| r.instances[0].view.as_mut().unwrap().topology_digest.clear(),
                "report.instances[0].view.topology_digest: 0 bytes are no sha256",
            ),
            (
                |r| r.instances[0].view.as_mut().unwrap().role = 0,
                "report.instances[0].view.role: 0 is neither master nor replica",
            ),
            (
                |r| r.ports[0].cluster.clear(),
                "report.ports[0].cluster: \"\" is not a cluster name: 1-63 of a-z, 0-9 and '-', starting with a letter \
                 or digit",
            ),
            (
                |r| r.server.as_mut().unwrap().flavour = "nginx".into(),
                "report.server.version: \"nginx 7.0.15\" does not say which server it is",
            ),
        ],
    );
}

#[test]
fn what_a_newer_agent_says_is_unknown_and_no_error() {
    let report = wire::Report {
        instances: vec![wire::InstanceStatus {
            host: "a".into(),
            address: "10.0.0.1".into(),
            port: 7000,
            cluster: "orders".into(),
            node_id: IDS[0].into(),
            state: 99,
            ..Default::default()
        }],
        ports: vec![wire::PortStatus { port: 7000, directory: 99, cluster: String::new() }],
        ..Default::default()
    };
    let report = Report::try_from(report).unwrap();
    assert_eq!(report.instances[0].state, InstanceState::Unknown);
    assert_eq!(report.ports[0].1, PortUse::Unreadable);
    assert_eq!(report.server, Err("no server was reported".into()));
}
