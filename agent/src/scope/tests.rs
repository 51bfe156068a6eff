//! Whose agent it is, where a server is, and what systemd is asked for.

use expect_test::{Expect, expect};

use super::*;

/// As /proc/PID/cgroup shows it under the unified hierarchy, and beside the old controllers.
fn both(path: &str) -> [String; 2] {
    [
        format!("0::{path}\n"),
        format!("9:name=systemd:{path}\n4:memory:{path}\n3:cpu,cpuacct:/elsewhere\n0::/other.scope\n"),
    ]
}

#[test]
fn only_a_service_of_the_machine_gives_scopes() {
    let table = [
        ("/system.slice/muster-agent.service", Some("muster-agent.service")),
        ("/system.slice/system-muster.slice/muster-agent@two.service", Some("muster-agent@two.service")),
        ("/muster.service", Some("muster.service")),
        ("/user.slice/user-0.slice/session-3.scope", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/muster-agent.service", None),
        ("/user.slice/user-1000.slice/user@1000.service", None),
        ("/system.slice/docker-0123.scope", None),
        ("/init.scope", None),
        ("/", None),
        ("", None),
    ];
    for (path, unit) in table {
        let expected = unit.map_or(Manager::Other, |unit| Manager::Systemd(unit.to_owned()));
        for cgroup in both(path) {
            assert_eq!(Manager::of(&cgroup), expected, "{cgroup}");
        }
    }
    assert_eq!(Manager::of(""), Manager::Other);
}

#[test]
fn a_server_is_where_the_kernel_says() {
    let scope = "muster-7000.scope";
    let table = [
        ("/system.slice/system-muster.slice/muster-7000.scope", true),
        ("/muster-7000.scope/deeper", true),
        ("/system.slice/system-muster.slice/muster-70001.scope", false),
        ("/system.slice/muster-agent.service", false),
        ("/", false),
    ];
    for (path, expected) in table {
        for cgroup in both(path) {
            assert_eq!(is_in(&cgroup, scope), expected, "{cgroup}");
        }
    }
    assert!(!is_in("", scope) && !is_in("nonsense", scope));
}

#[test]
fn kills_are_counted_where_the_memory_controller_is() {
    let [unified, old] = both("/system.slice/muster-7000.scope");
    assert_eq!(oom_file(&unified).unwrap(), "system.slice/muster-7000.scope/memory.events");
    assert_eq!(oom_file(&old).unwrap(), "memory/system.slice/muster-7000.scope/memory.oom_control");
    assert_eq!(oom_file("").as_deref(), None);
    assert_eq!(oom_kills("low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
    assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
    assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\n"), None);
}

#[test]
fn names_tell_ports_and_base_directories_apart() {
    let name = |base: &str, port: u16| name(Path::new(base), Port::try_from(u32::from(port)).unwrap());
    assert_eq!(name("/var/lib/muster", 7000), "muster-7000.scope");
    assert_eq!(name("/data/muster", 7000), "muster-data-muster-7000.scope");
    assert_eq!(name("/data/my redis-1/", 7001), "muster-data-my\\x20redis\\x2d1-7001.scope");
}

fn wish(limits: Limits) -> Wish {
    Wish {
        name: "muster-7000.scope".into(),
        agent: "muster-agent.service".into(),
        pid: 4711,
        description: "redis-server 7000 of orders".into(),
        dir: "/var/lib/muster/7000".into(),
        patience: Duration::from_secs(15),
        limits,
    }
}

fn check(limits: Limits, newer: bool, expected: Expect) {
    let words = request(&wish(limits), newer);
    let at = words.iter().position(|word| word == "StartTransientUnit").unwrap();
    expected.assert_eq(&words[at..].join(" "));
}

#[test]
fn systemd_is_asked_for_a_scope_with_what_the_spec_says() {
    check(
        Limits::default(),
        true,
        expect![
            "StartTransientUnit ssa(sv)a(sa(sv)) muster-7000.scope fail 9 Description s redis-server 7000 of orders PIDs au 1 4711 Slice s system-muster.slice Before as 1 muster-agent.service After as 1 network.target RequiresMountsFor as 1 /var/lib/muster/7000 TimeoutStopUSec t 15000000 CollectMode s inactive-or-failed OOMPolicy s continue 0"
        ],
    );
    let limits = Limits { memory: "1GiB".parse().ok(), cpus: muster_proto::Cpus::new(150).ok() };
    check(
        limits,
        false,
        expect![
            "StartTransientUnit ssa(sv)a(sa(sv)) muster-7000.scope fail 11 Description s redis-server 7000 of orders PIDs au 1 4711 Slice s system-muster.slice Before as 1 muster-agent.service After as 1 network.target RequiresMountsFor as 1 /var/lib/muster/7000 TimeoutStopUSec t 15000000 CollectMode s inactive-or-failed MemoryMax t 1073741824 MemorySwapMax t 0 CPUQuotaPerSecUSec t 1500000 0"
        ],
    );
}

#[test]
fn every_property_has_its_why() {
    let limits = Limits { memory: "1GiB".parse().ok(), cpus: muster_proto::Cpus::new(150).ok() };
    let words = request(&wish(limits), true).join(" ");
    let table = include_str!("table.md");
    let quoted: Vec<_> = table.split('`').skip(1).step_by(2).filter_map(|word| word.split('=').next()).collect();
    let signature = |word: &&str| matches!(*word, "s" | "t" | "as" | "au");
    let all: Vec<_> = words.split(' ').collect();
    let names: Vec<_> = all.windows(2).filter(|pair| signature(&pair[1])).map(|pair| pair[0]).collect();
    assert_eq!(names.len(), 12, "{names:?}");
    let unexplained: Vec<_> = names.iter().filter(|name| **name != "Description" && !quoted.contains(name)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?} stand not in {quoted:?}");
}

#[test]
fn failures_are_tried_again_soon_and_then_every_minute() {
    let pauses: Vec<_> = (1..=7).map(|failures| pause(failures).as_millis()).collect();
    assert_eq!(pauses, [100, 400, 1600, 6400, 25_600, 60_000, 60_000]);
    let before: Duration = (1..PATIENCE).map(pause).sum();
    assert!(before < Duration::from_secs(3), "an operator hears of it after {before:?}");
}
