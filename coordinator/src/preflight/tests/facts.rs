//! Every fact of a host in turn: a fleet where all is well, and each way in which it is not.

use expect_test::{Expect, expect};

use muster_proto::{PortSet, ports::DEFAULT_BUS_OFFSET};

use super::super::*;
use crate::{render, samples::spec};

type Facts = BTreeMap<HostName, Answer>;

fn name(host: &str) -> HostName {
    host.parse().unwrap()
}

fn kernel() -> wire::KernelFacts {
    wire::KernelFacts {
        overcommit_memory: 1,
        somaxconn: 4096,
        transparent_hugepage: "madvise".into(),
        ephemeral_first: 32768,
        ephemeral_last: 60999,
        reserved_ports: String::new(),
        memory_bytes: 1 << 34,
        open_files: 1 << 20,
        swappiness: 10,
        memory_available_bytes: 0,
        scopes: true,
    }
}

fn well(ports: &PortSet, address: &str) -> Answer {
    let fact = |port: Port| wire::PortFact {
        port: port.into(),
        directory: wire::Directory::Free.into(),
        path: format!("/var/lib/muster/{port}"),
        ..Default::default()
    };
    let survey = wire::SurveyResult {
        server: Some(wire::Server { path: "/r".into(), flavour: "redis".into(), version: "7.0.15".into() }),
        ports: ports.iter().map(fact).collect(),
        kernel: Some(kernel()),
        disk_free_bytes: 1 << 40,
        ..Default::default()
    };
    Answer { survey: Ok(survey), skew_ms: 3, reach: Ok(Vec::new()), address: address.into() }
}

fn facts() -> Facts {
    let addresses = ["10.0.0.1", "10.0.0.2"];
    let hosts = spec().parts().hosts.clone().into_iter().zip(addresses);
    hosts.map(|(host, address)| (host.name, well(&host.ports, address))).collect()
}

fn found(answers: &Facts) -> String {
    found_for(&spec(), answers)
}

fn found_for(spec: &Spec, answers: &Facts) -> String {
    let offered = spec.parts().hosts.iter().map(|host| (host.name.clone(), host.ports.iter().collect())).collect();
    let findings: Vec<_> =
        judge(spec, answers, &offered, &Bars::new(), DEFAULT_BUS_OFFSET).into_iter().map(wire::Finding::from).collect();
    render::finding::text(&findings)
}

/// Changes what server1 has answered.
fn check(change: impl FnOnce(&mut Answer), expected: Expect) {
    let mut answers = facts();
    change(answers.get_mut(&name("server1")).unwrap());
    expected.assert_eq(&found(&answers));
}

/// Changes what server1 has seen of itself.
fn survey(change: impl FnOnce(&mut wire::SurveyResult), expected: Expect) {
    check(|answer| change(answer.survey.as_mut().unwrap()), expected);
}

/// Changes what server1 has seen of its first port.
fn port(change: impl FnOnce(&mut wire::PortFact), expected: Expect) {
    survey(|survey| change(&mut survey.ports[0]), expected);
}

fn directory(directory: wire::Directory, note: &str, expected: Expect) {
    port(
        |port| {
            port.directory = directory.into();
            port.directory_note = note.into();
        },
        expected,
    );
}

#[test]
fn where_all_is_well_nothing_is_found() {
    assert_eq!(found(&facts()), "");
}

#[test]
fn a_host_that_does_not_answer_is_named_once() {
    check(
        |answer| (answer.survey, answer.reach) = (Err("no answer within 8 s".into()), Err("not asked".into())),
        expect![[r#"
            [FATAL] HOST_SILENT: server1 agent: the agent did not answer: no answer within 8 s
                    cure: on server1: systemctl status muster-agent
        "#]],
    );
    check(
        |answer| answer.reach = Err("its stream has ended".into()),
        expect![[r#"
            [FATAL] HOST_SILENT: server1 agent: the agent did not answer: its stream has ended
                    cure: on server1: systemctl status muster-agent
        "#]],
    );
}

#[test]
fn ports_that_cannot_be_had() {
    port(
        |port| {
            port.client_error = "address already in use".into();
            port.client_holder = "pid 4711 (redis-server *:7000)".into();
        },
        expect![[r#"
            [FATAL] PORT_TAKEN: server1 port 7000: client port 7000 cannot be bound: address already in use, held by pid 4711 (redis-server *:7000)
                    cure: on server1: stop what listens there (ss -ltnp 'sport = :7000'), or choose another port
        "#]],
    );
    port(
        |port| port.bus_error = "address already in use".into(),
        expect![[r#"
        [FATAL] BUS_PORT_TAKEN: server1 port 17000: bus port 17000 cannot be bound: address already in use
                cure: on server1: stop what listens there (ss -ltnp 'sport = :17000'), or choose another port
    "#]],
    );
    port(
        |port| port.client_error = "cannot assign requested address".into(),
        expect![[r#"
            [FATAL] ADDRESS_NOT_LOCAL: server1 address: 10.0.0.1 is not on this machine: cannot assign requested address
                    cure: on server1: correct `address` in the agent's config (ip address) and restart muster-agent
        "#]],
    );
    let spec = spec();
    let offered = [(name("server1"), BTreeSet::new()), (name("server2"), spec.parts().hosts[1].ports.iter().collect())];
    let findings = judge(&spec, &facts(), &offered.into(), &Bars::new(), DEFAULT_BUS_OFFSET);
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["PORT_NOT_OFFERED"; 3]);
}

#[test]
fn directories_that_are_not_free() {
    directory(
        wire::Directory::Stamped,
        "carts",
        expect![[r#"
        [FATAL] DIRECTORY_TAKEN: server1 /var/lib/muster/7000: /var/lib/muster/7000 belongs to cluster carts
                cure: choose another port, or look at: muster status
    "#]],
    );
    directory(
        wire::Directory::Foreign,
        "dump.rdb, and no stamp of Muster",
        expect![[r#"
        [FATAL] DIRECTORY_FOREIGN: server1 /var/lib/muster/7000: /var/lib/muster/7000 is not ours (dump.rdb, and no stamp of Muster); it is never touched
                cure: on server1: move it away (mv /var/lib/muster/7000 /var/lib/muster/7000.old), or choose another port
    "#]],
    );
    directory(
        wire::Directory::Unreadable,
        "input/output error",
        expect![[r#"
        [FATAL] DIRECTORY_UNREADABLE: server1 /var/lib/muster/7000: cannot tell whose /var/lib/muster/7000 is: input/output error
                cure: on server1: look at /var/lib/muster/7000
    "#]],
    );
    directory(
        wire::Directory::Unspecified,
        "",
        expect![[r#"
        [FATAL] DIRECTORY_UNREADABLE: server1 /var/lib/muster/7000: cannot tell whose /var/lib/muster/7000 is: 
                cure: on server1: look at /var/lib/muster/7000
    "#]],
    );
}

#[test]
fn servers_that_cannot_have_users_or_speak_tls() {
    survey(
        |survey| survey.auth_error = "unknown command 'ACL'".into(),
        expect![[r#"
            [FATAL] AUTH_UNSUPPORTED: server1 auth: the server cannot have the spec's users: unknown command 'ACL'
                    cure: users need Redis 6.0 or newer, or Valkey; change [acl], or ask for an open cluster: auth = "none"
        "#]],
    );
    survey(
        |survey| survey.tls_error = "Bad directive: tls-port".into(),
        expect![[r#"
            [FATAL] TLS_UNSUPPORTED: server1 tls: the server cannot speak the spec's TLS: Bad directive: tls-port
                    cure: on server1: install a server that is built with TLS (redis-server --tls-port 0 --port 0 says so), look at the files of [tls], or write tls = false
        "#]],
    );
}

#[test]
fn servers_that_cannot_be_used() {
    survey(
        |survey| {
            survey.server = None;
            survey.server_error = "no redis-server and no valkey-server on the PATH".into();
        },
        expect![[r#"
            [FATAL] SERVER_MISSING: server1 redis-server: no redis-server and no valkey-server on the PATH
                    cure: on server1: apt-get install redis-server, or set redis_server in the agent's config
        "#]],
    );
    survey(
        |survey| survey.server.as_mut().unwrap().version = "9.9.0".into(),
        expect![[r#"
        [FATAL] SERVER_UNKNOWN: server1 /r: redis 9.9.0 writes a nodes.conf that this version does not know
                cure: install Redis 4.0 to 8.x or Valkey 7.2 to 9.1, or a newer Muster
        [FATAL] SERVER_VERSIONS_DIFFER: redis-server: the hosts do not run the same server: redis 7.0.15 on server2; redis 9.9.0 on server1
                cure: install the same version on all hosts
    "#]],
    );
    survey(
        |survey| survey.server.as_mut().unwrap().version = "6.2.7".into(),
        expect![[r#"
        [FATAL] SERVER_VERSIONS_DIFFER: redis-server: the hosts do not run the same server: redis 6.2.7 on server1; redis 7.0.15 on server2
                cure: install the same version on all hosts
    "#]],
    );
    survey(
        |survey| survey.settings_error = "Unrecognized option 'appendonlyy'".into(),
        expect![[r#"
        [FATAL] SETTINGS_REFUSED: server1 redis.config: the server refuses a setting: Unrecognized option 'appendonlyy'
                cure: change [redis.config] in the spec
    "#]],
    );
}

#[test]
fn disks_that_are_full_or_nearly_so() {
    survey(
        |survey| survey.disk_error = "cannot write below /var/lib/muster: no space left on device".into(),
        expect![[r#"
            [FATAL] DISK_UNWRITABLE: server1 base_dir: cannot write below /var/lib/muster: no space left on device
                    cure: make room, or mount it writable, or set another base_dir in the agent's config
        "#]],
    );
    survey(
        |survey| survey.disk_free_bytes = 100 << 20,
        expect![[r#"
        [WARN]  DISK_LOW: server1 base_dir: only 100 MiB are free
                cure: make room
    "#]],
    );
    survey(|survey| survey.disk_free_bytes = 1 << 30, expect![""]);
}

#[test]
fn a_pair_that_cannot_talk_is_named_with_both_ends() {
    let target = |bus| wire::Target { host: "server2".into(), address: "10.0.0.2".into(), port: 17003, bus };
    let blocked = |bus| vec![wire::Unreached { target: Some(target(bus)), error: "timed out after 3s".into() }];
    check(
        |answer| answer.reach = Ok(blocked(true)),
        expect![[r#"
            [FATAL] UNREACHABLE: server1 10.0.0.2:17003: server1 10.0.0.1 cannot reach 10.0.0.2:17003 (bus port of server2): timed out after 3s
                    cure: look for a firewall (nft list ruleset) or a missing route (ip route get 10.0.0.2 from 10.0.0.1) on server1, on server2 and between them
        "#]],
    );
    check(
        |answer| answer.reach = Ok(blocked(false)),
        expect![[r#"
            [FATAL] UNREACHABLE: server1 10.0.0.2:17003: server1 10.0.0.1 cannot reach 10.0.0.2:17003 (client port of server2): timed out after 3s
                    cure: look for a firewall (nft list ruleset) or a missing route (ip route get 10.0.0.2 from 10.0.0.1) on server1, on server2 and between them
        "#]],
    );
}

#[test]
fn clocks_and_kernel_settings_are_said_and_stop_nothing() {
    check(|answer| answer.skew_ms = 500, expect![""]);
    check(
        |answer| answer.skew_ms = -501,
        expect![[r#"
        [WARN]  CLOCK_SKEW: server1 clock: its clock differs from the coordinator's by -501 ms
                cure: on server1: timedatectl set-ntp true
    "#]],
    );
    survey(
        |survey| {
            let facts = survey.kernel.as_mut().unwrap();
            *facts = wire::KernelFacts { transparent_hugepage: "always".into(), ..Default::default() };
        },
        expect![[r#"
            [WARN]  HUGE_PAGES: server1 transparent_hugepage: transparent_hugepage is always: forks make latency spikes and cost memory
                    cure: on server1: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled
            [WARN]  OPEN_FILES: server1 RLIMIT_NOFILE: RLIMIT_NOFILE is 0: fewer than 10032 files lower the number of clients
                    cure: on server1: raise LimitNOFILE= of muster-agent.service
            [WARN]  OVERCOMMIT: server1 vm.overcommit_memory: vm.overcommit_memory is 0: a background save can fail for want of memory
                    cure: on server1: muster-agent tune --apply
            [WARN]  SOMAXCONN: server1 net.core.somaxconn: net.core.somaxconn is 0: a burst of clients beyond it is turned away
                    cure: on server1: muster-agent tune --apply
        "#]],
    );
    survey(|survey| survey.kernel = None, expect![""]);
}

#[test]
fn limits_that_nobody_enforces_are_said_where_there_are_any() {
    let mut answers = facts();
    let kernel = answers.get_mut(&name("server1")).unwrap().survey.as_mut().unwrap().kernel.as_mut().unwrap();
    kernel.scopes = false;
    assert_eq!(found(&answers), "");
    let mut parts = spec().parts().clone();
    parts.limits.cpus = muster_proto::Cpus::new(150).ok();
    expect![[r#"
        [WARN]  LIMITS_UNENFORCED: server1 limits: systemd does not run the agent here: nobody enforces the spec's limits, and the servers run without
                cure: on server1: run the agent as a unit (systemd/muster-agent.service), or take [limits] out
    "#]].assert_eq(&found_for(&Spec::new(parts).unwrap(), &answers));
}

#[test]
fn ports_of_the_ephemeral_range_are_warned_of_unless_reserved() {
    let range = |first, last, reserved: &'static str| {
        move |survey: &mut wire::SurveyResult| {
            let kernel = survey.kernel.as_mut().unwrap();
            (kernel.ephemeral_first, kernel.ephemeral_last, kernel.reserved_ports) = (first, last, reserved.into());
        }
    };
    survey(
        range(17001, 60999, ""),
        expect![[r#"
        [WARN]  PORT_EPHEMERAL: server1 ports 17001-17002: ports 17001-17002 lie in the kernel's ephemeral range 17001-60999: an outgoing connection may hold one when the server starts
                cure: client ports below 22768, or: sysctl net.ipv4.ip_local_reserved_ports=17001-17002
    "#]],
    );
    survey(range(17001, 60999, "8080,17001-17002"), expect![""]);
    survey(
        range(17001, 60999, "17001"),
        expect![[r#"
            [WARN]  PORT_EPHEMERAL: server1 ports 17002: ports 17002 lie in the kernel's ephemeral range 17001-60999: an outgoing connection may hold one when the server starts
                    cure: client ports below 22768, or: sysctl net.ipv4.ip_local_reserved_ports=17002
        "#]],
    );
    survey(range(1024, 6999, ""), expect![""]);
}

#[test]
fn the_worst_is_said_first_of_all_hosts() {
    let mut answers = facts();
    for answer in answers.values_mut() {
        answer.skew_ms = 900;
    }
    answers.get_mut(&name("server2")).unwrap().survey.as_mut().unwrap().disk_error = "read-only".into();
    expect![[r#"
        [FATAL] DISK_UNWRITABLE: server2 base_dir: read-only
                cure: make room, or mount it writable, or set another base_dir in the agent's config
        [WARN]  CLOCK_SKEW: server1 clock: its clock differs from the coordinator's by 900 ms
                cure: on server1: timedatectl set-ntp true
        [WARN]  CLOCK_SKEW: server2 clock: its clock differs from the coordinator's by 900 ms
                cure: on server2: timedatectl set-ntp true
    "#]]
    .assert_eq(&found(&answers));
    answers.clear();
    assert_eq!(found(&answers), "", "a host that was not asked is for those to say who did not ask");
}
