//! Whole servers under their own systemd, with Muster installed as the README says: units, scopes and limits, agents
//! that come and go, kills, power-offs and pulled cables.
//!
//! `make test-machines` makes the tree that they boot from, and runs these; they take root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, ops::RangeInclusive, time::Instant};

use muster_tests::{
    Machine, Site, eventually,
    site::{HOSTS, Lives, SOON, instance_dir, put_program},
};

const AGENT: &str = "muster-agent.service";
const BOTH: [&str; 2] = ["server1", "server2"];
/// More than these servers need, and less than a test can make them want.
const LIMITS: &str = "memory = \"96MiB\"\ncpus = 1.5";

fn ports(host: &str) -> RangeInclusive<u16> {
    if host == "server1" { 7000..=7002 } else { 7003..=7005 }
}

fn scope(port: u16) -> String {
    format!("muster-{port}.scope")
}

/// What the kernel keeps a scope's memory to, in bytes: by the old controller, or by the unified hierarchy.
fn memory_limit(machine: &Machine, scope: &str) -> String {
    let path = machine.property(scope, "ControlGroup");
    machine.shell(&format!(
        "cd /sys/fs/cgroup; cat memory{path}/memory.limit_in_bytes 2>/dev/null || cat .{path}/memory.max"
    ))
}

fn main_pid(machine: &Machine) -> i32 {
    machine.property(AGENT, "MainPID").parse().unwrap()
}

/// Another agent process than that one is up, and has found its servers.
#[track_caller]
fn until_another(site: &Site, host: &str, before: i32) {
    let machine = site.on(host);
    eventually(SOON, "another agent is up", || {
        let (pid, state) = (main_pid(machine), machine.property(AGENT, "ActiveState"));
        if pid != before && pid > 0 && state == "active" { Ok(()) } else { Err(format!("{state}, pid {pid}")) }
    });
    site.until_host(host, "live");
    site.until_well();
}

/// All that a server has written into its log.
fn log(machine: &Machine, port: u16) -> String {
    fs::read_to_string(instance_dir(machine, port).join("redis.log")).unwrap()
}

/// What stands below the last start in a log.
fn last_run(log: &str) -> &str {
    log.rsplit("oO0OoO0OoO0Oo Redis is starting").next().unwrap_or_default()
}

/// It was told to stop, saved, and left.
fn left_cleanly(log: &str) -> Result<(), String> {
    let run = last_run(log);
    let words =
        ["Received SIGTERM", "User requested shutdown", "DB saved on disk", "Redis is now ready to exit, bye bye"];
    match words.into_iter().find(|words| !run.contains(words)) {
        None => Ok(()),
        Some(missing) => Err(format!("no {missing:?} in:\n{run}")),
    }
}

fn write_keys(site: &Site, count: usize) {
    let first = site.status().unwrap().instances[0].clone();
    for nth in 0..count {
        site.client("server1", &first, &["set", &format!("key{nth}"), &format!("value{nth}")]).unwrap();
    }
}

#[track_caller]
fn until_keys(site: &Site, count: usize) {
    let first = site.status().unwrap().instances[0].clone();
    for nth in 0..count {
        eventually(SOON, "a key is there", || {
            let said = site.client("server1", &first, &["get", &format!("key{nth}")])?;
            if said == format!("value{nth}") { Ok(()) } else { Err(said) }
        });
    }
}

fn of_host(lives: &Lives, host: &str) -> Lives {
    lives.iter().filter(|(name, _)| name.starts_with(host)).map(|(name, life)| (name.clone(), life.clone())).collect()
}

#[test]
#[ignore = "boots whole servers: make test-machines"]
fn every_server_lives_in_a_scope_of_its_own_and_its_agent_comes_and_goes() {
    let site = Site::formed(LIMITS);
    let status = site.until_well();
    let check = site.on("server2").said(&["redis-cli", "--cluster", "check", "192.168.1.198:7000"]);
    assert!(check.contains("[OK] All 16384 slots covered."), "{check}");
    for (host, _) in HOSTS {
        let machine = site.on(host);
        for port in ports(host) {
            let (scope, pid) = (scope(port), status.at(host, port).pid.unwrap());
            eventually(SOON, "it is in its scope", || {
                let cgroup = machine.said(&["cat", &format!("/proc/{pid}/cgroup")]);
                let within = cgroup.contains(&format!("/system.slice/system-muster.slice/{scope}"));
                if within { Ok(()) } else { Err(cgroup) }
            });
            for (property, value) in [
                ("ActiveState", "active"),
                ("MemoryMax", "100663296"),
                ("MemorySwapMax", "0"),
                ("CPUQuotaPerSecUSec", "1.500000s"),
                ("TimeoutStopUSec", "15s"),
                ("OOMPolicy", "continue"),
                ("Slice", "system-muster.slice"),
            ] {
                assert_eq!(machine.property(&scope, property), value, "{property} of {scope}");
            }
            assert!(machine.property(&scope, "Before").contains(AGENT));
            assert_eq!(memory_limit(machine, &scope), "100663296");
        }
        let cgroup = machine.property(AGENT, "ControlGroup");
        let alone = machine.shell(&format!(
            "cat /sys/fs/cgroup/systemd{cgroup}/cgroup.procs || cat /sys/fs/cgroup{cgroup}/cgroup.procs"
        ));
        assert_eq!(alone, main_pid(machine).to_string(), "the agent's cgroup holds more than the agent");
    }

    let lives = site.lives();
    let machine = site.on("server1");
    let agent = main_pid(machine);
    machine.shell(&format!("kill -KILL {agent}"));
    until_another(&site, "server1", agent);
    assert_eq!(site.lives(), lives, "after kill -9 of the agent");

    let agent = main_pid(machine);
    machine.said(&["systemctl", "restart", AGENT]);
    until_another(&site, "server1", agent);
    assert_eq!(site.lives(), lives, "after a restart of the agent");

    let (agent, file) = (main_pid(machine), machine.shell("stat -c %i /usr/bin/muster-agent"));
    put_program(machine, "muster-agent");
    machine.said(&["systemctl", "restart", AGENT]);
    until_another(&site, "server1", agent);
    let now = machine.shell(&format!("stat -L -c %i /proc/{}/exe", main_pid(machine)));
    assert_ne!(now, file, "the old agent still runs");
    assert_eq!(site.lives(), lives, "after an upgrade of the agent");

    machine.said(&["systemctl", "stop", AGENT]);
    site.until_host("server1", "unknown");
    assert_eq!(site.lives(), lives, "while the agent is stopped");
    machine.said(&["systemctl", "start", AGENT]);
    site.until_host("server1", "live");
    site.until_well();
    assert_eq!(site.lives(), lives, "after the agent was stopped and started");

    machine.said(&["systemctl", "reload", AGENT]);
    eventually(SOON, "the agent has read its config again", || {
        let said = machine.said(&["journalctl", "--no-pager", "-u", AGENT]);
        if said.contains("read the config again") { Ok(()) } else { Err(said) }
    });

    // A loop that hangs does not feed the watchdog.
    machine.shell(
        "mkdir -p /etc/systemd/system/muster-agent.service.d && printf '[Service]\\nWatchdogSec=3s\\n' \
         >/etc/systemd/system/muster-agent.service.d/watchdog.conf && systemctl daemon-reload && \
         systemctl restart muster-agent",
    );
    site.until_host("server1", "live");
    let agent = main_pid(machine);
    machine.shell(&format!("kill -STOP {agent}"));
    until_another(&site, "server1", agent);
    assert!(machine.said(&["journalctl", "--no-pager", "-u", AGENT]).contains("Watchdog timeout"));
    assert_eq!(site.lives(), lives, "after the watchdog has bitten the agent");

    // Muster is taken away; the servers are not.
    let machine = site.on("server2");
    machine.shell(
        "systemctl disable --quiet --now muster-agent && rm /usr/bin/muster-agent \
         /etc/systemd/system/muster-agent.service && systemctl daemon-reload",
    );
    site.until_host("server2", "unknown");
    assert_eq!(site.lives(), lives, "after Muster was removed");
    machine.shell("systemctl stop 'muster-*.scope'");
    for port in ports("server2") {
        left_cleanly(&log(machine, port)).unwrap();
    }
    assert_eq!(of_host(&lives, "server1"), site.lives_on("server1").unwrap());
}

#[test]
#[ignore = "boots whole servers: make test-machines"]
fn a_server_over_its_limit_is_killed_and_said_and_one_whose_scope_is_stopped_comes_back() {
    let site = Site::formed(LIMITS);
    site.until_well();
    let (machine, before) = (site.on("server1"), site.lives());
    let agent = main_pid(machine);

    // 7000 has the slots from 0 on. One write that wants more memory than there is.
    let key = (0..100).map(|nth| format!("big{nth}")).find(|key| {
        let slot = site.redis("server1", 7000, &["cluster", "keyslot", key]).unwrap();
        slot.parse::<u16>().unwrap() < 5000
    });
    let written = site.redis("server1", 7000, &["setrange", &key.unwrap(), "200000000", "x"]);
    assert!(written.is_err(), "{written:?}");
    eventually(SOON, "the server is back", || {
        let lives = site.lives_on("server1")?;
        if lives["server1:7000"] == before["server1:7000"] { Err(format!("{lives:?}")) } else { Ok(()) }
    });
    let events = site.muster(&["events", "orders"]);
    assert!(events.contains("killed by the kernel, at its limit of 96MiB of memory"), "{events}");
    site.until_well();
    assert_eq!(memory_limit(machine, &scope(7000)), "100663296", "the new one has a scope too");
    assert_eq!(main_pid(machine), agent, "the agent was killed too");

    let before = site.lives();
    machine.said(&["systemctl", "stop", &scope(7001)]);
    eventually(SOON, "the server is back", || {
        let lives = site.lives_on("server1")?;
        if lives["server1:7001"] == before["server1:7001"] { Err(format!("{lives:?}")) } else { Ok(()) }
    });
    let log = log(machine, 7001);
    let (earlier, _) = log.rsplit_once("oO0OoO0OoO0Oo Redis is starting").unwrap();
    left_cleanly(earlier).unwrap();
    site.until_well();
    eventually(SOON, "it has a scope again", || match machine.property(&scope(7001), "ActiveState").as_str() {
        "active" => Ok(()),
        other => Err(other.to_owned()),
    });

    // The scope of one that was killed is in the way of its successor's until systemd has noticed.
    let pid = site.lives_on("server1").unwrap()["server1:7002"].0;
    let killed = Instant::now();
    machine.shell(&format!("kill -KILL {pid}"));
    eventually(SOON, "its successor has a scope", || {
        let now = site.lives_on("server1")?["server1:7002"].0;
        let cgroup = machine.said(&["cat", &format!("/proc/{now}/cgroup")]);
        if now != pid && cgroup.contains(&scope(7002)) { Ok(()) } else { Err(format!("{now}: {cgroup}")) }
    });
    println!("from kill -9 of a server to its successor in a scope: {:?}, with what looking costs", killed.elapsed());
    assert_eq!(of_host(&before, "server2"), site.lives_on("server2").unwrap());
    assert_eq!(main_pid(machine), agent);
}

#[test]
#[ignore = "boots whole servers: make test-machines"]
fn a_server_that_can_have_no_scope_runs_all_the_same_and_is_moved_when_it_can() {
    let site = Site::formed(LIMITS);
    let status = site.until_well();
    let machine = site.on("server1");
    machine.shell("systemctl stop dbus.socket dbus.service");
    let pid = status.at("server1", 7002).pid.unwrap();
    machine.shell(&format!("kill -KILL {pid}"));
    eventually(SOON, "status says why it is out of its scope", || {
        let said = site.on("server1").run(&["muster", "status", "orders"]).stdout;
        if said.contains("OUT_OF_SCOPE") && said.contains("muster-7002.scope") { Ok(()) } else { Err(said) }
    });
    let status = site.status().unwrap();
    status.well().unwrap();
    let (lives, pid) = (site.lives(), status.at("server1", 7002).pid.unwrap());
    let cgroup = || machine.said(&["cat", &format!("/proc/{pid}/cgroup")]);
    assert!(cgroup().contains("/system.slice/muster-agent.service"), "{}", cgroup());
    machine.shell("systemctl start dbus.socket dbus.service");
    site.until_well();
    assert!(cgroup().contains("/system.slice/system-muster.slice/muster-7002.scope"), "{}", cgroup());
    assert_eq!(site.lives(), lives, "it was moved, and not started anew");
}

#[test]
#[ignore = "boots whole servers: make test-machines"]
fn servers_save_and_leave_when_their_machine_is_switched_off_and_are_there_when_it_is_on_again() {
    let mut site = Site::formed("");
    site.until_well();
    write_keys(&site, 50);
    let before = site.lives();

    site.on("server2").switch_off();
    site.power("server2").until_off();
    for port in ports("server2") {
        left_cleanly(&log(site.on("server2"), port)).unwrap();
    }
    site.until_host("server2", "unknown");
    assert_eq!(site.lives_on("server1").unwrap(), of_host(&before, "server1"));
    site.power("server2").switch_on();
    site.power("server2").until_up();
    site.until_well();
    until_keys(&site, 50);
    assert_eq!(site.lives_on("server1").unwrap(), of_host(&before, "server1"));

    // Everything at once, the coordinator too.
    BOTH.iter().for_each(|host| site.on(host).switch_off());
    for host in BOTH {
        site.power(host).until_off();
        for port in ports(host) {
            left_cleanly(&log(site.on(host), port)).unwrap();
        }
    }
    BOTH.into_iter().for_each(|host| site.power(host).switch_on());
    BOTH.into_iter().for_each(|host| site.power(host).until_up());
    eventually(SOON, "the coordinator is back", || site.status().map(|_| ()));
    site.until_well();
    until_keys(&site, 50);
    site.muster(&["check", "orders"]);
    for (host, _) in HOSTS {
        for port in ports(host) {
            eventually(SOON, "it has a scope again", || {
                match site.on(host).property(&scope(port), "ActiveState").as_str() {
                    "active" => Ok(()),
                    other => Err(format!("{host}:{port}: {other}")),
                }
            });
        }
    }
}

#[test]
#[ignore = "boots whole servers: make test-machines"]
fn a_pulled_cable_stops_nothing_and_is_over_when_it_is_plugged_in() {
    let site = Site::formed("");
    site.until_well();
    write_keys(&site, 50);
    let before = site.lives();
    for pulled in BOTH {
        site.network.unplug(pulled);
        // The coordinator lives on server1: whichever end is pulled, it is server2 that it does not hear.
        site.until_host("server2", "unknown");
        site.until_host("server1", "live");
        assert_eq!(site.lives(), before, "{pulled} is cut off");
        site.network.plug(pulled);
        site.until_host("server2", "live");
        site.until_well();
        until_keys(&site, 50);
        assert_eq!(site.lives(), before, "{pulled} is back");
    }
}
