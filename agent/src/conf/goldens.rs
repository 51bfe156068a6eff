//! Whole files as they must come out, for every class of server and both dialects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::IpAddr, path::Path};

use expect_test::{Expect, expect};
use muster_proto::{
    ClusterAssignment, ClusterId, Dialect, Incarnation, Member, NodeId, Port, Role, ServerVersion, Setting, SlotRange,
    spec::OWNED,
};

use super::*;

/// Three shards on two hosts, as placement would have them; every id says whose it is.
fn cluster(addresses: [&str; 2], replicas: bool, settings: &[(&str, &str)]) -> ClusterAssignment {
    let id = |kind: &str, nth: u32| format!("{:0>40}", format!("{kind}{nth}")).parse::<NodeId>().unwrap();
    let member = |nth: u32, node_id, on: usize, port: u32, role| Member {
        node_id,
        host: format!("server{}", on + 1).parse().unwrap(),
        address: addresses[on].parse::<IpAddr>().unwrap(),
        port: Port::try_from(port).unwrap(),
        bus_port: u16::try_from(port + 10_000).unwrap(),
        role,
        shard: nth,
        shard_id: id("5a", nth),
        config_epoch: u64::from(nth) + 1,
    };
    let mut members = Vec::new();
    for nth in 0..3 {
        let (master, replica) = (id("aa", nth), id("cc", nth));
        let slots = vec![SlotRange::of_shard(nth as usize, 3).unwrap()];
        let on = nth as usize % 2;
        if replicas {
            members.push(member(nth, replica, 1 - on, 7003 + nth, Role::Replica { master }));
        }
        members.push(member(nth, master, on, 7000 + nth, Role::Master { slots }));
    }
    let cluster_id = ClusterId("0197a000-0000-7000-8000-000000000000".parse().unwrap());
    let settings = settings.iter().map(|(key, value)| Setting { key: (*key).into(), value: (*value).into() }).collect();
    ClusterAssignment {
        cluster: "orders".parse().unwrap(),
        cluster_id,
        incarnation: Incarnation(1),
        formed: false,
        members,
        settings,
        replicas: u32::from(replicas),
        instances: Vec::new(),
        users: None,
        tls: None,
        limits: muster_proto::Limits::default(),
        keeps: Vec::new(),
        spec: Vec::new(),
    }
}

const V4: [&str; 2] = ["192.168.1.198", "192.168.1.199"];
const V6: [&str; 2] = ["::1", "fd00:1::199"];

fn conf(version: &str, cluster: &ClusterAssignment, dir: &str) -> String {
    let member = cluster.members.iter().find(|member| member.port.get() == 7000).unwrap();
    let dir = Path::new(dir);
    redis_conf(&ConfInput { version: version.parse().unwrap(), member, cluster, dir, socket: &dir.join("redis.sock") })
}

fn check(versions: &[&str], cluster: &ClusterAssignment, expected: Expect) {
    let texts: Vec<_> = versions.iter().map(|version| conf(version, cluster, "/var/lib/muster/7000")).collect();
    expected.assert_eq(&texts[0]);
    texts.iter().zip(versions).for_each(|(text, version)| assert_eq!(text, &texts[0], "{version}"));
}

#[test]
fn redis_conf_of_6_0() {
    check(
        &["redis 6.0.16"],
        &cluster(V4, true, &[]),
        expect![[r##"
        # Written by Muster for server1:7000, of the cluster orders. Do not edit; change the spec instead.

        # Clients and peers reach the instance at its host's address, the agent over a socket of its own.
        port 7000
        bind 192.168.1.198
        protected-mode no
        unixsocket /var/lib/muster/7000/redis.sock
        unixsocketperm 700

        # A node of the cluster, under the one address that its peers are told.
        cluster-enabled yes
        cluster-config-file nodes.conf
        cluster-announce-ip 192.168.1.198

        # Replicas stay with the shard that the placement gave them to.
        cluster-migration-barrier 1000000

        # The agent supervises the process and knows it without its title or a pidfile.
        daemonize no
        supervised no
        pidfile ""

        # All that it writes stays in its directory.
        dir /var/lib/muster/7000
        logfile redis.log

        # Muster's defaults; the spec may say otherwise.
        appendonly yes
    "##]],
    );
}

#[test]
fn redis_conf_of_6_2_leaves_the_title_alone() {
    check(
        &["redis 6.2.14"],
        &cluster(V4, true, &[]),
        expect![[r##"
        # Written by Muster for server1:7000, of the cluster orders. Do not edit; change the spec instead.

        # Clients and peers reach the instance at its host's address, the agent over a socket of its own.
        port 7000
        bind 192.168.1.198
        protected-mode no
        unixsocket /var/lib/muster/7000/redis.sock
        unixsocketperm 700

        # A node of the cluster, under the one address that its peers are told.
        cluster-enabled yes
        cluster-config-file nodes.conf
        cluster-announce-ip 192.168.1.198

        # Replicas stay with the shard that the placement gave them to.
        cluster-migration-barrier 1000000

        # The agent supervises the process and knows it without its title or a pidfile.
        daemonize no
        supervised no
        pidfile ""
        set-proc-title no

        # All that it writes stays in its directory.
        dir /var/lib/muster/7000
        logfile redis.log

        # Muster's defaults; the spec may say otherwise.
        appendonly yes
    "##]],
    );
}

#[test]
fn redis_conf_of_7_0_and_later() {
    let later = ["redis 7.0.15", "redis 7.2.4", "redis 8.0.2", "redis 8.6.0", "valkey 8.1.1", "valkey 9.1.2"];
    check(
        &later,
        &cluster(V4, true, &[]),
        expect![[r##"
        # Written by Muster for server1:7000, of the cluster orders. Do not edit; change the spec instead.

        # Clients and peers reach the instance at its host's address, the agent over a socket of its own.
        port 7000
        bind 192.168.1.198
        protected-mode no
        unixsocket /var/lib/muster/7000/redis.sock
        unixsocketperm 700

        # A node of the cluster, under the one address that its peers are told.
        cluster-enabled yes
        cluster-config-file nodes.conf
        cluster-announce-ip 192.168.1.198
        cluster-port 17000
        bind-source-addr 192.168.1.198

        # Replicas stay with the shard that the placement gave them to.
        cluster-allow-replica-migration no

        # The shard's replicas are all there is to wait for before a first sync.
        repl-diskless-sync-max-replicas 1

        # The agent supervises the process and knows it without its title or a pidfile.
        daemonize no
        supervised no
        pidfile ""
        set-proc-title no

        # All that it writes stays in its directory.
        dir /var/lib/muster/7000
        logfile redis.log

        # Muster's defaults; the spec may say otherwise.
        appendonly yes
    "##]],
    );
}

#[test]
fn redis_conf_without_replicas_waits_for_none() {
    check(
        &["redis 7.0.15"],
        &cluster(V6, false, &[]),
        expect![[r##"
        # Written by Muster for server1:7000, of the cluster orders. Do not edit; change the spec instead.

        # Clients and peers reach the instance at its host's address, the agent over a socket of its own.
        port 7000
        bind ::1
        protected-mode no
        unixsocket /var/lib/muster/7000/redis.sock
        unixsocketperm 700

        # A node of the cluster, under the one address that its peers are told.
        cluster-enabled yes
        cluster-config-file nodes.conf
        cluster-announce-ip ::1
        cluster-port 17000
        bind-source-addr ::1

        # Replicas stay with the shard that the placement gave them to.
        cluster-allow-replica-migration no

        # The agent supervises the process and knows it without its title or a pidfile.
        daemonize no
        supervised no
        pidfile ""
        set-proc-title no

        # All that it writes stays in its directory.
        dir /var/lib/muster/7000
        logfile redis.log

        # Muster's defaults; the spec may say otherwise.
        appendonly yes
    "##]],
    );
}

#[test]
fn the_operators_lines_replace_defaults_and_stay_in_order() {
    let settings = [
        ("save", "900 1"),
        ("appendonly", "no"),
        ("client-output-buffer-limit", "normal 0 0 0"),
        ("save", "60 10000"),
        ("client-output-buffer-limit", "replica 256mb 64mb 60"),
        ("cluster-node-timeout", "5000"),
    ];
    let text = conf("redis 7.0.15", &cluster(V4, true, &settings), "/var/lib/muster/7000");
    let (_, own) = text.split_once("logfile redis.log\n").unwrap();
    expect![[r#"

        # From the spec's [redis.config].
        save 900 1
        appendonly no
        client-output-buffer-limit normal 0 0 0
        save 60 10000
        client-output-buffer-limit replica 256mb 64mb 60
        cluster-node-timeout 5000
    "#]]
    .assert_eq(own);
}

#[test]
fn odd_paths_are_quoted() {
    let dir = |path: &str| {
        let text = conf("redis 7.0.15", &cluster(V4, true, &[]), path);
        let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        format!("{}\n{}\n", line("dir "), line("unixsocket "))
    };
    let paths = ["/srv/a b/7000", "/srv/\"q\"/7000", "/srv/é\n/7000", "/srv/#1\\n/7000"];
    expect![[r#"
        dir "/srv/a b/7000"
        unixsocket "/srv/a b/7000/redis.sock"
        dir "/srv/\x22q\x22/7000"
        unixsocket "/srv/\x22q\x22/7000/redis.sock"
        dir "/srv/\xc3\xa9\x0a/7000"
        unixsocket "/srv/\xc3\xa9\x0a/7000/redis.sock"
        dir "/srv/\x231\x5cn/7000"
        unixsocket "/srv/\x231\x5cn/7000/redis.sock"
    "#]]
    .assert_eq(&paths.map(dir).concat());
}

#[test]
fn what_is_written_is_owned_or_a_default() {
    for version in ["redis 6.0.16", "redis 6.2.14", "redis 7.0.15", "valkey 9.1.2"] {
        let text = conf(version, &cluster(V4, true, &[]), "/var/lib/muster/7000");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key = line.split(' ').next().unwrap();
            let owned = OWNED.iter().any(|(owned, _)| *owned == key);
            assert!(owned || key == "appendonly", "the operator could overrule {line:?}");
        }
    }
}

fn seed(version: &str, addresses: [&str; 2], myself: &str) -> String {
    let dialect = version.parse::<ServerVersion>().unwrap().dialect().unwrap();
    nodes_conf(dialect, &cluster(addresses, true, &[]).members, format!("{myself:0>40}").parse().unwrap())
}

#[test]
fn nodes_conf_in_the_plain_dialect() {
    for version in ["redis 6.0.16", "redis 6.2.14", "redis 7.0.15"] {
        assert_eq!(seed(version, V4, "aa0"), nodes_conf(Dialect::Plain, &cluster(V4, true, &[]).members, id("aa0")));
    }
    expect![[r#"
        0000000000000000000000000000000000000aa0 192.168.1.198:7000@17000 myself,master - 0 0 1 connected 0-5460
        0000000000000000000000000000000000000aa1 192.168.1.199:7001@17001 master - 0 0 2 connected 5461-10922
        0000000000000000000000000000000000000aa2 192.168.1.198:7002@17002 master - 0 0 3 connected 10923-16383
        0000000000000000000000000000000000000cc0 192.168.1.199:7003@17003 slave 0000000000000000000000000000000000000aa0 0 0 1 connected
        0000000000000000000000000000000000000cc1 192.168.1.198:7004@17004 slave 0000000000000000000000000000000000000aa1 0 0 2 connected
        0000000000000000000000000000000000000cc2 192.168.1.199:7005@17005 slave 0000000000000000000000000000000000000aa2 0 0 3 connected
        vars currentEpoch 3 lastVoteEpoch 0
    "#]].assert_eq(&seed("redis 7.0.15", V4, "aa0"));
}

#[test]
fn nodes_conf_with_shard_ids() {
    for version in ["redis 7.2.4", "redis 8.6.0", "valkey 8.1.1", "valkey 9.1.2"] {
        assert_eq!(seed(version, V4, "cc1"), nodes_conf(Dialect::ShardId, &cluster(V4, true, &[]).members, id("cc1")));
    }
    expect![[r#"
        0000000000000000000000000000000000000aa0 192.168.1.198:7000@17000,,shard-id=00000000000000000000000000000000000005a0 master - 0 0 1 connected 0-5460
        0000000000000000000000000000000000000aa1 192.168.1.199:7001@17001,,shard-id=00000000000000000000000000000000000005a1 master - 0 0 2 connected 5461-10922
        0000000000000000000000000000000000000aa2 192.168.1.198:7002@17002,,shard-id=00000000000000000000000000000000000005a2 master - 0 0 3 connected 10923-16383
        0000000000000000000000000000000000000cc0 192.168.1.199:7003@17003,,shard-id=00000000000000000000000000000000000005a0 slave 0000000000000000000000000000000000000aa0 0 0 1 connected
        0000000000000000000000000000000000000cc1 192.168.1.198:7004@17004,,shard-id=00000000000000000000000000000000000005a1 myself,slave 0000000000000000000000000000000000000aa1 0 0 2 connected
        0000000000000000000000000000000000000cc2 192.168.1.199:7005@17005,,shard-id=00000000000000000000000000000000000005a2 slave 0000000000000000000000000000000000000aa2 0 0 3 connected
        vars currentEpoch 3 lastVoteEpoch 0
    "#]].assert_eq(&seed("redis 8.0.2", V4, "cc1"));
}

#[test]
fn nodes_conf_of_ipv6_hosts() {
    expect![[r#"
        0000000000000000000000000000000000000aa0 ::1:7000@17000,,shard-id=00000000000000000000000000000000000005a0 master - 0 0 1 connected 0-5460
        0000000000000000000000000000000000000aa1 fd00:1::199:7001@17001,,shard-id=00000000000000000000000000000000000005a1 master - 0 0 2 connected 5461-10922
        0000000000000000000000000000000000000aa2 ::1:7002@17002,,shard-id=00000000000000000000000000000000000005a2 myself,master - 0 0 3 connected 10923-16383
        0000000000000000000000000000000000000cc0 fd00:1::199:7003@17003,,shard-id=00000000000000000000000000000000000005a0 slave 0000000000000000000000000000000000000aa0 0 0 1 connected
        0000000000000000000000000000000000000cc1 ::1:7004@17004,,shard-id=00000000000000000000000000000000000005a1 slave 0000000000000000000000000000000000000aa1 0 0 2 connected
        0000000000000000000000000000000000000cc2 fd00:1::199:7005@17005,,shard-id=00000000000000000000000000000000000005a2 slave 0000000000000000000000000000000000000aa2 0 0 3 connected
        vars currentEpoch 3 lastVoteEpoch 0
    "#]].assert_eq(&seed("valkey 9.1.2", V6, "aa2"));
}

fn id(tail: &str) -> NodeId {
    format!("{tail:0>40}").parse().unwrap()
}

#[test]
fn every_member_reads_back_the_blueprint_with_itself_as_myself() {
    for addresses in [V4, V6] {
        let cluster = cluster(addresses, true, &[]);
        for (dialect, member) in
            [Dialect::Plain, Dialect::ShardId].iter().flat_map(|d| cluster.members.iter().map(move |m| (d, m)))
        {
            let text = nodes_conf(*dialect, &cluster.members, member.node_id);
            let (nodes, vars) = text.split_once("vars ").unwrap();
            let view = muster_proto::view::parse(nodes).unwrap();
            assert_eq!((view.myself, view.config_epoch), (member.node_id, member.config_epoch));
            assert_eq!(cluster.topology().differences(&view.topology), Vec::<String>::new());
            assert_eq!(vars, "currentEpoch 3 lastVoteEpoch 0\n");
        }
    }
}

/// What only a cluster with passwords and TLS has, between what every cluster has.
#[test]
fn redis_conf_with_users_and_tls() {
    let hash = muster_proto::Sha256([1; 32]);
    let login =
        |user: &str| muster_proto::acl::Login { user: user.into(), password: muster_proto::Secret::new("s-e_1") };
    let user = |name: &str, rules: &str| muster_proto::acl::RedisUser {
        name: name.into(),
        rules: rules.parse().unwrap(),
        passwords: vec![hash],
    };
    let users = muster_proto::Users {
        users: vec![user("default", "~* &* +@all -@admin"), user("muster-replica", "+psync +replconf +ping")],
        admin: vec![login("muster-admin")],
        replica: login("muster-replica"),
    };
    let tls = muster_proto::InstanceTls::Issued { ca_pem: "the authority".into(), issuer: hash };
    let secured = ClusterAssignment { users: Some(users), tls: Some(tls), ..cluster(V4, true, &[]) };
    let (plain, whole) = (cluster(V4, true, &[]), "/var/lib/muster/7000");
    let without = conf("redis 7.0.15", &plain, whole);
    let with = conf("redis 7.0.15", &secured, whole);
    let added: Vec<_> = with.lines().filter(|line| !line.is_empty() && !without.contains(line)).collect();
    expect![[r##"
        port 0
        tls-port 7000
        # TLS for clients, for replicas and on the bus.
        tls-cluster yes
        tls-replication yes
        tls-auth-clients optional
        tls-protocols "TLSv1.2 TLSv1.3"
        tls-cert-file /var/lib/muster/7000/tls.crt
        tls-key-file /var/lib/muster/7000/tls.key
        tls-ca-cert-file /var/lib/muster/7000/ca.crt
        # Who may log in, by the hashes of their passwords; and as whom this one logs in to its master.
        aclfile /var/lib/muster/7000/users.acl
        masteruser muster-replica
        masterauth s-e_1"##]]
    .assert_eq(&added.join("\n"));

    let key = muster_proto::pki::Key::generate().unwrap();
    let certified = crate::certify::Certified::of("the certificate".into(), &key, "");
    let version = "redis 7.0.15".parse().unwrap();
    let (files, live) = access(version, &secured, Path::new(whole), Some(&certified)).unwrap();
    let texts: Vec<_> = files.iter().map(|file| (file.name, file.mode, file.text.expose().to_owned())).collect();
    let acl =
        format!("user default on #{hash} ~* &* +@all -@admin\nuser muster-replica on #{hash} +psync +replconf +ping\n");
    assert_eq!(texts[0], ("users.acl", 0o640, acl));
    assert_eq!(texts[1..].iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["tls.crt", "tls.key", "ca.crt"]);
    assert_eq!(live.unwrap().adjustments.len(), 3);
    // Without a certificate nothing is written; without ACLs nothing is started.
    assert!(matches!(access(version, &secured, Path::new(whole), None), Err(AccessError::NoCertificate(_))));
    let old = access("redis 5.0.14".parse().unwrap(), &secured, Path::new(whole), None);
    assert!(matches!(old, Err(AccessError::NoUsers(_))));
}
